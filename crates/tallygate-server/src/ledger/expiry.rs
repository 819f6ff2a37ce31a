//! Reservations that nobody ended, of this process and of others that are gone.

use std::sync::Arc;
use std::time::Duration;

use futures_util::{StreamExt, stream};
use tallygate_core::{Amounts, Extended, Outcome as Ended, Receipt, ReservationId, Span, Time};
use tallygate_store::usage::{MemosFor, Record, Shelf};
use tallygate_store::{SettleError, Store};
use tokio::sync::oneshot;
use tokio::time::{MissedTickBehavior, interval};

use super::ends::{forgotten, of_receipt};
use super::reservations::{Found, Known};
use super::{Entry, Recorder};
use crate::config::Config;
use crate::pipeline::Pipeline;

/// How often deadlines are looked at.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Reservations that are looked at in one go.
const AT_ONCE: usize = 1_000;

/// How often what other nodes left is looked for.
const SWEEP_EVERY: Duration = Duration::from_secs(10);

/// Reservations of other nodes that are looked at in one go, and at one time.
const SWEPT: usize = 1_000;
const SWEPT_AT_A_TIME: usize = 32;

/// How long past its deadline a reservation is left to the node that made it.
const GRACE: Duration = Duration::from_secs(60);

/// Records what expires, until `stop`; what is being looked at then is done first.
pub(crate) async fn watch_expiry(pipeline: Arc<Pipeline>, mut stop: oneshot::Receiver<()>) {
    let (mut looks, mut sweeps) = (interval(LOOK_EVERY), interval(SWEEP_EVERY));
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    sweeps.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let (recorder, store) = (pipeline.recorder(), &**pipeline.store());
    loop {
        tokio::select! {
            _ = &mut stop => return,
            _ = looks.tick() => recorder.record_expired(store).await,
            _ = sweeps.tick() => recorder.sweep(store, pipeline.setup().config()).await,
        }
    }
}

impl Recorder {
    pub(super) async fn record_expired(&self, store: &dyn Store) {
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
                Err(SettleError::Standing(receipt)) => self.has_ended(id, &receipt).await,
                Err(SettleError::Unknown) => self.is_forgotten(id, now).await,
                // The store is away: it is asked again.
                Err(SettleError::Store(_)) => return,
                _ => self.reservations.leave(id),
            }
        }
    }

    async fn has_ended(&self, id: ReservationId, receipt: &Receipt) {
        match self.reservations.found(id) {
            Some((Found::Left, _)) => self.record_receipt(id, receipt),
            _ if receipt.outcome == Ended::Expired => self.expired(id, receipt).await,
            // It was ended elsewhere, and recorded there.
            _ => self.reservations.leave(id),
        }
    }

    async fn expired(&self, id: ReservationId, receipt: &Receipt) {
        if let Some((Found::Shared, _)) = self.reservations.found(id)
            && let Some(shelf) = self.swept()
        {
            match shelf.take_memo(id).await {
                Ok(Some(_)) => {}
                // Whoever came late to end it has recorded it.
                Ok(None) => return self.reservations.leave(id),
                Err(_) => return, // it is asked again
            }
        }
        self.record_receipt(id, receipt);
    }

    /// What an earlier process left, and the store does not know: it expired long ago, or was lost with the last moments of that
    /// process, and was charged to nobody.
    async fn is_forgotten(&self, id: ReservationId, now: Time) {
        if let Some((Found::Left, deadline)) = self.reservations.found(id) {
            if deadline < now {
                if let Known::Open(entry) = self.reservations.end(id) {
                    self.record_end(id, forgotten(*entry));
                }
                return;
            }
            if let Some(shelf) = self.shared() {
                // If it stays it may be taken for what expired, by a later process.
                let _ = shelf.take_memo(id).await;
            }
        }
        self.reservations.leave(id);
    }

    /// Records what is past its deadline for so long that the node which made it must be gone. Of all nodes the one that takes the
    /// memo does.
    pub(super) async fn sweep(&self, store: &dyn Store, config: &Config) {
        // While its own records wait here, their memos are no sign.
        let Some(shelf) = self.swept().filter(|_| !self.is_troubled()) else {
            return;
        };
        let grace = Span::from(GRACE).as_nanos();
        let before = Time::from_nanos(store.now().as_nanos().saturating_sub(grace));
        // What cannot be asked is asked again.
        let overdue = shelf.overdue_memos(before, SWEPT).await;
        let looking = stream::iter(overdue.unwrap_or_default());
        looking
            .for_each_concurrent(SWEPT_AT_A_TIME, |id| self.sweep_one(id, store, config))
            .await;
    }

    async fn sweep_one(&self, id: ReservationId, store: &dyn Store, config: &Config) {
        match store.extend(id, Amounts::ZERO, None).await {
            // The memo missed its last extension.
            Ok(Extended::Granted {
                expires_at,
                reserved,
            }) => self.extended((id, expires_at), &reserved, config).await,
            Err(SettleError::Standing(receipt)) => {
                let ended = |entry| of_receipt(entry, &receipt);
                self.take_over((id, config), ended).await;
            }
            Err(SettleError::Unknown) => self.take_over((id, config), forgotten).await,
            _ => {}
        }
    }

    async fn take_over(
        &self,
        (id, config): (ReservationId, &Config),
        ended: impl FnOnce(Entry) -> Record,
    ) {
        if let Some(entry) = self.taken(id, config).await {
            self.reservations.leave(id);
            self.record(ended(entry));
        }
    }

    /// The shelf whose memos other nodes take.
    fn swept(&self) -> Option<&Arc<dyn Shelf>> {
        let shelf = self.shared()?;
        (shelf.memos_for() == MemosFor::OtherNodes).then_some(shelf)
    }
}
