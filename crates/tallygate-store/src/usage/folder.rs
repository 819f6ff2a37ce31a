//! Records in the data folder.
//!
//! Each day has files of its own (UTC, by the times of the records), numbered from 1. What comes is appended to a log, a
//! block each time, and synced. A log that is large, or of a day long past, is written anew as few large blocks and then
//! removed; of a log and blocks with the same name the log no longer counts, so a crash between the two changes no sum.
//!
//! ```text
//! usage/2026-11-22.0001.blocks    written whole
//! usage/2026-11-22.0002.log       being appended to
//! usage/open.memos                whose the open reservations are
//! ```
mod memos;
mod scan;
mod segment;

use std::collections::{BTreeMap, BTreeSet};
use std::future::ready;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use parking_lot::Mutex;
use tallygate_core::{ReservationId, Span, Time};

use super::{
    Block, BlockError, BlockView, Memo, MemosFor, Query, Record, Report, Shelf, ShelfError,
};
use crate::BoxFuture;
use crate::folder::{Append, DataFolder, Files};
use memos::Memos;
use segment::{Day, Pieces, Segment};

/// Bytes of a log at which it is written anew.
const LOG_BYTES: u64 = 2 << 20;

/// Records that are written anew together.
const BLOCK_RECORDS: usize = 1 << 16;

/// How long a memo is kept past the deadline of its reservation.
const LATE: Duration = Duration::from_secs(600);

/// Keeps records in the data folder. What was appended outlives the process and the machine.
#[derive(Debug, Clone)]
pub struct FolderShelf(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    folder: Arc<DataFolder>,
    kept: Mutex<Kept>,
    memos: Memos,
}

/// What there is.
#[derive(Debug, Default)]
struct Kept {
    segments: BTreeSet<Segment>,
    /// The logs that are appended to.
    open: BTreeMap<Day, Log>,
    /// Pieces that cannot be read, found when the folder was opened.
    damaged: u64,
}

#[derive(Debug)]
struct Log {
    segment: Segment,
    file: Box<dyn Append>,
    /// How long it is without what an append that failed may have left.
    length: u64,
}

impl FolderShelf {
    /// Opens the ledger of a folder that this process owns: the torn end of a log is cut off, as it was never acknowledged.
    /// Blocks.
    ///
    /// # Errors
    /// When the disk fails, or the ledger is of a later version.
    pub fn open(folder: Arc<DataFolder>) -> Result<Self, ShelfError> {
        let mut kept = Kept::default();
        let memos = Memos::open(folder.files())?;
        let found = segment::find(folder.files())?;
        for segment in &found.stale {
            folder.files().remove(&segment.log())?;
        }
        kept.segments.extend(found.merged.iter().copied());
        for segment in found.logs {
            let ended = kept.resume(segment, folder.files())?;
            memos.drop_some(memos.of(ended.iter()), folder.files());
        }
        Ok(Self(Arc::new(Inner {
            folder,
            kept: Mutex::new(kept),
            memos,
        })))
    }

    /// Pieces of logs that could not be read when the folder was opened: damage, and no mere torn ends.
    #[must_use]
    pub fn damaged(&self) -> u64 {
        self.0.kept.lock().damaged
    }

    /// Answers from a folder that another process may own, as it is now. Blocks.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn peek(folder: &DataFolder, query: &Query) -> Result<Report, ShelfError> {
        query.check()?;
        let found = segment::find(folder.files())?;
        let segments: Vec<Segment> = found.merged.into_iter().chain(found.logs).collect();
        scan::answer(folder.files(), &segments, query)
    }
}

impl FolderShelf {
    /// Whether the ledger of a folder could be opened, as it is now: how many pieces of its logs cannot be read. Blocks.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn probe(folder: &DataFolder) -> Result<u64, ShelfError> {
        let found = segment::find(folder.files())?;
        let mut damaged = 0;
        for segment in found.logs {
            let bytes = folder.files().read(&segment.log())?;
            damaged += usable(&bytes)?.damaged;
        }
        Ok(damaged)
    }
}

/// The pieces of a log that this version can go on with.
fn usable(bytes: &[u8]) -> Result<Pieces<'_>, BlockError> {
    let pieces = Pieces::of(bytes);
    match pieces.newer {
        Some(newer) => Err(BlockError::Newer(newer)),
        None => Ok(pieces),
    }
}

