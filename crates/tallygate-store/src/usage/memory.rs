//! Records in this process, lost with it.

use std::collections::VecDeque;
use std::sync::Arc;

use parking_lot::RwLock;

use super::{Block, Query, Record, Report, Shelf, ShelfError, Tally};
use crate::BoxFuture;

/// Records that are written to a block together.
const BLOCK_RECORDS: usize = 1 << 14;

/// Keeps records in memory: the latest, as many as fit.
#[derive(Debug)]
pub struct MemoryShelf {
    most_bytes: usize,
    kept: RwLock<Kept>,
}

#[derive(Debug, Default)]
struct Kept {
    blocks: VecDeque<Arc<Block>>,
    bytes: usize,
    /// Records that are no block yet.
    latest: Vec<Record>,
}

impl MemoryShelf {
    /// What [`Self::default`] keeps: 64 MiB, some two million records.
    pub const MOST_BYTES: usize = 64 << 20;

    /// A shelf for `most_bytes` of blocks; the oldest make room for new ones.
    #[must_use]
    pub fn new(most_bytes: usize) -> Self {
        Self {
            most_bytes,
            kept: RwLock::default(),
        }
    }
}

impl Default for MemoryShelf {
    fn default() -> Self {
        Self::new(Self::MOST_BYTES)
    }
}

impl Kept {
    fn take(&mut self, records: &[Record]) {
        for piece in records.chunks(BLOCK_RECORDS) {
            self.latest.extend_from_slice(piece);
            if self.latest.len() >= BLOCK_RECORDS
                && let Some(block) = Block::of(&self.latest)
            {
                self.bytes += block.bytes().len();
                self.blocks.push_back(Arc::new(block));
                self.latest.clear();
            }
        }
    }

    fn shrink_to(&mut self, most_bytes: usize) {
        while self.bytes > most_bytes && self.drop_first() {}
    }

    fn drop_before(&mut self, time: u64) {
        let old = |block: &Arc<Block>| block.times().1 < time;
        while self.blocks.front().is_some_and(old) && self.drop_first() {}
        self.latest.retain(|record| record.time >= time);
    }

    fn drop_first(&mut self) -> bool {
        let dropped = self.blocks.pop_front();
        self.bytes -= dropped.as_ref().map_or(0, |block| block.bytes().len());
        dropped.is_some()
    }
}

impl Shelf for MemoryShelf {
    fn append<'a>(&'a self, records: &'a [Record]) -> BoxFuture<'a, Result<(), ShelfError>> {
        Box::pin(async move {
            let mut kept = self.kept.write();
            kept.take(records);
            kept.shrink_to(self.most_bytes);
            Ok(())
        })
    }

    fn answer<'a>(&'a self, query: &'a Query) -> BoxFuture<'a, Result<Report, ShelfError>> {
        Box::pin(async move {
            query.check()?;
            let (blocks, latest) = {
                let kept = self.kept.read();
                (kept.blocks.clone(), Block::of(&kept.latest))
            };
            let query = query.clone();
            let sum = move || {
                let mut tally = Tally::new(&query);
                for block in blocks.iter().map(|block| &**block).chain(&latest) {
                    tally.add(&block.view())?;
                }
                Ok(tally.finish())
            };
            let summed = tokio::task::spawn_blocking(sum).await;
            summed.unwrap_or_else(|error| Err(ShelfError::Server(error.to_string())))
        })
    }

    fn drop_before(&self, time: u64) -> BoxFuture<'_, Result<(), ShelfError>> {
        Box::pin(async move {
            self.kept.write().drop_before(time);
            Ok(())
        })
    }
}
