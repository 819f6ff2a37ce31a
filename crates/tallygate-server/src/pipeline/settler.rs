//! The task that ends reservations whose request is gone.

use std::sync::Arc;
use std::time::Duration;

use futures_util::stream::FuturesUnordered;
use futures_util::{FutureExt, StreamExt};
use tallygate_core::{Receipt, ReservationId};
use tallygate_store::{SettleError, Store};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::sync::oneshot;

use super::hold::{Ending, Then};

/// Endings carried out at once; the rest wait their turn.
const IN_FLIGHT: usize = 64;

/// Tries of one ending before it is left to the reservation's deadline.
const TRIES: u32 = 6;

/// Before the second try; doubled before each further one.
const FIRST_PAUSE: Duration = Duration::from_millis(50);

/// What the settler tells of its work.
pub(crate) trait SettlerLog: Send + Sync {
    /// A reservation ended.
    fn ended(&self, receipt: &Receipt);
    /// A reservation could not be ended; its deadline will do it.
    fn lost(&self, id: ReservationId, error: &SettleError);
}

/// What is to be done after a hold.
pub(super) struct Errand {
    pub(super) id: ReservationId,
    pub(super) ending: Ending,
    pub(super) then: Option<Then>,
}

/// Where holds send what is to be done after them.
///
/// The channel has no bound of its own: a message stands for an open reservation, and the store bounds those.
pub(crate) struct SettlerHandle {
    store: Arc<dyn Store>,
    log: Arc<dyn SettlerLog>,
    queue: UnboundedSender<Errand>,
}

/// The task's side.
pub(crate) struct Settler {
    store: Arc<dyn Store>,
    log: Arc<dyn SettlerLog>,
    queue: UnboundedReceiver<Errand>,
}

/// A settler for `store` and the handle that feeds it.
pub(crate) fn settler(
    store: Arc<dyn Store>,
    log: Arc<dyn SettlerLog>,
) -> (Arc<SettlerHandle>, Settler) {
    let (sender, queue) = unbounded_channel();
    let handle = SettlerHandle {
        store: Arc::clone(&store),
        log: Arc::clone(&log),
        queue: sender,
    };
    (Arc::new(handle), Settler { store, log, queue })
}

impl SettlerHandle {
    /// The store that the reservations are in.
    pub(crate) fn store(&self) -> &dyn Store {
        &*self.store
    }

    pub(super) fn send(&self, errand: Errand) {
        // Refused only when the settler is gone, which is after the last connection; the deadline does the rest.
        let _ = self.queue.send(errand);
    }

    pub(super) fn ended(&self, receipt: &Receipt) {
        self.log.ended(receipt);
    }

    /// Whether `error` may pass; tells the log when it will not. What the store keeps is its own to deliver.
    pub(super) fn is_worth_another_try(&self, id: ReservationId, error: &SettleError) -> bool {
        let passing = matches!(error, SettleError::Store(_));
        if !passing && !matches!(error, SettleError::Kept { .. }) {
            self.log.lost(id, error);
        }
        passing
    }
}

impl Settler {
    /// Ends what is sent, until `stop`; then what was sent before it, and no more.
    pub(crate) async fn run(mut self, stop: oneshot::Receiver<()>) {
        let mut stop = stop.fuse();
        let mut running = FuturesUnordered::new();
        loop {
            tokio::select! {
                _ = &mut stop => self.queue.close(),
                Some(()) = running.next(), if !running.is_empty() => {}
                next = self.queue.recv(), if running.len() < IN_FLIGHT => match next {
                    Some(errand) => running.push(run(&*self.store, &*self.log, errand)),
                    None => break,
                },
            }
        }
        while running.next().await.is_some() {}
    }
}

async fn run(store: &dyn Store, log: &dyn SettlerLog, errand: Errand) {
    end(store, log, errand.id, errand.ending).await;
    if let Some(then) = errand.then {
        then();
    }
}

async fn end(store: &dyn Store, log: &dyn SettlerLog, id: ReservationId, ending: Ending) {
    let mut pause = FIRST_PAUSE;
    for left in (0..TRIES).rev() {
        match ending.carry_out(store, id).await {
            Ok(receipt) => return log.ended(&receipt),
            Err(SettleError::Store(_)) if left > 0 => tokio::time::sleep(pause).await,
            Err(SettleError::Kept { .. }) => return,
            Err(error) => return log.lost(id, &error),
        }
        pause *= 2;
    }
}