impl Kept {
    /// Takes a log of an earlier process over. Answers the reservations that ended with its records.
    fn resume(
        &mut self,
        segment: Segment,
        files: &dyn Files,
    ) -> Result<Vec<ReservationId>, ShelfError> {
        let bytes = files.read(&segment.log())?;
        let pieces = usable(&bytes)?;
        self.damaged += pieces.damaged;
        let mut file = files.open_append(&segment.log())?;
        let length = pieces.sound as u64;
        if length < bytes.len() as u64 {
            file.truncate(length)?;
            file.sync()?;
        }
        self.segments.insert(segment);
        let log = Log {
            segment,
            file,
            length,
        };
        // Of several logs of a day the last is gone on with; the others are written anew in their time.
        self.open.insert(segment.day, log);
        Ok(pieces.ended)
    }

    /// The log of `day`, made if there is none.
    fn log(&mut self, day: Day, files: &dyn Files) -> io::Result<&mut Log> {
        if !self.open.contains_key(&day) {
            let segment = self.next(day);
            let file = files.open_append(&segment.log())?;
            self.segments.insert(segment);
            let log = Log {
                segment,
                file,
                length: 0,
            };
            self.open.insert(day, log);
        }
        self.open
            .get_mut(&day)
            .ok_or(io::ErrorKind::NotFound.into())
    }

    fn next(&self, day: Day) -> Segment {
        let of_day = Segment { day, number: 0 }..=Segment::last_of(day);
        let last = self.segments.range(of_day).next_back();
        Segment {
            day,
            number: last.map_or(1, |segment| segment.number.saturating_add(1)),
        }
    }

    /// Stops appending to logs that are large, or of a day whose calls have ended. Answers which are appended to still.
    fn close_logs(&mut self) -> BTreeSet<Segment> {
        let newest = self.open.keys().next_back().copied();
        let is_over = |day: Day| newest.is_some_and(|newest| day.is_long_before(newest));
        self.open
            .retain(|day, log| log.length < LOG_BYTES && !is_over(*day));
        self.open.values().map(|log| log.segment).collect()
    }
}

impl Log {
    /// Appends and syncs. What an earlier failure left is cut off first.
    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        if self.file.length()? != self.length {
            self.file.truncate(self.length)?;
        }
        self.file.write(bytes)?;
        self.file.sync()
    }
}

impl Inner {
    /// Appends a block a day: all of them or none. The memos of what ends with them go while no log can be closed.
    fn append(&self, blocks: &[(Day, Block)], ended: &[ReservationId]) -> Result<(), ShelfError> {
        let mut kept = self.kept.lock();
        let files = self.folder.files();
        let ended = self.memos.of(ended.iter());
        let pieces = pieces(blocks, &ended);
        let appended = pieces.iter().try_for_each(|(day, piece)| {
            let log = kept.log(*day, files)?;
            log.append(piece)
        });
        for (day, piece) in &pieces {
            let Some(log) = kept.open.get_mut(day) else {
                continue;
            };
            match &appended {
                Ok(()) => log.length += piece.len() as u64,
                // Tried again before the next append: until it is cut off nothing is written behind it.
                Err(_) => drop(log.file.truncate(log.length)),
            }
        }
        appended?;
        self.memos.drop_some(ended, files);
        Ok(())
    }

    /// Writes a log anew as blocks, in its place.
    fn merge(&self, segment: Segment) -> Result<(), ShelfError> {
        let files = self.folder.files();
        let bytes = files.read(&segment.log())?;
        let pieces = Pieces::of(&bytes);
        if pieces.newer.is_some() || pieces.damaged > 0 {
            return Ok(()); // what can be read stays readable as it is, and the damage is told with every answer
        }
        let mut records = Vec::new();
        for block in &pieces.blocks {
            records.extend(block.to_records()?);
        }
        records.sort_by_key(|record| record.time);
        let blocks = records.chunks(BLOCK_RECORDS).filter_map(Block::of);
        let merged: Vec<u8> = blocks.flat_map(|block| block.bytes().to_vec()).collect();
        files.replace(&segment.merged(), &merged)?;
        Ok(files.remove(&segment.log())?)
    }

    fn drop_before(&self, time: u64) -> Result<(), ShelfError> {
        let files = self.folder.files();
        let first = Day::of(time);
        let (open, old) = {
            let mut kept = self.kept.lock();
            kept.open.retain(|day, _| *day >= first);
            let left = Segment {
                day: first,
                number: 0,
            };
            let left = kept.segments.split_off(&left);
            (
                kept.close_logs(),
                std::mem::replace(&mut kept.segments, left),
            )
        };
        for segment in old {
            segment.remove(files)?;
        }
        // What ended with a log is on disk before the log goes.
        self.memos.tend(late(), files)?;
        let logs = segment::find(files)?.logs.into_iter();
        let mut closed = logs.filter(|log| !open.contains(log));
        closed.try_for_each(|log| self.merge(log))
    }

