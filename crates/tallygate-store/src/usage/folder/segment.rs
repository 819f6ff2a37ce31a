//! The files of the ledger: their names, and the blocks in them.

use std::io::{self, ErrorKind};

use jiff::civil::Date;
use jiff::{Timestamp, ToSpan};
use tallygate_core::ReservationId;

use super::{BlockError, BlockView};
use crate::folder::Files;
use crate::usage::block::MAGIC;

const FOLDER: &str = "usage/";
const LOG: &str = "log";
const MERGED: &str = "blocks";

const DAY_MILLIS: u64 = 86_400_000;

/// A day of UTC: whole days since the Unix epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Day(u64);

impl Day {
    /// The day of a time in milliseconds since the Unix epoch. Beyond the year 9999 all is one day.
    pub(super) fn of(time: u64) -> Self {
        const LAST: u64 = 2_932_896;
        Self((time / DAY_MILLIS).min(LAST))
    }

    /// Its first millisecond.
    pub(super) fn begin(self) -> u64 {
        self.0 * DAY_MILLIS
    }

    /// Whether its calls, the longest too, have ended when there are some of `newest`.
    pub(super) fn is_long_before(self, newest: Self) -> bool {
        self.0 + 1 < newest.0
    }

    fn date(self) -> Option<Date> {
        let epoch = Timestamp::UNIX_EPOCH
            .to_zoned(jiff::tz::TimeZone::UTC)
            .date();
        epoch.checked_add(i64::try_from(self.0).ok()?.days()).ok()
    }

    fn of_date(date: Date) -> Option<Self> {
        let at = date.to_zoned(jiff::tz::TimeZone::UTC).ok()?.timestamp();
        u64::try_from(at.as_millisecond()).ok().map(Self::of)
    }
}

/// One file of a day, as a log or merged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Segment {
    pub(super) day: Day,
    pub(super) number: u32,
}

impl Segment {
    pub(super) fn last_of(day: Day) -> Self {
        let number = u32::MAX;
        Self { day, number }
    }

    /// The name of the file that is appended to.
    pub(super) fn log(self) -> String {
        self.named(LOG)
    }

    /// The name of the file that is written whole.
    pub(super) fn merged(self) -> String {
        self.named(MERGED)
    }

    fn named(self, form: &str) -> String {
        let date = self.day.date().unwrap_or_default();
        format!("{FOLDER}{date}.{:04}.{form}", self.number)
    }

    /// The segment that a file's name says, and its form.
    fn of_name(name: &str) -> Option<(Self, &str)> {
        let mut parts = name.strip_prefix(FOLDER)?.split('.');
        let (date, number, form) = (parts.next()?, parts.next()?, parts.next()?);
        let segment = Self {
            day: Day::of_date(date.parse().ok()?)?,
            number: number.parse().ok()?,
        };
        (parts.next().is_none() && segment.named(form) == name).then_some((segment, form))
    }

    /// Reads it in the form that counts; `None` if it is gone.
    pub(super) fn read(self, files: &dyn Files) -> io::Result<Option<Vec<u8>>> {
        // It may be merged between the two looks, so the first is done again.
        for name in [self.merged(), self.log(), self.merged()] {
            match files.read(&name) {
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                read => return read.map(Some),
            }
        }
        Ok(None)
    }

