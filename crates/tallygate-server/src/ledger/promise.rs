//! How soon records are kept, and what answers wait for it.
//!
//! In a folder the ledger keeps the promise of the counters beside it: an answer is given when its record is on disk, or, where
//! little may be lost, unless the oldest record that is not has become old ([`Progress::is_awaited`]).

use std::time::Duration;

use parking_lot::Mutex;
use tallygate_store::{Durability, RELAXED_AT_ONCE, RELAXED_BOUND};
use tokio::sync::watch;
use tokio::time::Instant;

/// What answers wait for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Promise {
    /// For nothing.
    Nothing,
    /// For their record to be kept, in a folder that promises so much.
    Folder(Durability),
}

impl Promise {
    /// How long a record waits for others that are kept with it, unless somebody waits for it.
    pub(super) fn gather_time(self) -> Duration {
        match self {
            Self::Nothing => Duration::from_millis(250),
            Self::Folder(_) => RELAXED_BOUND / 2,
        }
    }
}

/// How far the writer has come.
pub(super) struct Progress {
    oldest: Mutex<Oldest>,
    /// Whether the shelf takes nothing just now: nobody waits for it then.
    troubled: watch::Sender<bool>,
}

/// When the oldest record was taken that is not kept.
#[derive(Default)]
struct Oldest {
    /// Of those that the writer has not begun to keep.
    waiting: Option<Instant>,
    /// Of those that it is keeping.
    writing: Option<Instant>,
}

impl Oldest {
    fn get(&self) -> Option<Instant> {
        self.writing.or(self.waiting)
    }
}

impl Default for Progress {
    fn default() -> Self {
        Self {
            oldest: Mutex::default(),
            troubled: watch::Sender::new(false),
        }
    }
}

impl Progress {
    /// A record is taken by `send`, unless that says that it is not.
    pub(super) fn takes(&self, send: impl FnOnce() -> bool) -> bool {
        let mut oldest = self.oldest.lock();
        let taken = send();
        if taken {
            oldest.waiting.get_or_insert_with(Instant::now);
        }
        taken
    }

    /// What was gathered is being kept from now on; `is_all` says whether that is all that was taken.
    pub(super) fn begins(&self, is_all: impl FnOnce() -> bool) {
        let mut oldest = self.oldest.lock();
        oldest.writing = oldest.get();
        if is_all() {
            oldest.waiting = None;
        }
    }

    /// What was being kept is kept.
    pub(super) fn succeeds(&self) {
        self.oldest.lock().writing = None;
        self.troubled.send_replace(false);
    }

    /// It is not, and will be tried again.
    pub(super) fn fails(&self) {
        self.troubled.send_replace(true);
    }

    /// There was nothing to keep; `is_all` as for [`Self::begins`].
    pub(super) fn idles(&self, is_all: impl FnOnce() -> bool) {
        let mut oldest = self.oldest.lock();
        if is_all() {
            *oldest = Oldest::default();
        }
    }

    /// Whether the shelf takes nothing just now.
    pub(super) fn is_troubled(&self) -> bool {
        *self.troubled.borrow()
    }

    /// Whether an answer of this promise has to wait for what was taken so far.
    pub(super) fn is_awaited(&self, promise: Promise) -> bool {
        let oldest = || self.oldest.lock().get();
        let is_asked = match promise {
            Promise::Nothing => false,
            Promise::Folder(Durability::Sync) => oldest().is_some(),
            Promise::Folder(Durability::Relaxed) => {
                oldest().is_some_and(|oldest| oldest.elapsed() > RELAXED_AT_ONCE)
            }
        };
        is_asked && !self.is_troubled()
    }

    /// Returns when the shelf takes nothing.
    pub(super) async fn trouble(&self) {
        let mut troubled = self.troubled.subscribe();
        // Whoever says so is this.
        let _ = troubled.wait_for(|troubled| *troubled).await;
    }
}
