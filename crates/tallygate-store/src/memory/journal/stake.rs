//! What a crash would cost just now, as time: since when there is something that is not on disk.
//!
//! A relaxed store answers at once while the oldest change that is not synced is younger than [`RELAXED_AT_ONCE`], and else, as one in
//! [`Durability::Sync`](super::Durability::Sync) does, when the change that it answers is synced. What is missing after a crash
//! was never synced, so each of its answers came at once, and within that time of the oldest change that is missing: neither a
//! slow disk nor a thread that gets no turn can make it more. While the disk is as quick as it mostly is nobody waits.
use super::RELAXED_AT_ONCE;
use tallygate_core::{Span, Time};

/// The oldest changes that are not on disk, by the store's clock.
#[derive(Debug, Default)]
pub(super) struct Stake {
    /// Of those that wait to be written.
    waiting: Option<Time>,
    /// Of those that are being written.
    writing: Option<Time>,
}

impl Stake {
    /// There is something to write, and was before if that was noted.
    pub(super) fn rises(&mut self, now: Time) {
        self.waiting.get_or_insert(now);
    }

    /// All that waits is being written from now on.
    pub(super) fn is_taken(&mut self) {
        self.writing = self.waiting.take();
    }

    /// What was being written is synced.
    pub(super) fn is_saved(&mut self) {
        self.writing = None;
    }

    /// What was being written waits again.
    pub(super) fn is_returned(&mut self) {
        self.waiting = self.writing.take().or(self.waiting);
    }

    /// Whether an answer at once could be lost together with one that came too long before it.
    pub(super) fn is_old(&self, now: Time) -> bool {
        let oldest = self.writing.or(self.waiting);
        oldest.is_some_and(|oldest| now.since(oldest) > Span::from(RELAXED_AT_ONCE))
    }
}
