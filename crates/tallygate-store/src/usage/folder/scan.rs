//! Summing many files up, on several threads.

use std::num::NonZero;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use super::segment::{Day, Pieces, Segment};
use crate::folder::Files;
use crate::usage::{Query, Report, ShelfError, Tally};

/// Threads that sum for one question.
const MOST_THREADS: usize = 4;

/// Sums what of `segments` the query asks for.
pub(super) fn answer(
    files: &dyn Files,
    segments: &[Segment],
    query: &Query,
) -> Result<Report, ShelfError> {
    let is_asked =
        |segment: &&Segment| segment.day >= Day::of(query.from) && segment.day.begin() < query.to;
    let segments: Vec<Segment> = segments.iter().filter(is_asked).copied().collect();
    let next = AtomicUsize::new(0);
    let sum = || part(files, &segments, &next, query);
    let cores = thread::available_parallelism().map_or(1, NonZero::get);
    let others = cores
        .min(MOST_THREADS)
        .min(segments.len())
        .saturating_sub(1);
    let parts = thread::scope(|scope| {
        let threads: Vec<_> = (0..others).map(|_| scope.spawn(sum)).collect();
        let mut parts = vec![sum()];
        let died = || Err(std::io::Error::other("a thread that summed has died").into());
        parts.extend(
            threads
                .into_iter()
                .map(|one| one.join().unwrap_or_else(|_| died())),
        );
        parts
    });
    let mut tally = Tally::new(query);
    for part in parts {
        tally.merge(&part?);
    }
    Ok(tally.finish())
}

/// Sums segments up as long as there is one that nobody has taken.
fn part<'q>(
    files: &dyn Files,
    segments: &[Segment],
    next: &AtomicUsize,
    query: &'q Query,
) -> Result<Tally<'q>, ShelfError> {
    let mut tally = Tally::new(query);
    while let Some(segment) = segments.get(next.fetch_add(1, Ordering::Relaxed)) {
        let Some(bytes) = segment.read(files)? else {
            continue;
        };
        let pieces = Pieces::of(&bytes);
        tally.note_damage(pieces.damaged + u64::from(pieces.newer.is_some()));
        for block in &pieces.blocks {
            if tally.add(block).is_err() {
                tally.note_damage(1);
            }
        }
    }
    Ok(tally)
}
