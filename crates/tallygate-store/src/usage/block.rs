//! Many records in few bytes, in the form that they are kept and read in.
//!
//! ```text
//! frame    "TGU1" · length u32 · CRC-32 u32 · payload           integers little-endian; both of the payload
//! payload  version · records · first time · last time - first
//!          texts: number, lengths, bytes                        every name and value once
//!          label sets: number, each a number of (name, value)   indices of texts
//!          kinds: number, each model, asked, upstream, limit, outcome, method
//!          columns: time since the record before · label set · kind · 11 numbers
//! ```
//! Numbers of the payload are varints. Records stand in the order of their times.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::Arc;

use super::column::{self, Column};
use super::record::{Call, Labels, Method, NUMBERS, Outcome, Record};
use super::rows::{Chunk, Rows};
use super::varint::{self, Reader};

/// The most records of one block.
pub const MAX_RECORDS: usize = 1 << 18;

/// What a frame begins with.
pub(super) const MAGIC: [u8; 4] = *b"TGU1";

/// Bytes of a frame before its payload.
pub(super) const HEAD: usize = 12;

const VERSION: u8 = 1;

/// The most bytes of a payload.
const MAX_PAYLOAD: usize = 1 << 28;

/// Why bytes are no block.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BlockError {
    /// They end before it does.
    #[error("the block is cut off")]
    Short,
    /// They are not what was written.
    #[error("the block is damaged")]
    Damaged,
    /// A later version wrote it.
    #[error("the block has format {0}, and this version reads {VERSION}")]
    Newer(u8),
}

/// Records as they are kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Block {
    bytes: Vec<u8>,
    records: usize,
    first: u64,
    last: u64,
}

impl Block {
    /// Writes `records`, of which there is at least one and no more than [`MAX_RECORDS`]; `None` otherwise.
    #[must_use]
    pub fn of(records: &[Record]) -> Option<Self> {
        let mut order: Vec<&Record> = records.iter().collect();
        order.sort_by_key(|record| record.time);
        let (first, last) = (order.first()?.time, order.last()?.time);
        if records.len() > MAX_RECORDS {
            return None;
        }
        let payload = Writer::default().write(&order);
        let mut bytes = Vec::with_capacity(HEAD + payload.len());
        bytes.extend_from_slice(&MAGIC);
        bytes.extend_from_slice(&u32::try_from(payload.len()).ok()?.to_le_bytes());
        bytes.extend_from_slice(&crc32fast::hash(&payload).to_le_bytes());
        bytes.extend_from_slice(&payload);
        Some(Self {
            bytes,
            records: records.len(),
            first,
            last,
        })
    }

    /// All of it, to be kept.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// How many records it has.
    #[must_use]
    pub fn records(&self) -> usize {
        self.records
    }

    /// The times of its first and its last record.
    #[must_use]
    pub fn times(&self) -> (u64, u64) {
        (self.first, self.last)
    }

    /// The same, to be read.
    #[must_use]
    pub fn view(&self) -> BlockView<'_> {
        let payload = self.bytes.get(HEAD..).unwrap_or_default();
        parse(payload).expect("invariant: `of` writes what `parse` reads")
    }
}

/// What is gathered to write a block.
#[derive(Default)]
struct Writer<'a> {
    texts: Index<&'a str>,
    sets: Index<&'a Labels>,
    kinds: Index<&'a Call>,
}

