//! Reservations that no limit counts: admitted while the store was out of reach, by limits that are `open` then.
use crate::redis::desk::RECEIPT_TTL;
use crate::redis::names;
use crate::redis::record::{Ending, Held};
use crate::redis::store::Errand;
use crate::store::SettleError;
use parking_lot::Mutex;
use std::collections::{BTreeSet, HashMap};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;
use tallygate_core::{
    Admission, Amounts, Decision, Extended, Outcome, Receipt, Replay, ReservationId, Span, Time,
};

/// The uncounted reservations of this process. Other processes do not know them, nor does it after a restart: nothing
/// is lost with them but their receipts.
#[derive(Default)]
pub(crate) struct Uncounted {
    known: Mutex<Known>,
    /// How many are known, so that who has none need not look.
    count: AtomicUsize,
    admitted: AtomicU64,
}

#[derive(Default)]
struct Known {
    by_id: HashMap<ReservationId, Local>,
    by_name: HashMap<[u8; 16], ReservationId>,
    /// When each is forgotten.
    ends: BTreeSet<(Time, u128)>,
}

struct Local {
    held: Held,
    ended: Option<Receipt>,
    forgotten: Time,
}

/// How many are known at once; past it the one that would be forgotten next is.
const MOST: usize = 100_000;

impl Uncounted {
    /// Admits; a second call under the same idempotency key gets the first one's reservation.
    pub(super) fn admit(&self, errand: &Errand, now: Time) -> Decision {
        let mut known = self.known.lock();
        known.sweep(now);
        let named = errand.ask.name.and_then(|name| known.by_name.get(&name));
        let decision = match named.and_then(|id| Some((*id, known.by_id.get(id)?))) {
            Some((id, local)) => admission(id, local, local.replay(now)),
            None => {
                self.admitted.fetch_add(1, Ordering::Relaxed);
                let id = names::new_id(names::home(errand.ask.id));
                let local = Local::new(errand, now);
                let fresh = admission(id, &local, Replay::Fresh);
                known.keep(id, local);
                fresh
            }
        };
        self.count.store(known.by_id.len(), Ordering::Relaxed);
        Decision::Admit(decision)
    }

    /// How many were admitted so far.
    pub(super) fn admitted(&self) -> u64 {
        self.admitted.load(Ordering::Relaxed)
    }

    /// How many are open.
    pub(crate) fn open(&self, now: Time) -> usize {
        if self.is_empty() {
            return 0;
        }
        let known = self.known.lock();
        let open = known.by_id.values();
        open.filter(|local| local.ended.is_none() && local.held.deadline > now)
            .count()
    }

    /// Ends one; nothing if it is none of them.
    pub(crate) fn end(
        &self,
        id: ReservationId,
        (outcome, used): (Outcome, Ending),
        now: Time,
    ) -> Option<Result<Receipt, SettleError>> {
        if self.is_empty() {
            return None;
        }
        let mut known = self.known.lock();
        let local = known.by_id.get_mut(&id)?;
        let receipt = match local.receipt(now) {
            Some(receipt) => receipt.again(),
            None => {
                let receipt = local.held.receipt(outcome, &used);
                local.ended = Some(receipt);
                receipt
            }
        };
        Some(match receipt.outcome == outcome {
            true => Ok(receipt),
            false => Err(SettleError::Standing(Box::new(receipt))),
        })
    }

    /// Extends one; nothing if it is none of them.
    pub(crate) fn extend(
        &self,
        id: ReservationId,
        (more, ttl): (Amounts, Option<Span>),
        now: Time,
    ) -> Option<Result<Extended, SettleError>> {
        if self.is_empty() {
            return None;
        }
        let mut known = self.known.lock();
        let local = known.by_id.get_mut(&id)?;
        if let Some(receipt) = local.receipt(now) {
            return Some(Err(SettleError::Standing(Box::new(receipt))));
        }
        let reserved = local.held.total().zip(&more, u64::saturating_add);
        local.held.parts = vec![reserved];
        if let Some(ttl) = ttl {
            local.held.deadline = now.plus(ttl);
        }
        let expires_at = local.held.deadline;
        known.postpone(id);
        Some(Ok(Extended::Granted {
            expires_at,
            reserved,
        }))
    }

    fn is_empty(&self) -> bool {
        self.count.load(Ordering::Relaxed) == 0
    }
}

impl Local {
    fn new(errand: &Errand, now: Time) -> Self {
        let deadline = now.plus(errand.ask.ttl);
        Self {
            held: Held {
                accounts: Vec::new(),
                parts: vec![errand.ask.demand],
                deadline,
                name: errand.ask.name,
            },
            ended: None,
            forgotten: forgotten(deadline),
        }
    }

    /// How it ended, by its deadline too.
    fn receipt(&self, now: Time) -> Option<Receipt> {
        let expired = || (self.held.deadline <= now).then(|| self.held.expired());
        self.ended.or_else(expired)
    }

    fn replay(&self, now: Time) -> Replay {
        let ended = self.receipt(now);
        ended.map_or(Replay::Open, |receipt| Replay::Ended(receipt.outcome))
    }
}

impl Known {
    fn keep(&mut self, id: ReservationId, local: Local) {
        if self.by_id.len() >= MOST {
            self.forget_next();
        }
        self.ends.insert((local.forgotten, id.bits()));
        self.by_name.extend(local.held.name.map(|name| (name, id)));
        self.by_id.insert(id, local);
    }

    fn postpone(&mut self, id: ReservationId) {
        if let Some(local) = self.by_id.get_mut(&id) {
            self.ends.remove(&(local.forgotten, id.bits()));
            local.forgotten = forgotten(local.held.deadline);
            self.ends.insert((local.forgotten, id.bits()));
        }
    }

    fn sweep(&mut self, now: Time) {
        while self.ends.first().is_some_and(|(at, _)| *at <= now) {
            self.forget_next();
        }
    }

    fn forget_next(&mut self) {
        let next = self.ends.pop_first();
        let local = next.and_then(|(_, id)| self.by_id.remove(&ReservationId::from_bits(id)));
        if let Some(name) = local.and_then(|local| local.held.name) {
            self.by_name.remove(&name);
        }
    }
}

/// A receipt is kept for repeats as long as the store would.
fn forgotten(deadline: Time) -> Time {
    deadline.plus(RECEIPT_TTL.into())
}

fn admission(id: ReservationId, local: &Local, replay: Replay) -> Admission {
    Admission {
        id,
        expires_at: local.held.deadline,
        reserved: local.held.total(),
        standings: Vec::new(),
        shadowed: Vec::new(),
        waited: Duration::ZERO,
        replay,
    }
}

#[cfg(test)]
mod tests;
