//! The journal: a header, then frames, each with its length and a checksum. A last frame that is not whole was never
//! acknowledged; one that is damaged between others is lost.
use super::entry::{self, Entry, Place};
use crate::pack::{Pack, Unpack};
use crate::redis::metrics::MetricNames;
use sha2::{Digest, Sha256};
use std::collections::{BTreeMap, HashMap};

/// What a journal begins with: its name and version.
pub(super) const HEADER: &[u8; 8] = b"TGKEPT02";

/// The same of the version before, whose metrics are all built in: of the user's own it had the place.
const EARLIER: &[u8; 8] = b"TGKEPT01";

/// The longest frame's content.
const LONGEST: u64 = 1024;

const KEPT: u8 = 1;
const DONE: u8 = 2;

/// One line of the journal.
pub(super) enum Frame {
    /// An entry came.
    Kept(Entry),
    /// That of this place went.
    Done(Place),
}

/// What a journal was found to say.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Found {
    /// What is to be delivered, the oldest first.
    pub(super) entries: Vec<Entry>,
    /// How much of it can go on being written to; none if it is to be written anew first.
    pub(super) length: Option<u64>,
    /// Damaged places; what was lost at each cannot be told.
    pub(super) lost: u64,
}

impl Frame {
    pub(super) fn write(&self, metrics: &MetricNames) -> Vec<u8> {
        let mut content = Vec::with_capacity(64);
        match self {
            Self::Kept(entry) => {
                content.push(KEPT);
                entry.write(metrics, &mut content);
            }
            Self::Done(place) => {
                content.push(DONE);
                entry::write_place(&mut content, place);
            }
        }
        let mut out = Vec::with_capacity(content.len() + 12);
        out.uint(content.len() as u64, 4);
        out.extend_from_slice(&checksum(&content));
        out.extend_from_slice(&content);
        out
    }

    fn read(bytes: &mut Unpack<'_>, metrics: &MetricNames) -> Option<Self> {
        let length = bytes.uint(4).filter(|length| *length <= LONGEST)?;
        let sum: [u8; 8] = bytes.array()?;
        let content = bytes.bytes(usize::try_from(length).ok()?)?;
        if checksum(content) != sum {
            return None;
        }
        let mut content = Unpack(content);
        match content.byte()? {
            KEPT => Entry::read(&mut content, metrics).map(Self::Kept),
            DONE => entry::read_place(&mut content).map(Self::Done),
            _ => None,
        }
    }
}

/// A journal of these entries and nothing else.
pub(super) fn whole<'a>(
    entries: impl Iterator<Item = &'a Entry>,
    metrics: &MetricNames,
) -> Vec<u8> {
    let mut out = HEADER.to_vec();
    for entry in entries {
        out.extend(Frame::Kept(*entry).write(metrics));
    }
    out
}

/// Reads a journal; nothing if it is none, or one of another version.
pub(super) fn read(raw: &[u8], metrics: &MetricNames) -> Option<Found> {
    // One that was being made when the machine went down.
    if raw.len() < HEADER.len() && HEADER.starts_with(raw) {
        return Some(Found::default());
    }
    let of_now = raw.strip_prefix(HEADER);
    let mut bytes = Unpack(of_now.or_else(|| raw.strip_prefix(EARLIER))?);
    let mut found = Replay {
        is_whole: of_now.is_some(),
        ..Replay::default()
    };
    while !bytes.is_empty() {
        let mut next = bytes;
        match Frame::read(&mut next, metrics) {
            Some(frame) => found.take(frame),
            None => {
                found.is_whole = false;
                let Some(at) = next_frame(bytes, metrics) else {
                    break;
                };
                found.lost += 1;
                next = Unpack(&bytes.0[at..]);
            }
        }
        bytes = next;
    }
    Some(Found {
        length: found.is_whole.then_some(raw.len() as u64),
        lost: found.lost,
        entries: found.entries.into_values().collect(),
    })
}

/// A journal as it is read.
struct Replay {
    places: HashMap<Place, u64>,
    entries: BTreeMap<u64, Entry>,
    last: u64,
    lost: u64,
    /// Whether all of it was good and is still of use.
    is_whole: bool,
}

impl Default for Replay {
    fn default() -> Self {
        Self {
            places: HashMap::new(),
            entries: BTreeMap::new(),
            last: 0,
            lost: 0,
            is_whole: true,
        }
    }
}

impl Replay {
    fn take(&mut self, frame: Frame) {
        match frame {
            Frame::Kept(entry) if !self.places.contains_key(&entry.place()) => {
                self.last += 1;
                self.places.insert(entry.place(), self.last);
                self.entries.insert(self.last, entry);
            }
            // Written anew and then once more.
            Frame::Kept(_) => {}
            Frame::Done(place) => {
                self.is_whole = false;
                if let Some(number) = self.places.remove(&place) {
                    self.entries.remove(&number);
                }
            }
        }
    }
}

/// Where the next good frame begins; nothing where the end of a last write was torn off.
fn next_frame(rest: Unpack<'_>, metrics: &MetricNames) -> Option<usize> {
    (1..rest.0.len()).find(|at| Frame::read(&mut Unpack(&rest.0[*at..]), metrics).is_some())
}

fn checksum(content: &[u8]) -> [u8; 8] {
    let sum = Sha256::digest(content);
    std::array::from_fn(|at| sum[at])
}