    fn answer(&self, query: &Query) -> Result<Report, ShelfError> {
        query.check()?;
        let segments: Vec<Segment> = self.kept.lock().segments.iter().copied().collect();
        scan::answer(self.folder.files(), &segments, query)
    }
}

/// What is appended for blocks with which reservations end: these are told with the last.
fn pieces(blocks: &[(Day, Block)], ended: &[ReservationId]) -> Vec<(Day, Vec<u8>)> {
    let pieces = blocks
        .iter()
        .map(|(day, block)| (*day, block.bytes().to_vec()));
    let mut pieces: Vec<(Day, Vec<u8>)> = pieces.collect();
    if let Some((_, last)) = pieces.last_mut() {
        last.splice(..0, segment::ends(ended));
    }
    pieces
}

/// One block for each day that the records fall in.
fn by_day(records: &[Record]) -> Vec<(Day, Block)> {
    let mut days: BTreeMap<Day, Vec<Record>> = BTreeMap::new();
    for record in records {
        days.entry(Day::of(record.time))
            .or_default()
            .push(record.clone());
    }
    let blocks = |(day, records): (Day, Vec<Record>)| {
        let blocks: Vec<Block> = records
            .chunks(BLOCK_RECORDS)
            .filter_map(Block::of)
            .collect();
        blocks.into_iter().map(move |block| (day, block))
    };
    days.into_iter().flat_map(blocks).collect()
}

/// Reservations whose deadlines were before this have ended long ago, whoever was told.
fn late() -> Time {
    let now = u64::try_from(Timestamp::now().as_nanosecond()).unwrap_or(0);
    Time::from_nanos(now.saturating_sub(Span::from(LATE).as_nanos()))
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, ShelfError> + Send + 'static,
) -> Result<T, ShelfError> {
    let done = tokio::task::spawn_blocking(work).await;
    done.unwrap_or_else(|error| Err(io::Error::other(error).into()))
}

impl Shelf for FolderShelf {
    fn append<'a>(&'a self, records: &'a [Record]) -> BoxFuture<'a, Result<(), ShelfError>> {
        self.append_ends(records, &[])
    }

    fn append_ends<'a>(
        &'a self,
        records: &'a [Record],
        ended: &'a [ReservationId],
    ) -> BoxFuture<'a, Result<(), ShelfError>> {
        let inner = Arc::clone(&self.0);
        Box::pin(async move {
            let (blocks, ended) = (by_day(records), ended.to_vec());
            blocking(move || inner.append(&blocks, &ended)).await
        })
    }

    fn answer<'a>(&'a self, query: &'a Query) -> BoxFuture<'a, Result<Report, ShelfError>> {
        let (inner, query) = (Arc::clone(&self.0), query.clone());
        Box::pin(blocking(move || inner.answer(&query)))
    }

    fn drop_before(&self, time: u64) -> BoxFuture<'_, Result<(), ShelfError>> {
        let inner = Arc::clone(&self.0);
        Box::pin(blocking(move || inner.drop_before(time)))
    }

    fn memos_for(&self) -> MemosFor {
        MemosFor::NextProcess
    }

    fn keep_memo<'a>(&'a self, memo: &'a Memo) -> BoxFuture<'a, Result<(), ShelfError>> {
        self.keep_memos(std::slice::from_ref(memo))
    }

    fn keep_memos<'a>(&'a self, memos: &'a [Memo]) -> BoxFuture<'a, Result<(), ShelfError>> {
        let (inner, memos) = (Arc::clone(&self.0), memos.to_vec());
        let keep = move || Ok(inner.memos.keep(memos, inner.folder.files())?);
        Box::pin(blocking(keep))
    }

    fn renew_memo<'a>(&'a self, memo: &'a Memo) -> BoxFuture<'a, Result<(), ShelfError>> {
        let (inner, memo) = (Arc::clone(&self.0), memo.clone());
        let renew = move || Ok(inner.memos.renew(memo, inner.folder.files())?);
        Box::pin(blocking(renew))
    }

    fn find_memo(&self, id: ReservationId) -> BoxFuture<'_, Result<Option<Vec<u8>>, ShelfError>> {
        Box::pin(ready(Ok(self.0.memos.find(id))))
    }

    fn take_memo(&self, id: ReservationId) -> BoxFuture<'_, Result<Option<Vec<u8>>, ShelfError>> {
        let inner = Arc::clone(&self.0);
        let take = move || Ok(inner.memos.take(id, inner.folder.files()));
        Box::pin(blocking(take))
    }

    fn memos(&self) -> Vec<Memo> {
        self.0.memos.all()
    }
}
