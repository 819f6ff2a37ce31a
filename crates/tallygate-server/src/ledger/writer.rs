//! The task that keeps records.

use std::collections::HashMap;
use std::future::pending;
use std::sync::Arc;
use std::time::Duration;

use tallygate_core::ReservationId;
use tallygate_store::Store;
use tallygate_store::usage::{Memo, Record, Shelf};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until};

use super::promise::{Progress, Promise};
use super::recorder::{Kept, LedgerLog, Message, Opened};

/// Records that are kept at once.
const BATCH: usize = 8_192;

/// How long what could not be kept waits to be tried again.
const RETRY: Duration = Duration::from_secs(1);

/// How often what is too old is dropped and what is small is merged.
const TEND_EVERY: Duration = Duration::from_secs(30);

/// Takes records from the queue and keeps them, many at once.
pub(crate) struct Writer {
    queue: mpsc::Receiver<Message>,
    progress: Arc<Progress>,
    shelf: Arc<dyn Shelf>,
    promise: Promise,
    keep: Duration,
    log: Arc<dyn LedgerLog>,
    /// What is to be kept next.
    gathered: Vec<Record>,
    /// Reservations whose memos are needless then.
    ended: Vec<ReservationId>,
    /// Calls that have no memo yet.
    opened: HashMap<ReservationId, Opened>,
    /// Who is to be told when it was tried.
    awaiting: Vec<oneshot::Sender<()>>,
    /// When it is to be kept; `None` while there is nothing.
    due: Option<Instant>,
    is_troubled: bool,
    /// Tidying that may still be under way.
    tending: Option<JoinHandle<()>>,
}

impl Writer {
    pub(super) fn new(
        (queue, progress): (mpsc::Receiver<Message>, Arc<Progress>),
        kept: Kept,
        log: Arc<dyn LedgerLog>,
    ) -> Self {
        Self {
            queue,
            progress,
            shelf: kept.shelf,
            promise: kept.promise,
            keep: kept.keep,
            log,
            gathered: Vec::new(),
            ended: Vec::new(),
            opened: HashMap::new(),
            awaiting: Vec::new(),
            due: None,
            is_troubled: false,
            tending: None,
        }
    }

    /// Keeps what comes, until `stop`; then what came before it, and no more. `store` has the clock.
    pub(crate) async fn run(mut self, store: Arc<dyn Store>, mut stop: oneshot::Receiver<()>) {
        let mut tend = interval(TEND_EVERY);
        tend.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            // While the shelf takes nothing the queue fills, and then loses what is new.
            let has_room = self.gathered.len() < BATCH;
            tokio::select! {
                _ = &mut stop => break,
                _ = tend.tick() => self.tend(&*store),
                () = at(self.due) => self.keep_gathered().await,
                message = self.queue.recv(), if has_room => match message {
                    Some(message) => self.take(message).await,
                    None => break,
                },
            }
        }
        self.queue.close();
        while let Some(message) = self.queue.recv().await {
            self.take(message).await;
            if self.gathered.len() >= BATCH && self.is_troubled {
                break;
            }
        }
        self.keep_gathered().await;
        let lost = self.gathered.len() + self.queue.len();
        if lost > 0 {
            self.log.lost(lost as u64);
        }
    }

    /// Takes a message, and keeps what was gathered if somebody waits for that: with all that has come meanwhile, so that those who
    /// wait at one time share one write.
    async fn take(&mut self, message: Message) {
        self.gather(message);
        while self.gathered.len().max(self.opened.len()) < BATCH
            && let Ok(next) = self.queue.try_recv()
        {
            self.gather(next);
        }
        let is_full = self.gathered.len() >= BATCH && !self.is_troubled;
        if is_full || self.opened.len() >= BATCH || !self.awaiting.is_empty() {
            self.keep_gathered().await;
        }
    }

    fn gather(&mut self, message: Message) {
        match message {
            Message::Open(opened) => {
                self.opened.insert(opened.id, *opened);
            }
            Message::Record(record, ended) => {
                self.gathered.push(*record);
                // One that has ended in the moment that it began in had no memo.
                let ended = ended.filter(|id| self.opened.remove(id).is_none());
                self.ended.extend(ended);
            }
            Message::Flush(done) => return self.awaiting.push(done),
        }
        let soon = || Instant::now() + self.promise.gather_time();
        self.due.get_or_insert_with(soon);
    }

    async fn keep_gathered(&mut self) {
        self.due = None;
        self.keep_opened().await;
        match self.gathered.is_empty() {
            true => self.progress.idles(|| self.queue.is_empty()),
            false => self.append().await,
        }
        for done in self.awaiting.drain(..) {
            let _ = done.send(()); // whoever asked may be gone
        }
    }

    /// Before records of a later moment are kept, so that what ends has its memo first.
    async fn keep_opened(&mut self) {
        let opened = self.opened.drain();
        let memos = opened.filter_map(|(id, opened)| opened.entry.memo(id, opened.expires_at));
        let memos: Vec<Memo> = memos.collect();
        if !memos.is_empty() {
            // If not, they have no record should the process be killed.
            let _ = self.shelf.keep_memos(&memos).await;
        }
    }

    async fn append(&mut self) {
        self.progress.begins(|| self.queue.is_empty());
        let kept = self.shelf.append_ends(&self.gathered, &self.ended).await;
        if kept.is_err() != self.is_troubled {
            self.is_troubled = kept.is_err();
            self.log.shelf_turned(kept.as_ref().err());
        }
        match kept {
            Ok(()) => {
                self.progress.succeeds();
                self.log.kept(self.gathered.len() as u64);
                self.gathered.clear();
                self.ended.clear();
            }
            Err(_) => {
                self.progress.fails();
                self.due = Some(Instant::now() + RETRY);
            }
        }
    }

    /// Has the shelf tidied, beside the keeping of records: it may take its time.
    fn tend(&mut self, store: &dyn Store) {
        if self
            .tending
            .as_ref()
            .is_some_and(|task| !task.is_finished())
        {
            return;
        }
        let now = store.now().as_nanos() / 1_000_000;
        let keep = u64::try_from(self.keep.as_millis()).unwrap_or(u64::MAX);
        let shelf = Arc::clone(&self.shelf);
        self.tending = Some(tokio::spawn(async move {
            if let Err(error) = shelf.drop_before(now.saturating_sub(keep)).await {
                tracing::warn!(target: "tallygate::ledger", %error, "the ledger could not be tidied; it is tried again");
            }
        }));
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        if let Some(task) = &self.tending {
            task.abort();
        }
    }
}

async fn at(due: Option<Instant>) {
    match due {
        Some(due) => sleep_until(due).await,
        None => pending().await,
    }
}
