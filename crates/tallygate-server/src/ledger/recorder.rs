//! Where records are handed in.

use std::sync::Arc;
use std::time::Duration;

use tallygate_store::usage::{Query, Record, Report, Shelf, ShelfError};
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;

use super::reservations::Reservations;
use super::writer::Writer;

/// Records that wait to be kept; of more than these the newest are lost.
pub(super) const MOST_QUEUED: usize = 65_536;

/// How long a question waits for the records before it to be kept.
const FLUSH_TIME: Duration = Duration::from_secs(2);

/// What is told of the ledger's own work.
pub(crate) trait LedgerLog: Send + Sync {
    /// So many records were kept.
    fn kept(&self, records: u64);
    /// So many records were lost, because more came than could be kept.
    fn lost(&self, records: u64);
    /// The shelf does not take records any more, and why; or with `None` it does again.
    fn shelf_turned(&self, trouble: Option<&ShelfError>);
}

/// What goes to the writer.
pub(super) enum Message {
    Record(Box<Record>),
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
}

/// A recorder, and the task that keeps what it takes on `shelf` for so long; none where there is no shelf.
pub(crate) fn recorder(
    shelf: Option<(Arc<dyn Shelf>, Duration)>,
    log: Arc<dyn LedgerLog>,
) -> (Arc<Recorder>, Option<Writer>) {
    let (book, writer) = match shelf {
        None => (None, None),
        Some((shelf, keep)) => {
            let (sender, queue) = mpsc::channel(MOST_QUEUED);
            let writer = Writer::new(queue, (Arc::clone(&shelf), keep), Arc::clone(&log));
            let book = Book {
                queue: sender,
                shelf,
            };
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
        let Some(book) = &self.book else { return };
        if book
            .queue
            .try_send(Message::Record(Box::new(record)))
            .is_err()
        {
            self.log.lost(1);
        }
    }

    /// Sums what the query asks for, what was recorded before included. `None`: there is no ledger.
    ///
    /// # Errors
    /// [`ShelfError`].
    pub(crate) async fn answer(&self, query: &Query) -> Option<Result<Report, ShelfError>> {
        let book = self.book.as_ref()?;
        let (sender, kept) = oneshot::channel();
        let flush = async {
            book.queue.send(Message::Flush(sender)).await.ok()?;
            kept.await.ok()
        };
        // A shelf in trouble answers with what it has.
        let _ = timeout(FLUSH_TIME, flush).await;
        Some(book.shelf.answer(query).await)
    }
}
