//! Reservations of the decision API that nobody ended.

use std::sync::Arc;
use std::time::Duration;

use tallygate_core::{Amounts, Extended, Outcome as Ended, Receipt, ReservationId};
use tallygate_store::usage::MemosFor;
use tallygate_store::{SettleError, Store};
use tokio::sync::oneshot;
use tokio::time::{MissedTickBehavior, interval};

use super::Recorder;
use super::ends::expired;
use super::reservations::Known;

/// How often deadlines are looked at.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Reservations that are looked at in one go.
const AT_ONCE: usize = 1_000;

/// Records what expires, until `stop`; what is being looked at then is done first.
pub(crate) async fn watch_expiry(
    recorder: Arc<Recorder>,
    store: Arc<dyn Store>,
    mut stop: oneshot::Receiver<()>,
) {
    let mut ticks = interval(LOOK_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = &mut stop => return,
            _ = ticks.tick() => {}
        }
        recorder.record_expired(&*store).await;
    }
}

impl Recorder {
    async fn record_expired(&self, store: &dyn Store) {
        let now = store.now();
        for id in self.reservations.overdue(now, AT_ONCE) {
            // Adds nothing and moves no deadline: it but asks how the reservation stands.
            match store.extend(id, Amounts::ZERO, None).await {
                Ok(Extended::Granted {
                    expires_at,
                    reserved,
                }) => {
                    self.reservations.extend(id, expires_at, &reserved);
                }
                Err(SettleError::Standing(receipt)) if receipt.outcome == Ended::Expired => {
                    self.expired(id, &receipt).await;
                }
                // The store is away: it is asked again.
                Err(SettleError::Store(_)) => return,
                // It was ended elsewhere, and recorded there.
                _ => self.reservations.leave(id),
            }
        }
    }

    async fn expired(&self, id: ReservationId, receipt: &Receipt) {
        if self.reservations.is_shared(id)
            && let Some(shelf) = self.shared()
            && shelf.memos_for() == MemosFor::OtherNodes
        {
            match shelf.take_memo(id).await {
                Ok(Some(_)) => {}
                // Whoever came late to end it has recorded it.
                Ok(None) => return self.reservations.leave(id),
                Err(_) => return, // it is asked again
            }
        }
        if let Known::Open(entry) = self.reservations.end(id) {
            self.record_end(id, expired(*entry, receipt));
        }
    }
}
