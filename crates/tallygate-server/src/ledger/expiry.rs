//! Reservations of the decision API that nobody ended.

use std::sync::Arc;
use std::time::Duration;

use tallygate_core::{Amounts, Extended, Metric, Outcome as Ended, Receipt, ReservationId, Time};
use tallygate_store::usage::{Method, Outcome};
use tallygate_store::{SettleError, Store};
use tokio::time::{MissedTickBehavior, interval};

use super::reservations::Known;
use super::{Entry, Recorder, Use};

/// How often deadlines are looked at.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Reservations that are looked at in one go.
const AT_ONCE: usize = 1_000;

/// Records what expires, until dropped.
pub(crate) async fn watch_expiry(recorder: Arc<Recorder>, store: Arc<dyn Store>) {
    let mut ticks = interval(LOOK_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        recorder.record_expired(&*store).await;
    }
}

impl Recorder {
    /// Remembers who made a reservation, until it ends.
    pub(crate) fn reserved(&self, id: ReservationId, expires_at: Time, entry: Entry) {
        if self.is_on() {
            self.reservations.remember(id, expires_at, entry);
        }
    }

    /// A reservation stands longer, or more is held by it.
    pub(crate) fn extended(&self, id: ReservationId, expires_at: Time, reserved: &Amounts) {
        self.reservations.extend(id, expires_at, reserved);
    }

    /// A reservation ended so, having used this. One that was made elsewhere is recorded as `otherwise`, the subject of
    /// whoever ended it; a repeated end is not recorded again.
    pub(crate) fn ended(
        &self,
        id: ReservationId,
        (outcome, used): (Outcome, &Use),
        otherwise: impl FnOnce() -> Entry,
    ) {
        if !self.is_on() {
            return;
        }
        let entry = match self.reservations.end(id) {
            Known::Open(entry) => *entry,
            Known::Nothing => otherwise(),
            Known::Ended => return,
        };
        self.record(entry.ended(outcome, used, Duration::ZERO));
    }

    /// A reservation was ended before, and recorded then.
    pub(crate) fn left(&self, id: ReservationId) {
        self.reservations.leave(id);
    }

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
                    self.expired(id, &receipt);
                }
                // The store is away: it is asked again.
                Err(SettleError::Store(_)) => return,
                // It was ended elsewhere, and recorded there.
                _ => self.reservations.leave(id),
            }
        }
    }

    fn expired(&self, id: ReservationId, receipt: &Receipt) {
        let used = Use {
            charged: receipt.charged,
            cost: Some(receipt.charged.get(Metric::COST)).filter(|cost| *cost > 0),
            method: Method::Kept,
            ..Use::default()
        };
        if let Known::Open(entry) = self.reservations.end(id) {
            self.record(entry.ended(Outcome::Expired, &used, Duration::ZERO));
        }
    }
}
