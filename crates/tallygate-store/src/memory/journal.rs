//! What makes a memory store last: every change of its ledger goes to a journal in the data folder.
//!
//! ```text
//! operation ─► ledger ─► records ─► Log ─► clerk: one frame, one sync for all that came meanwhile ─► segment N
//!                                                             segments that are full ─► archive: state M
//! ```
//!
//! - A *state* is the whole ledger, written at once. *Segments* hold the records since, in frames. At start-up the last state is
//!   read and the segments after it are done again; nothing is judged anew.
//! - The *clerk* is the thread that writes. In [`Durability::Sync`] whoever is admitted or ends a reservation is answered once the
//!   frame of his record is synced; callers that come together share one sync. In [`Durability::Relaxed`] he is so only when
//!   what is not synced has become old ([`stake`]): what a crash costs was all answered within [`RELAXED_BOUND`].
//! - The *archive* is the thread that makes a state of the last one and of full segments, off the path of decisions.
//! - While the disk takes no writes, records are kept in memory and written when it does; when they are too many, the whole ledger
//!   is written instead.
mod archive;
mod clerk;
mod format;
mod recovery;
mod stake;
#[cfg(test)]
mod tests;

pub(super) use clerk::Clerk;
pub(super) use recovery::recover;

use crate::folder::DataFolder;
use crate::mailbox::{Receiver, Sender, mailbox};
use crate::store::{OutageStats, StoreError, StoreHealth};
use parking_lot::Mutex;
use stake::Stake;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::Thread;
use std::time::{Duration, Instant};
use tallygate_core::{Amounts, Bounds, JournalError, Ledger, Outcome, Receipt, Time};

/// What of a store in a folder outlives the process and the machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Durability {
    /// All but what was answered within one span of [`RELAXED_BOUND`], on whatever disk: an answer waits for the disk while one
    /// that is older than that would be lost without it.
    #[default]
    Relaxed,
    /// All that was answered: admissions, extensions and ends are answered once they are on disk.
    Sync,
}

/// How much time's worth of answers a crash may cost a relaxed store: the last of those that are lost came within so long of
/// the first of them. An answer comes when the store decides to give it, by its own clock. Those of [`crate::MemoryStore`]'s
/// operations without a future do not wait for the disk and are not bounded; nor is anything while the disk takes no writes.
pub const RELAXED_BOUND: Duration = Duration::from_millis(100);

/// How old what is not on disk may be for a relaxed answer at once. The rest of [`RELAXED_BOUND`] is for the way of an answer to
/// its caller.
pub const RELAXED_AT_ONCE: Duration = RELAXED_BOUND.saturating_sub(Duration::from_millis(10));

/// Why the counters of a folder cannot be used. Each says what can be done about it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// A file is not as it was written, and what is damaged counted.
    #[error(
        "{} is damaged at byte {at} ({what}): bring the folder back from a backup, or move its `counters` away, and all counters begin at zero",
        .file.display()
    )]
    Damaged {
        /// The file.
        file: PathBuf,
        /// Where in it.
        at: u64,
        /// What was seen.
        what: String,
    },
    /// A later version wrote a file.
    #[error(
        "{} was written by a later version ({reason}): use that version, or a later one",
        .file.display()
    )]
    Newer {
        /// The file.
        file: PathBuf,
        /// What was seen.
        reason: JournalError,
    },
    /// The disk failed.
    #[error("{} cannot be used: {error}", .file.display())]
    Disk {
        /// The file.
        file: PathBuf,
        /// What the disk said.
        #[source]
        error: io::Error,
    },
}

/// What is to be written, and who waits for it. It belongs to the books and is locked with them.
#[derive(Debug)]
pub(super) struct Log {
    durability: Durability,
    /// Where the folder is, for messages.
    folder: PathBuf,
    /// Those that could not be written; later ones are the ledger's still.
    records: Vec<u8>,
    /// Who waits for what is still to be written.
    awaiting: Vec<Sender<Saved>>,
    /// Who waits for what is being written.
    watching: Vec<Sender<Saved>>,
    stake: Stake,
    /// Since when the clerk has been writing.
    busy: Option<Instant>,
    /// How long that may take.
    patience: Duration,
    clerk: Option<Thread>,
    /// Whether the clerk knows that there is something to do.
    is_called: bool,
    is_closed: bool,
    /// Why nothing can be written just now.
    down: Option<Arc<str>>,
    /// Whether records had to be dropped: the whole ledger is to be written then.
    is_overfull: bool,
    late: Late,
    /// Why no state can be made just now.
    unarchived: Arc<Mutex<Option<String>>>,
}

/// Where the journal is.
#[derive(Debug, Clone)]
pub(super) struct Site {
    folder: Arc<DataFolder>,
    bounds: Bounds,
    /// The length past which a segment is full.
    segment: u64,
    /// How often a disk that failed is tried again.
    retry: Duration,
    /// How long a write may take before the disk counts as one that takes none.
    patience: Duration,
    /// Why no state can be made just now.
    unarchived: Arc<Mutex<Option<String>>>,
}