    /// Removes it in both forms, the one that counts last.
    pub(super) fn remove(self, files: &dyn Files) -> io::Result<()> {
        for name in [self.log(), self.merged()] {
            match files.remove(&name) {
                Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        Ok(())
    }
}

/// The segments of a folder, by the form that counts, each in order.
#[derive(Debug, Default)]
pub(super) struct Found {
    pub(super) merged: Vec<Segment>,
    pub(super) logs: Vec<Segment>,
    /// Logs that were merged, and not removed yet.
    pub(super) stale: Vec<Segment>,
}

/// Looks what there is.
pub(super) fn find(files: &dyn Files) -> io::Result<Found> {
    let names = files.list()?;
    let named = |wanted: &str| -> Vec<Segment> {
        let known = names.iter().filter_map(|name| Segment::of_name(name));
        let mut found: Vec<Segment> = known
            .filter(|(_, form)| *form == wanted)
            .map(|(segment, _)| segment)
            .collect();
        found.sort();
        found
    };
    let merged = named(MERGED);
    let (stale, logs) = named(LOG)
        .into_iter()
        .partition(|log| merged.binary_search(log).is_ok());
    Ok(Found {
        merged,
        logs,
        stale,
    })
}

/// What the reservations that end with the next block of a log begin with. Behind it are the length of their ids, a CRC-32 of
/// these (4 bytes each, little-endian) and the ids. They are in the log so that a record and its reservation's memo are never
/// there both, whatever of the two files a loss of power leaves.
const ENDS: [u8; 4] = *b"TGE1";

/// Bytes before the ids.
const ENDS_HEAD: usize = 12;

/// Bytes of an id.
const ID: usize = 16;

/// Reservations that end with the block that is written behind this; nothing for none.
pub(super) fn ends(ids: &[ReservationId]) -> Vec<u8> {
    if ids.is_empty() {
        return Vec::new();
    }
    let bytes: Vec<u8> = ids.iter().flat_map(|id| id.bits().to_le_bytes()).collect();
    let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
    let words = [length, crc32fast::hash(&bytes)].map(u32::to_le_bytes);
    [&ENDS[..], words.as_flattened(), &bytes].concat()
}

/// The ends that `bytes` begin with, and how long they are.
fn read_ends(bytes: &[u8]) -> Option<(Vec<ReservationId>, usize)> {
    let rest = bytes.strip_prefix(&ENDS)?;
    let (length, rest) = rest.split_first_chunk()?;
    let (sum, rest) = rest.split_first_chunk()?;
    let length = usize::try_from(u32::from_le_bytes(*length)).ok()?;
    let bytes = rest.get(..length)?;
    if crc32fast::hash(bytes) != u32::from_le_bytes(*sum) {
        return None;
    }
    let (ids, _) = bytes.as_chunks::<ID>();
    let ids = ids.iter().map(|id| u128::from_le_bytes(*id));
    let ids = ids.map(ReservationId::from_bits).collect();
    Some((ids, ENDS_HEAD + length))
}

/// The blocks of a file, and what else is in it.
#[derive(Debug, Default)]
pub(super) struct Pieces<'a> {
    pub(super) blocks: Vec<BlockView<'a>>,
    /// Reservations that ended with them.
    pub(super) ended: Vec<ReservationId>,
    /// Stretches that cannot be read, with blocks behind them.
    pub(super) damaged: u64,
    /// Where the last block ends. What is behind it is the torn end of a log.
    pub(super) sound: usize,
    /// The version of a block that is of a later one.
    pub(super) newer: Option<u8>,
}

impl<'a> Pieces<'a> {
    pub(super) fn of(bytes: &'a [u8]) -> Self {
        let mut pieces = Self::default();
        let (mut at, mut is_damaged, mut ending) = (0, false, Vec::new());
        while let Some(rest) = bytes.get(at..).filter(|rest| !rest.is_empty()) {
            if let Some((ids, length)) = read_ends(rest) {
                ending = ids;
                at += length;
                continue;
            }
            match BlockView::read(rest) {
                Ok((block, length)) => {
                    pieces.damaged += u64::from(std::mem::take(&mut is_damaged));
                    pieces.blocks.push(block);
                    pieces.ended.append(&mut ending);
                    at += length;
                    pieces.sound = at;
                }
                Err(error) => {
                    if let BlockError::Newer(version) = error {
                        pieces.newer = Some(version);
                    }
                    (is_damaged, ending) = (true, Vec::new());
                    at += 1 + next_magic(&rest[1..]);
                }
            }
        }
        pieces
    }
}

/// How far it is to where a block may begin, or what ends with it.
fn next_magic(bytes: &[u8]) -> usize {
    let mut places = bytes.windows(MAGIC.len());
    let found = places.position(|place| place == MAGIC || place == ENDS);
    found.unwrap_or(bytes.len())
}