impl<'a> Writer<'a> {
    fn write(mut self, records: &[&'a Record]) -> Vec<u8> {
        let sets: Vec<u64> = records
            .iter()
            .map(|record| self.sets.place(&record.labels))
            .collect();
        let kinds: Vec<u64> = records
            .iter()
            .map(|record| self.kinds.place(&record.call))
            .collect();
        let dictionary = self.dictionary();
        let first = records.first().map_or(0, |record| record.time);
        let last = records.last().map_or(0, |record| record.time);
        let mut out = vec![VERSION];
        for number in [records.len() as u64, first, last.saturating_sub(first)] {
            varint::put(number, &mut out);
        }
        out.extend_from_slice(&dictionary);
        column::put(&steps(records, first), &mut out);
        column::put(&sets, &mut out);
        column::put(&kinds, &mut out);
        let numbers: Vec<[u64; NUMBERS]> = records.iter().map(|record| record.numbers()).collect();
        for place in 0..NUMBERS {
            let column: Vec<u64> = numbers.iter().map(|row| row[place]).collect();
            column::put(&column, &mut out);
        }
        out
    }

    /// Texts, label sets and kinds. The texts are known once the others are written.
    fn dictionary(&mut self) -> Vec<u8> {
        let mut after = Vec::new();
        varint::put(self.sets.items.len() as u64, &mut after);
        for labels in &self.sets.items {
            varint::put(labels.iter().count() as u64, &mut after);
            for text in labels.iter().flat_map(|(name, value)| [name, value]) {
                varint::put(self.texts.place(text), &mut after);
            }
        }
        varint::put(self.kinds.items.len() as u64, &mut after);
        for call in &self.kinds.items {
            for text in [&call.model, &call.asked, &call.upstream, &call.limit] {
                varint::put(self.texts.place(text), &mut after);
            }
            varint::put(place_in(&Outcome::ALL, &call.outcome), &mut after);
            varint::put(place_in(&Method::ALL, &call.method), &mut after);
        }
        let mut out = Vec::new();
        varint::put(self.texts.items.len() as u64, &mut out);
        for text in &self.texts.items {
            varint::put(text.len() as u64, &mut out);
        }
        for text in &self.texts.items {
            out.extend_from_slice(text.as_bytes());
        }
        out.extend_from_slice(&after);
        out
    }
}

/// The time of each record since the one before.
fn steps(records: &[&Record], first: u64) -> Vec<u64> {
    let mut before = first;
    let step = |record: &&Record| record.time - std::mem::replace(&mut before, record.time);
    records.iter().map(step).collect()
}

fn place_in<T: PartialEq>(all: &[T], one: &T) -> u64 {
    all.iter().position(|other| other == one).unwrap_or(0) as u64
}

/// Things in the order of their first appearance.
struct Index<T> {
    items: Vec<T>,
    places: HashMap<T, u64>,
}

impl<T> Default for Index<T> {
    fn default() -> Self {
        Self {
            items: Vec::new(),
            places: HashMap::new(),
        }
    }
}

impl<T: Copy + Eq + Hash> Index<T> {
    fn place(&mut self, item: T) -> u64 {
        let next = self.items.len() as u64;
        let place = *self.places.entry(item).or_insert(next);
        if place == next {
            self.items.push(item);
        }
        place
    }
}

/// A block where it stands, its dictionary read and its columns not yet.
#[derive(Debug)]
pub struct BlockView<'a> {
    /// How many records it has.
    pub(super) records: usize,
    /// The time of the first.
    pub(super) first: u64,
    /// The time of the last.
    pub(super) last: u64,
    pub(super) texts: Vec<&'a str>,
    /// (name, value) of each label set, one set after the other.
    pairs: Vec<(u32, u32)>,
    /// Where each label set ends in `pairs`.
    set_ends: Vec<usize>,
    pub(super) kinds: Vec<Kind>,
    /// The records, none of them read yet.
    pub(super) rows: Rows<'a>,
}

/// A [`Call`], its texts as indices.
#[derive(Debug, Clone, Copy)]
pub(super) struct Kind {
    pub(super) model: u32,
    pub(super) asked: u32,
    pub(super) upstream: u32,
    pub(super) limit: u32,
    pub(super) outcome: Outcome,
    pub(super) method: Method,
}

impl<'a> BlockView<'a> {
    /// Reads the block that `bytes` begin with, and gives how long it is.
    ///
    /// # Errors
    /// When there is none.
    pub fn read(bytes: &'a [u8]) -> Result<(Self, usize), BlockError> {
        let (head, rest) = bytes.split_at_checked(HEAD).ok_or(BlockError::Short)?;
        let word = |at: usize| {
            let word = head.get(at..at + 4).and_then(|word| word.try_into().ok());
            u32::from_le_bytes(word.unwrap_or_default())
        };
        let length = usize::try_from(word(4)).unwrap_or(usize::MAX);
        if head.get(..4) != Some(&MAGIC) || length > MAX_PAYLOAD {
            return Err(BlockError::Damaged);
        }
        let payload = rest.get(..length).ok_or(BlockError::Short)?;
        if crc32fast::hash(payload) != word(8) {
            return Err(BlockError::Damaged);
        }
        Ok((parse(payload)?, HEAD + length))
    }

    /// How many records it has.
    #[must_use]
    pub fn records(&self) -> usize {
        self.records
    }

    /// The times of its first and its last record.
    #[must_use]
    pub fn times(&self) -> (u64, u64) {
        (self.first, self.last)
    }

    /// How many label sets it has.
    pub(super) fn set_count(&self) -> usize {
        self.set_ends.len()
    }

    /// The (name, value) pairs of one label set, as indices of texts.
    pub(super) fn set(&self, place: usize) -> &[(u32, u32)] {
        let end = self.set_ends.get(place).copied().unwrap_or_default();
        let begin = place
            .checked_sub(1)
            .and_then(|before| self.set_ends.get(before));
        self.pairs
            .get(begin.copied().unwrap_or_default()..end)
            .unwrap_or_default()
    }