/// Whether what was done is on disk, or why it is in memory only.
pub(super) type Saved = Result<(), Arc<str>>;

/// How many bytes of records may wait to be written before the disk counts as down.
const BACKLOG: usize = 64 << 20;

/// How many may wait before the whole ledger is written instead.
const OVERFULL: usize = 2 * BACKLOG;

/// The length past which a segment is full.
const SEGMENT: u64 = 8 << 20;

/// How often a disk that failed is tried again, and when who was refused may try again.
const RETRY: Duration = Duration::from_secs(1);

/// How long a write may take before the disk counts as one that takes none.
const PATIENCE: Duration = Duration::from_secs(10);

/// What was taken while nothing could be written.
#[derive(Debug, Default)]
struct Late {
    kept: Ends,
    delivered: Ends,
}

/// Ends of reservations, and what their receipts say, added up.
#[derive(Debug, Clone, Copy, Default)]
struct Ends {
    settled: u64,
    cancelled: u64,
    charged: Amounts,
    returned: Amounts,
    debt: Amounts,
}

/// What the clerk takes away at once.
#[derive(Debug, Default)]
struct Batch {
    records: Vec<u8>,
    is_overfull: bool,
    is_last: bool,
}

/// What became of a write, and who waits to hear of it. To be told once the books are unlocked.
#[derive(Debug)]
pub(super) struct News {
    waiting: Vec<Sender<Saved>>,
    saved: Saved,
}

/// The way to learn whether what was done is on disk.
#[derive(Debug)]
pub(super) enum Saving {
    /// It is as safe as was asked for.
    Done,
    /// It cannot be written just now.
    Failed(Arc<str>),
    /// It is on its way.
    Pending(Receiver<Saved>),
}

impl Site {
    pub(super) fn new(folder: Arc<DataFolder>, bounds: Bounds) -> Self {
        Self {
            folder,
            bounds,
            segment: SEGMENT,
            retry: RETRY,
            patience: PATIENCE,
            unarchived: Arc::default(),
        }
    }

    /// What an error of the disk comes to.
    pub(super) fn failed(&self, error: io::Error) -> OpenError {
        OpenError::Disk {
            file: self.folder.path().join("counters"),
            error,
        }
    }

    /// Writes a state of a ledger's bytes; answers its length.
    fn write_state(&self, number: u64, ledger: &[u8]) -> io::Result<u64> {
        let file = format::state(number, ledger);
        let name = format::state_name(number);
        self.folder.files().replace(&name, &file)?;
        Ok(file.len() as u64)
    }
}

impl Saving {
    pub(super) async fn done(self) -> Saved {
        match self {
            Self::Done => Ok(()),
            Self::Failed(reason) => Err(reason),
            Self::Pending(saved) => saved.await,
        }
    }
}

impl News {
    pub(super) fn tell(self) {
        for caller in self.waiting {
            // Whoever has left is not told.
            let _ = caller.send(self.saved.clone());
        }
    }
}

impl Log {
    pub(super) fn new(site: &Site, durability: Durability) -> Self {
        Self {
            durability,
            folder: site.folder.path().to_owned(),
            records: Vec::new(),
            awaiting: Vec::new(),
            watching: Vec::new(),
            stake: Stake::default(),
            busy: None,
            patience: site.patience,
            clerk: None,
            is_called: false,
            is_closed: false,
            down: None,
            is_overfull: false,
            late: Late::default(),
            unarchived: site.unarchived.clone(),
        }
    }

    /// Sees to it that what the ledger has recorded will be written. To be called before the books are unlocked.
    pub(super) fn note(&mut self, ledger: &mut Ledger, now: Time) {
        let length = self.records.len() + ledger.journal_length();
        if length == 0 {
            return;
        }
        self.stake.rises(now);
        if length > BACKLOG && self.down.is_none() {
            self.down = Some(self.reason("more comes than it takes"));
        }
        if length > OVERFULL || self.is_overfull {
            self.is_overfull = true;
            self.drop_records(ledger);
        }
        self.call();
    }

    /// Waits from now on for all that was recorded so far, this operation's included; if the store is relaxed, only where an
    /// answer at once could cost more than is allowed.
    pub(super) fn saving(&mut self, now: Time) -> Saving {
        let is_relaxed = self.durability == Durability::Relaxed;
        match &self.down {
            Some(reason) => Saving::Failed(reason.clone()),
            None if is_relaxed && !self.stake.is_old(now) => Saving::Done,
            None => self.flushing(),
        }
    }

    /// Waits for it in any case.
    pub(super) fn flushing(&mut self) -> Saving {
        if let Some(reason) = &self.down {
            return Saving::Failed(reason.clone());
        }
        let (sender, receiver) = mailbox();
        self.awaiting.push(sender);
        self.call();
        Saving::Pending(receiver)
    }

    /// The clerk writes what there is and ends.
    pub(super) fn close(&mut self) {
        self.is_closed = true;
        self.is_called = false;
        self.call();
    }

    /// Why nothing can be written just now.
    pub(super) fn down(&self) -> Option<&Arc<str>> {
        self.down.as_ref()
    }

