//! Leases: while there is plenty of a limit, a process that asks for much of it decides by itself, out of a share that the
//! store has set aside for it; where it is scarce, each decision is made in the store.
//!
//! # What is promised
//! *Never over.* What is charged in the store and all shares together never exceed a limit, at any instant, whatever process
//! dies and however long a message is under way. A share is spent here, and charged when its spending is reported; so what is
//! admitted in a span of `t` is never more than `B + r·t` for a bucket, `L` for the others: what was charged in the span, and
//! of the shares at its end. A share grows only in the store, where half the limit stays free beside all shares, nobody stands
//! in line and nobody was denied for it. One that is not renewed counts as spent at the moment at which it ended, and the
//! process stops spending it before that: it measures from the *sending* of the report, whose answer told when the share
//! ends, and leaves a margin for clocks that run unevenly. Reports carry numbers: one that is sent twice, or overtaken, counts once.
//!
//! *Settled as if known, or less.* What a reservation holds stays in the share until it ends, and its refund is left of the
//! share again: nothing is given back that was not taken, and nothing twice. What was used is charged to the store's counter
//! at the report after the settlement, not at the reservation: a bucket has what was used back later by the time from the one
//! to the other, a sliding window frees it so much later, and never earlier. A refund to a share that has ended since (a
//! calendar window that is over, a store that could not be reached for the life of the share) gives nothing. An overrun goes to
//! the share if it has room, else it is charged beside it at once, and is debt.
//!
//! *Weaker than exact.* A share that is not spent is not free for others until it is recalled, which a denial does at once; a
//! denial is therefore asked again for [`GRACE`] before it is told. Standings count what others have set aside as used. A process
//! that dies strands its share for [`LIFE`], [`STANDING_LIFE`] where `store_down` is `share`, and [`IDLE_LIFE`] where only
//! open reservations are left of it. A machine that is suspended does not notice that its share has ended.
//!
//! Only who will settle here can be decided here. Limits of calls in flight are never leased: a slot comes back by its call
//! alone, so each is worth a message.
mod book;
mod holds;
mod keeper;
mod moment;
mod pace;
mod regime;
mod share;
#[cfg(test)]
mod tests;

pub use regime::Regime;

use self::book::{Book, Place};
use self::moment::{Moment, Now, micros};
use super::desk::Desk;
use super::store::Errand;
use crate::store::{LeaseStats, Reserve, SettledBy};
use parking_lot::Mutex;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tallygate_core::{Decision, Time};
use tokio::sync::Notify;
use tokio::time::Instant;

/// How long a share lives without a report.
pub(crate) const LIFE: Duration = Duration::from_secs(2);

/// The same where it is all there is to spend when the store cannot be reached: `store_down: share`.
pub(crate) const STANDING_LIFE: Duration = Duration::from_secs(30);

/// The same where open reservations are all that is left of it.
pub(crate) const IDLE_LIFE: Duration = Duration::from_secs(10);

/// A share of which nothing was wanted for so long is given back.
pub(crate) const IDLE: Duration = Duration::from_secs(1);

/// For how many times [`pace::SPAN`] a share is where it is all there is when the store cannot be reached.
pub(crate) const STANDING_SPANS: u64 = 10;

/// How long a demand that does not fit because of others' shares is asked again, and how often.
const GRACE: Duration = Duration::from_millis(20);
const GRACES: u32 = 4;

/// The leases of a process.
pub(crate) struct Leases {
    book: Mutex<Book>,
    /// Wakes the keeper.
    bell: Arc<Notify>,
    /// Tells that a report was answered.
    answered: Notify,
    origin: Instant,
    decisions: AtomicU64,
}

impl Leases {
    pub(crate) fn new() -> Self {
        Self {
            book: Mutex::default(),
            bell: Arc::default(),
            answered: Notify::new(),
            origin: Instant::now(),
            decisions: AtomicU64::new(0),
        }
    }

    /// Admits a demand out of shares; nothing if it has to be decided in the store.
    pub(crate) fn decide(
        &self,
        errand: &Errand,
        ask: &Reserve<'_>,
        there: Time,
    ) -> Option<Decision> {
        let is_ours = ask.settled_by == SettledBy::ThisNode && ask.idempotency_key.is_none();
        let place = match is_ours {
            true => Place::Here,
            false => Place::Anywhere,
        };
        let now = self.now(there);
        let (admission, presses) = {
            let mut book = self.book.lock();
            let admission = book.decide(&errand.ask, place, now);
            (admission, book.presses(&errand.ask.accounts, now.here))
        };
        self.ring(presses);
        admission.map(|admission| self.counted(Decision::Admit(admission)))
    }

    /// Admits a demand while the store cannot be reached: out of shares for the limits whose `store_down` is `share`, without
    /// counting for those that are open; nothing if a share has no room, or a limit is closed.
    pub(crate) fn decide_alone(&self, errand: &Errand, there: Time) -> Option<Decision> {
        let admission = self
            .book
            .lock()
            .decide_alone(&errand.ask, self.now(there))?;
        Some(self.counted(Decision::Admit(admission)))
    }

    fn counted(&self, decision: Decision) -> Decision {
        self.decisions.fetch_add(1, Ordering::Relaxed);
        decision
    }

    /// Has the keeper look again.
    fn ring(&self, presses: bool) {
        if presses {
            self.bell.notify_one();
        }
    }

    /// Somebody was denied because of the share of this account.
    pub(crate) fn recall(&self, key: &[u8], there: Time) {
        self.book.lock().recall(key, self.now(there).here);
        self.ring(true);
    }

    /// Other rules are in force.
    pub(crate) fn replace(&self, desk: &Desk, there: Time) {
        self.book.lock().replace(desk, self.now(there).here);
        self.ring(true);
    }

    /// How each limit that applies to a demand is decided.
    pub(crate) fn regimes(&self, errand: &Errand, there: Time) -> Vec<(Arc<str>, Regime)> {
        let (book, at) = (self.book.lock(), self.now(there).here);
        let accounts = errand.ask.accounts.iter();
        let regimes = accounts.flat_map(|account| {
            let names = account
                .rule
                .rule
                .limits()
                .map(|limit| limit.info().name.clone());
            names.zip(book.regimes(account, at)).collect::<Vec<_>>()
        });
        regimes.collect()
    }

    /// How many reservations are open that were decided here.
    pub(crate) fn open(&self) -> usize {
        self.book.lock().counts(Moment::default()).0
    }

    /// What they have done so far; `calls` is the number of calls to the store.
    pub(crate) fn stats(&self, calls: u64) -> LeaseStats {
        let here = self.now(Time::ZERO).here;
        LeaseStats {
            decisions: self.decisions.load(Ordering::Relaxed),
            accounts: self.book.lock().counts(here).1,
            calls,
        }
    }

    fn now(&self, there: Time) -> Now {
        Now {
            here: self.moment(Instant::now()),
            there,
        }
    }

    fn moment(&self, instant: Instant) -> Moment {
        Moment(1 + micros(instant.saturating_duration_since(self.origin)))
    }
}

impl Drop for Leases {
    fn drop(&mut self) {
        // The keeper finds nothing to keep, and goes.
        self.bell.notify_one();
    }
}