    pub(super) fn text(&self, place: u32) -> &'a str {
        let place = usize::try_from(place).unwrap_or(usize::MAX);
        self.texts.get(place).copied().unwrap_or_default()
    }

    /// All records, in the order of their times.
    ///
    /// # Errors
    /// When the block is not what it should be although its checksum is right.
    pub fn to_records(&self) -> Result<Vec<Record>, BlockError> {
        let labels: Vec<Labels> = (0..self.set_count()).map(|set| self.labels(set)).collect();
        let calls: Vec<Call> = self.kinds.iter().map(|kind| self.call(kind)).collect();
        let (mut rows, mut chunk) = (self.rows, Chunk::new());
        let mut records = Vec::new();
        loop {
            let count = rows.next(&mut chunk)?;
            if count == 0 {
                return Ok(records);
            }
            records.extend((0..count).map(|at| {
                let place = |place: u64| usize::try_from(place).unwrap_or_default();
                let set = labels[place(chunk.sets[at])].clone();
                let call = calls[place(chunk.kinds[at])].clone();
                Record::of((chunk.times[at], set, call), chunk.row(at))
            }));
        }
    }

    fn labels(&self, set: usize) -> Labels {
        let pairs = self.set(set).iter();
        Labels::new(pairs.map(|(name, value)| (self.text(*name), self.text(*value))))
    }

    fn call(&self, kind: &Kind) -> Call {
        let text = |place| Arc::from(self.text(place));
        Call {
            model: text(kind.model),
            asked: text(kind.asked),
            upstream: text(kind.upstream),
            limit: text(kind.limit),
            outcome: kind.outcome,
            method: kind.method,
        }
    }
}

fn parse(payload: &[u8]) -> Result<BlockView<'_>, BlockError> {
    match payload.first() {
        Some(&VERSION) => parse_known(payload).ok_or(BlockError::Damaged),
        Some(version) => Err(BlockError::Newer(*version)),
        None => Err(BlockError::Damaged),
    }
}

fn parse_known(payload: &[u8]) -> Option<BlockView<'_>> {
    let from = &mut Reader(payload.get(1..)?);
    let records = from.index(MAX_RECORDS)?;
    let first = from.varint()?;
    let last = first.checked_add(from.varint()?)?;
    let texts = texts(from)?;
    let (pairs, set_ends) = sets(from, texts.len())?;
    let kinds = kinds(from, texts.len())?;
    let (times, sets, kind) = (
        Column::find(from)?,
        Column::find(from)?,
        Column::find(from)?,
    );
    let mut numbers = [Column::Same(0); NUMBERS];
    for column in &mut numbers {
        *column = Column::find(from)?;
    }
    let rows = Rows {
        left: records,
        time: first,
        known: (set_ends.len() as u64, kinds.len() as u64),
        times,
        sets,
        kinds: kind,
        numbers,
    };
    from.0.is_empty().then_some(BlockView {
        records,
        first,
        last,
        texts,
        pairs,
        set_ends,
        kinds,
        rows,
    })
}

/// Counts are bounded by the bytes that are left, each item taking at least one.
fn texts<'a>(from: &mut Reader<'a>) -> Option<Vec<&'a str>> {
    let count = from.index(from.0.len())?;
    let mut lengths = Vec::with_capacity(count);
    for _ in 0..count {
        lengths.push(from.index(from.0.len())?);
    }
    let text = |length| std::str::from_utf8(from.bytes(length)?).ok();
    lengths.into_iter().map(text).collect()
}

type Sets = (Vec<(u32, u32)>, Vec<usize>);

fn sets(from: &mut Reader<'_>, texts: usize) -> Option<Sets> {
    let count = from.index(from.0.len())?;
    let (mut pairs, mut ends) = (Vec::new(), Vec::with_capacity(count));
    for _ in 0..count {
        for _ in 0..from.index(from.0.len())? {
            pairs.push((text(from, texts)?, text(from, texts)?));
        }
        ends.push(pairs.len());
    }
    Some((pairs, ends))
}

fn kinds(from: &mut Reader<'_>, texts: usize) -> Option<Vec<Kind>> {
    let count = from.index(from.0.len())?;
    let mut kinds = Vec::with_capacity(count);
    for _ in 0..count {
        kinds.push(Kind {
            model: text(from, texts)?,
            asked: text(from, texts)?,
            upstream: text(from, texts)?,
            limit: text(from, texts)?,
            outcome: *Outcome::ALL.get(from.index(Outcome::ALL.len())?)?,
            method: *Method::ALL.get(from.index(Method::ALL.len())?)?,
        });
    }
    Some(kinds)
}

/// The index of a text.
fn text(from: &mut Reader<'_>, texts: usize) -> Option<u32> {
    let place = from.index(texts.checked_sub(1)?)?;
    u32::try_from(place).ok()
}