    pub(super) fn health(&self) -> StoreHealth {
        match &self.down {
            Some(reason) => StoreHealth::Down {
                reason: reason.as_ref().to_owned(),
            },
            None => StoreHealth::Up,
        }
    }

    /// An end was taken while nothing could be written.
    pub(super) fn kept(&mut self, receipt: &Receipt) {
        match self.down {
            Some(_) => self.late.kept.add(receipt),
            None => self.late.delivered.add(receipt),
        }
    }

    pub(super) fn stats(&self) -> OutageStats {
        let (kept, delivered) = (&self.late.kept, &self.late.delivered);
        let count = kept.settled.saturating_add(kept.cancelled);
        OutageStats {
            kept: usize::try_from(count).unwrap_or(usize::MAX),
            settled: delivered.settled,
            cancelled: delivered.cancelled,
            charged: delivered.charged,
            returned: delivered.returned,
            debt: delivered.debt,
            unsaved: self.unsaved(),
            ..OutageStats::default()
        }
    }

    fn unsaved(&self) -> Option<String> {
        let down = self.down.as_ref().map(|reason| reason.as_ref().to_owned());
        down.or_else(|| self.unarchived.lock().clone())
    }

    fn call(&mut self) {
        if std::mem::replace(&mut self.is_called, true) {
            return;
        }
        if let Some(clerk) = &self.clerk {
            clerk.unpark();
        }
    }

    /// Whether there is something to write now, and need not be more of it first.
    fn is_urgent(&self) -> bool {
        self.is_closed || self.durability == Durability::Sync || !self.awaiting.is_empty()
    }

    fn batch(&mut self, ledger: &mut Ledger) -> Batch {
        self.is_called = false;
        self.busy = Some(Instant::now());
        self.stake.is_taken();
        self.watching.append(&mut self.awaiting);
        let mut records = std::mem::take(&mut self.records);
        ledger.drain_journal(&mut records);
        Batch {
            records,
            is_overfull: std::mem::take(&mut self.is_overfull),
            is_last: self.is_closed,
        }
    }

    /// Takes a batch back that could not be written; answers who is to be told.
    fn fail(&mut self, batch: Batch, error: &io::Error) -> News {
        self.busy = None;
        self.stake.is_returned();
        self.records = batch.records;
        self.is_overfull |= batch.is_overfull;
        self.fall(&error.to_string())
    }

    /// A disk that has not ended a write for long takes none until it has; answers who is to be told.
    pub(super) fn lose_patience(&mut self) -> Option<News> {
        let is_late = self.busy?.elapsed() >= self.patience;
        let is_news = self.down.is_none() || self.is_awaited();
        let said = || format!("a write has not ended within {} s", self.patience.as_secs());
        (is_late && is_news).then(said).map(|said| self.fall(&said))
    }

    fn is_awaited(&self) -> bool {
        !(self.watching.is_empty() && self.awaiting.is_empty())
    }

    /// Nothing can be written just now; answers who is to be told.
    fn fall(&mut self, said: &str) -> News {
        let reason = self.reason(said);
        self.down = Some(reason.clone());
        let mut waiting = std::mem::take(&mut self.watching);
        waiting.append(&mut self.awaiting);
        News {
            waiting,
            saved: Err(reason),
        }
    }

    /// Forgets what was recorded: the whole ledger will be written.
    fn drop_records(&mut self, ledger: &mut Ledger) {
        ledger.drain_journal(&mut self.records);
        self.records = Vec::new();
    }

    /// What there was is on disk; answers who is to be told.
    fn succeed(&mut self) -> News {
        self.busy = None;
        self.stake.is_saved();
        if self.down.take().is_some() {
            let kept = std::mem::take(&mut self.late.kept);
            self.late.delivered.join(&kept);
        }
        News {
            waiting: std::mem::take(&mut self.watching),
            saved: Ok(()),
        }
    }

    fn reason(&self, said: &str) -> Arc<str> {
        format!("folder {}: {said}", self.folder.display()).into()
    }
}

impl Ends {
    fn add(&mut self, receipt: &Receipt) {
        match receipt.outcome {
            Outcome::Settled => self.settled += 1,
            _ => self.cancelled += 1,
        }
        self.add_amounts(&receipt.charged, &receipt.returned, &receipt.debt);
    }

    fn join(&mut self, other: &Self) {
        self.settled += other.settled;
        self.cancelled += other.cancelled;
        self.add_amounts(&other.charged, &other.returned, &other.debt);
    }

    fn add_amounts(&mut self, charged: &Amounts, returned: &Amounts, debt: &Amounts) {
        self.charged = self.charged.zip(charged, u64::saturating_add);
        self.returned = self.returned.zip(returned, u64::saturating_add);
        self.debt = self.debt.zip(debt, u64::saturating_add);
    }
}

/// What a caller is told whose limits are closed while nothing can be written.
pub(super) fn refusal(reason: &str) -> StoreError {
    StoreError::Down {
        reason: reason.to_owned(),
        retry_after: RETRY,
    }
}
