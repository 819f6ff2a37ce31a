//! Reservations of the decision API, from their beginning to their end.

use std::sync::Arc;
use std::time::Duration;

use tallygate_core::{
    Admission, Amounts, Metric, Outcome as Ended, Receipt, Replay, ReservationId, Time,
};
use tallygate_store::usage::{Memo, Method, Outcome, Record};

use super::reservations::{Found, Known};
use super::{Entry, Recorder, Use};
use crate::config::Config;
use crate::pipeline::Setup;

/// An end that takes effect.
pub(crate) struct End {
    pub(crate) id: ReservationId,
    pub(crate) outcome: Outcome,
    pub(crate) used: Use,
    /// By whose prices it is recorded if it was made elsewhere.
    pub(crate) setup: Arc<Setup>,
}

impl Recorder {
    /// Remembers who made a reservation until it ends: here, and where other nodes and later processes find it.
    ///
    /// # Cancel safety
    /// Once polled, it is remembered here.
    pub(crate) async fn reserved(&self, admission: &Admission, entry: Entry) {
        let (id, expires_at) = (admission.id, admission.expires_at);
        if !self.is_on() || matches!(admission.replay, Replay::Ended(_)) {
            return;
        }
        let (shared, memo) = (self.shared(), entry.memo(id, expires_at));
        let is_first = admission.replay == Replay::Fresh;
        // One that was made before is watched by the node that made it, if others can know of it.
        if is_first || shared.is_none() {
            self.reservations.remember(id, expires_at, entry);
        }
        if let (Some(shelf), Some(memo)) = (shared, memo)
            && shelf.keep_memo(&memo).await.is_ok()
        {
            self.reservations.share(id);
        }
    }

    /// Remembers what an earlier process left open.
    pub(crate) fn resume(&self, config: &Config) {
        let left = self.shared().map(|shelf| shelf.memos());
        for Memo {
            id,
            expires_at,
            bytes,
        } in left.unwrap_or_default()
        {
            if let Some(entry) = Entry::of_memo(&bytes, config) {
                self.reservations.resume(id, expires_at, entry);
            }
        }
    }

    /// A reservation stands longer, or more is held by it.
    pub(crate) async fn extended(
        &self,
        (id, expires_at): (ReservationId, Time),
        reserved: &Amounts,
        config: &Config,
    ) {
        let known = self.reservations.extend(id, expires_at, reserved);
        let Some(shelf) = self.shared() else { return };
        let entry = match known {
            Some(entry) => Some(entry),
            None => {
                let found = shelf.find_memo(id).await.ok().flatten();
                found.and_then(|bytes| Entry::of_memo(&bytes, config))
            }
        };
        let Some(mut entry) = entry else { return };
        entry.hold(reserved);
        if let Some(memo) = entry.memo(id, expires_at) {
            // If not, its record may say that less was held.
            let _ = shelf.renew_memo(&memo).await;
        }
    }

    /// A reservation ended. One that was made elsewhere is recorded as its memo says, and if it has none as `otherwise`, the subject
    /// of whoever ended it; a repeated end is not recorded again.
    ///
    /// # Cancel safety
    /// Once polled, it is recorded though the future be dropped.
    pub(crate) async fn ended(self: &Arc<Self>, end: End, otherwise: impl FnOnce() -> Entry) {
        if !self.is_on() {
            return;
        }
        let entry = match self.reservations.end(end.id) {
            Known::Open(entry) => *entry,
            Known::Ended => return,
            Known::Nothing if self.shared().is_some() => {
                return self.ended_elsewhere(end, otherwise()).await;
            }
            Known::Nothing => otherwise(),
        };
        self.record_end(end.id, entry.ended(end.outcome, &end.used, Duration::ZERO));
    }

    async fn ended_elsewhere(self: &Arc<Self>, end: End, otherwise: Entry) {
        let recorder = Arc::clone(self);
        let recording = tokio::spawn(async move {
            let made = recorder.taken(end.id, end.setup.config()).await;
            let entry = made.unwrap_or(otherwise);
            recorder.record(entry.ended(end.outcome, &end.used, Duration::ZERO));
        });
        // It has no reason to panic, and whoever waits is told of the end in any case.
        let _ = recording.await;
    }

    /// A reservation was to be ended after it had expired. If the node that made it has not recorded that, this one does.
    pub(crate) async fn late(&self, id: ReservationId, receipt: &Receipt, config: &Config) {
        if self.is_on()
            && !self.reservations.knows(id)
            && let Some(entry) = self.taken(id, config).await
        {
            self.record(of_receipt(entry, receipt));
        }
    }

    /// A reservation was ended before, and recorded then: unless by an earlier process, which was killed before it came to that.
    pub(crate) fn left(&self, id: ReservationId, receipt: &Receipt) {
        match self.reservations.found(id) {
            Some((Found::Left, _)) => self.record_receipt(id, receipt),
            _ => self.reservations.leave(id),
        }
    }

    /// Records one that is remembered here.
    pub(super) fn record_receipt(&self, id: ReservationId, receipt: &Receipt) {
        if let Known::Open(entry) = self.reservations.end(id) {
            self.record_end(id, of_receipt(*entry, receipt));
        }
    }

    pub(super) async fn taken(&self, id: ReservationId, config: &Config) -> Option<Entry> {
        let taken = self.shared()?.take_memo(id).await.ok()??;
        Entry::of_memo(&taken, config)
    }
}

/// The record of a reservation that ended so, all that is known of its use being what was charged.
pub(super) fn of_receipt(entry: Entry, receipt: &Receipt) -> Record {
    let (outcome, method) = match receipt.outcome {
        Ended::Settled => (Outcome::Settled, Method::Exact),
        Ended::Cancelled => (Outcome::Cancelled, Method::Exact),
        Ended::Expired => (Outcome::Expired, Method::Kept),
    };
    entry.ended(outcome, &charged(receipt.charged, method), Duration::ZERO)
}

/// The record of a reservation whose deadline has passed so long ago that the store has forgotten it: what was held counts as used.
pub(super) fn forgotten(entry: Entry) -> Record {
    let (tokens, cost) = (entry.record.held, entry.record.held_cost);
    let held = Amounts::ZERO
        .with(Metric::TOKENS, tokens)
        .with(Metric::COST, cost.unwrap_or_default());
    entry.ended(
        Outcome::Expired,
        &charged(held, Method::Kept),
        Duration::ZERO,
    )
}

fn charged(charged: Amounts, method: Method) -> Use {
    Use {
        charged,
        cost: Some(charged.get(Metric::COST)).filter(|cost| *cost > 0),
        method,
        ..Use::default()
    }
}
