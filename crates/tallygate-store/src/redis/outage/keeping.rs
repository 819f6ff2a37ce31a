//! Ends of reservations that the store did not hear of: kept, and delivered later.
use super::Outage;
use crate::redis::link::LinkError;
use crate::redis::names::{self, Tag};
use crate::redis::record::Ending;
use crate::redis::spool::{Entry, Task};
use crate::redis::store::{Errand, Outcomes, Shared, Turn};
use crate::store::{SettleError, StoreError};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use tallygate_core::{Amounts, Extended, Outcome, Receipt, ReservationId, Span};

/// An end on its way: kept if its caller leaves before it is known to have arrived.
struct OnItsWay<'a> {
    outage: &'a Outage,
    entry: Option<Entry>,
}

impl Shared {
    /// Puts a newcomer's demand to the script; one that gets no answer is given up.
    pub(crate) async fn attempt_last(
        self: &Arc<Self>,
        errand: &Errand,
    ) -> Result<Outcomes, LinkError> {
        let outcome = self.attempt(errand, &Turn::newcomer()).await;
        outcome.inspect_err(|_| self.outage.give_up(errand))
    }

    /// Ends a reservation, wherever it is counted; keeps its end if the store gives no answer.
    pub(crate) async fn finish(
        &self,
        id: ReservationId,
        ending: (Outcome, Ending),
    ) -> Result<Receipt, SettleError> {
        if let Some(ended) = self.outage.uncounted.end(id, ending, self.now()) {
            return ended;
        }
        let entry = Entry::end(id, ending);
        if let Some(kept) = self.outage.spool.find(&entry.place()) {
            return self.finish_kept(kept, ending.0).await;
        }
        let mut way = OnItsWay {
            outage: &self.outage,
            entry: Some(entry),
        };
        let ended = self.end(id, ending).await;
        way.entry = None;
        match ended {
            Err(SettleError::Store(StoreError::Down { .. })) => Err(self.outage.keep(entry).await),
            ended => ended,
        }
    }

    /// Tells what came of an end that was kept before; it is delivered first if that can be done now.
    async fn finish_kept(&self, kept: Entry, wanted: Outcome) -> Result<Receipt, SettleError> {
        if self.outage.is_open() {
            return Err(stands(&kept));
        }
        match self.deliver(kept).await {
            Ok(receipt) if receipt.outcome == wanted => Ok(receipt),
            Ok(receipt) => Err(SettleError::Standing(Box::new(receipt))),
            Err(SettleError::Store(_)) => Err(stands(&kept)),
            Err(error) => Err(error),
        }
    }

    /// Extends a reservation, wherever it is counted.
    pub(crate) async fn extend_any(
        self: &Arc<Self>,
        id: ReservationId,
        more: (Amounts, Option<Span>),
    ) -> Result<Extended, SettleError> {
        if let Some(extended) = self.outage.uncounted.extend(id, more, self.now()) {
            return extended;
        }
        let place = (id, names::home(id));
        match self.outage.spool.find(&place) {
            Some(kept) => Err(stands(&kept)),
            None => self.extend(id, more).await,
        }
    }
}

impl Outage {
    /// Keeps an end; answers what its caller is told.
    async fn keep(&self, entry: Entry) -> SettleError {
        let kept = self.spool.keep(entry);
        let told = stands(&kept.entry);
        kept.saved().await;
        told
    }

    /// A demand is given up by its caller: what of it may be held unknown to anybody is to be given back. One of several
    /// groups sees to that itself, for it has another id at each attempt.
    pub(crate) fn give_up(&self, errand: &Errand) {
        if let [group] = &errand.groups[..]
            && errand.unsure.load(Ordering::Relaxed)
        {
            self.keep_withdrawals(errand.ask.id, &[group.tag]);
        }
    }

    /// Keeps what could not be given back.
    pub(crate) fn keep_withdrawals(&self, id: ReservationId, tags: &[Tag]) {
        tags.iter()
            .for_each(|tag| self.spool.keep_withdrawal((id, *tag)));
    }
}

impl Drop for OnItsWay<'_> {
    fn drop(&mut self) {
        if let Some(entry) = self.entry.take() {
            self.outage.spool.keep(entry);
        }
    }
}

/// What stands once it is delivered.
fn stands(kept: &Entry) -> SettleError {
    match kept.task {
        Task::End(outcome, _) => SettleError::Kept { outcome },
        Task::Withdraw => SettleError::Unknown,
    }
}
