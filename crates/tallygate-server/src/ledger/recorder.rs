//! Where records are handed in.

use std::sync::Arc;
use std::time::Duration;

use tallygate_core::{ReservationId, Time};
use tallygate_store::usage::{MemosFor, Query, Record, Report, Shelf, ShelfError};
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;

use super::Entry;
use super::promise::{Progress, Promise};
use super::reservations::Reservations;
use super::writer::Writer;

/// Records that wait to be kept; of more than these the newest are lost.
pub(super) const MOST_QUEUED: usize = 65_536;

/// How long a question waits for the records before it to be kept.
const FLUSH_TIME: Duration = Duration::from_secs(2);

/// How long an answer waits at most for its record to be kept: as long as the counters wait for a disk.
const PATIENCE: Duration = Duration::from_secs(10);

/// What is told of the ledger's own work.
pub(crate) trait LedgerLog: Send + Sync {
    /// So many records were kept.
    fn kept(&self, records: u64);
    /// So many records were lost, because more came than could be kept.
    fn lost(&self, records: u64);
    /// The shelf does not take records any more, and why; or with `None` it does again.
    fn shelf_turned(&self, trouble: Option<&ShelfError>);
}

/// A call that this process is to end.
pub(super) struct Opened {
    pub(super) id: ReservationId,
    pub(super) expires_at: Time,
    pub(super) entry: Entry,
}

/// What goes to the writer.
pub(super) enum Message {
    /// A call that has a memo from now on, unless it ends in a moment.
    Open(Box<Opened>),
    /// A record, and the reservation whose memo is needless once it is kept.
    Record(Box<Record>, Option<ReservationId>),
    /// Keep what came before, then say so.
    Flush(oneshot::Sender<()>),
}

/// Takes records, whoever makes them.
pub(crate) struct Recorder {
    /// `None`: there is no ledger.
    book: Option<Book>,
    log: Arc<dyn LedgerLog>,
    pub(super) reservations: Reservations,
}

struct Book {
    queue: mpsc::Sender<Message>,
    shelf: Arc<dyn Shelf>,
    promise: Promise,
    progress: Arc<Progress>,
}

/// Where records are kept, and how.
pub(crate) struct Kept {
    pub(crate) shelf: Arc<dyn Shelf>,
    pub(crate) promise: Promise,
    /// How long.
    pub(crate) keep: Duration,
}

/// A recorder, and the task that keeps what it takes; none where nothing is to be kept.
pub(crate) fn recorder(
    kept: Option<Kept>,
    log: Arc<dyn LedgerLog>,
) -> (Arc<Recorder>, Option<Writer>) {
    let (book, writer) = match kept {
        None => (None, None),
        Some(kept) => {
            let (sender, queue) = mpsc::channel(MOST_QUEUED);
            let progress = Arc::<Progress>::default();
            let book = Book {
                queue: sender,
                shelf: Arc::clone(&kept.shelf),
                promise: kept.promise,
                progress: Arc::clone(&progress),
            };
            let writer = Writer::new((queue, progress), kept, Arc::clone(&log));
            (Some(book), Some(writer))
        }
    };
    let recorder = Recorder {
        book,
        log,
        reservations: Reservations::default(),
    };
    (Arc::new(recorder), writer)
}

impl Recorder {
    /// Whether anything is recorded: if not, nothing need be gathered.
    pub(crate) fn is_on(&self) -> bool {
        self.book.is_some()
    }

    /// Takes a record. Never waits: what there is no room for is lost, and told.
    pub(crate) fn record(&self, record: Record) {
        self.take(Message::Record(Box::new(record), None));
    }

    /// A call was let through which this process ends. Whoever comes after it finds whose it was, if it is killed before that: on a
    /// shelf where somebody looks for it. Never waits.
    pub(crate) fn opened(
        &self,
        (id, expires_at): (ReservationId, Time),
        entry: impl FnOnce() -> Entry,
    ) {
        let Some(book) = self.book.as_ref().filter(|_| self.shared().is_some()) else {
            return;
        };
        // Records go before what only might become one.
        if book.queue.capacity() > MOST_QUEUED / 2 {
            let entry = entry();
            let opened = Opened {
                id,
                expires_at,
                entry,
            };
            let _ = book.queue.try_send(Message::Open(Box::new(opened)));
        }
    }

    /// Whether the shelf takes nothing just now.
    pub(super) fn is_troubled(&self) -> bool {
        let book = self.book.as_ref();
        book.is_some_and(|book| book.progress.is_troubled())
    }

    /// Takes the record of a reservation that was remembered here, or of a call that was [`Self::opened`].
    pub(crate) fn record_end(&self, id: ReservationId, record: Record) {
        let memo = self.shared().map(|_| id);
        self.take(Message::Record(Box::new(record), memo));
    }

    /// The shelf, if another node or process finds memos on it.
    pub(super) fn shared(&self) -> Option<&Arc<dyn Shelf>> {
        let book = self.book.as_ref()?;
        let finders = book.shelf.memos_for();
        (finders != MemosFor::Nobody).then_some(&book.shelf)
    }

    fn take(&self, record: Message) {
        let Some(book) = &self.book else { return };
        let send = || book.queue.try_send(record).is_ok();
        if !book.progress.takes(send) {
            self.log.lost(1);
        }
    }

    /// Returns when what was recorded so far is as safe as is promised: at once, where the shelf is no folder, or takes nothing.
    pub(crate) async fn safe(&self) {
        let Some(book) = &self.book else { return };
        if !book.progress.is_awaited(book.promise) {
            return;
        }
        tokio::select! {
            // Whether it was kept or is tried again, the answer is the same.
            _ = timeout(PATIENCE, book.flush()) => {}
            () = book.progress.trouble() => {}
        }
    }

    /// Sums what the query asks for, what was recorded before included. `None`: there is no ledger.
    ///
    /// # Errors
    /// [`ShelfError`].
    pub(crate) async fn answer(&self, query: &Query) -> Option<Result<Report, ShelfError>> {
        let book = self.book.as_ref()?;
        // A shelf in trouble answers with what it has.
        let _ = timeout(FLUSH_TIME, book.flush()).await;
        Some(book.shelf.answer(query).await)
    }
}

impl Book {
    /// Returns when what came before is kept, or cannot be.
    async fn flush(&self) {
        let (sender, kept) = oneshot::channel();
        if self.queue.send(Message::Flush(sender)).await.is_ok() {
            // A writer that has ended keeps nothing more.
            let _ = kept.await;
        }
    }
}
