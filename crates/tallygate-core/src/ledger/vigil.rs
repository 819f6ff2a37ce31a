//! Callers in line that do not wait for quotas.
//!
//! One that waits for a rate is denied as soon as a quota has no room for it, so that it can ask for something else. It stands in
//! no line of the quota, so the counters of the quotas it depends on are watched: whenever one of them is charged, those whose
//! demand does not fit any more are answered, the largest first.
use super::judge::{Blocker, Claim, NEWCOMER};
use super::line::WaitsFor;
use super::{Keys, Ledger};
use crate::account::Key;
use crate::num;
use crate::shape::Mode;
use smallvec::SmallVec;
use std::collections::{BTreeMap, BTreeSet};

/// The counters that a caller watches, with what it wants of each.
pub(crate) type Watches = SmallVec<[(Key, usize, u64); 2]>;

/// Who watches which counters.
#[derive(Debug, Default)]
pub(crate) struct Vigil {
    /// What each wants and its place, by the number of the counter.
    watchers: BTreeMap<(Key, usize), BTreeSet<(u64, u32)>>,
    /// What was charged and is not looked at yet.
    charged: Vec<Key>,
}

impl Vigil {
    /// These accounts were charged.
    #[inline]
    pub(crate) fn note(&mut self, keys: &Keys) {
        if !self.watchers.is_empty() {
            self.charged.extend_from_slice(&keys.0);
        }
    }

    /// Any of them may have less room than before.
    pub(crate) fn note_all(&mut self) {
        let keys = self.watchers.keys().map(|(key, _)| *key);
        self.charged.extend(keys);
    }

    /// Whether anything was charged that somebody watches, as far as is known.
    #[inline]
    pub(crate) fn has_work(&self) -> bool {
        !self.charged.is_empty()
    }

    fn begin(&mut self, watches: &Watches, at: u32) {
        for (key, counter, amount) in watches {
            let watchers = self.watchers.entry((*key, *counter)).or_default();
            watchers.insert((*amount, at));
        }
    }

    pub(crate) fn end(&mut self, watches: Watches, at: u32) {
        for (key, counter, amount) in watches {
            if let Some(watchers) = self.watchers.get_mut(&(key, counter)) {
                watchers.remove(&(amount, at));
                if watchers.is_empty() {
                    self.watchers.remove(&(key, counter));
                }
            }
        }
    }

    /// Who wants most of a counter.
    fn largest(&self, key: Key, counter: usize) -> Option<(u64, u32)> {
        self.watchers.get(&(key, counter))?.last().copied()
    }
}

impl Ledger {
    /// Has a caller in line told of the quotas it depends on.
    pub(crate) fn watch(&mut self, at: u32) {
        let Some((keys, demand, _)) = self.claim_of(at) else {
            return;
        };
        let mut watches = Watches::new();
        for key in &keys.0 {
            let limits = self
                .slot(key.slot)
                .into_iter()
                .flat_map(|slot| &slot.rule.limits);
            for (counter, limit) in limits.enumerate() {
                let amount = demand.get(limit.metric);
                if amount > 0 && limit.info.is_quota() {
                    watches.push((*key, counter, amount));
                }
            }
        }
        self.vigil.begin(&watches, at);
        if let Some(waiter) = self.waiters.get_mut(num::index(at)) {
            waiter.set_watches(watches);
        }
    }

    /// Whether a caller in line is kept by something it does not wait for.
    pub(crate) fn is_kept(&self, at: u32, blockers: &[Blocker]) -> bool {
        let waiter = self.waiters.get(num::index(at));
        waiter.is_some_and(|waiter| keep(blockers, waiter.patience.waits_for))
    }

    /// Answers those in line whom a quota that was charged has no room for any more.
    pub(crate) fn turn_away_kept(&mut self) {
        while let Some(key) = self.vigil.charged.pop() {
            let limits = self.slot(key.slot).map_or(0, |slot| slot.rule.limits.len());
            for counter in 0..limits {
                while let Some(at) = self.first_kept(key, counter) {
                    self.turn_away(at);
                }
            }
        }
    }

    /// The one that wants most of a quota, if that is more than it has.
    fn first_kept(&mut self, key: Key, counter: usize) -> Option<u32> {
        let (amount, at) = self.vigil.largest(key, counter)?;
        let (now, offset) = (self.now, self.offset);
        let slot = self.slots.get_mut(num::index(key.slot))?.as_mut()?;
        slot.refresh(now, offset);
        let limit = slot.rule.limits.get(counter)?;
        let state = slot.state(slot.accounts.lookup(key), counter);
        let fits = slot.gate(limit, counter, now).fits(&state, amount);
        (slot.rule.mode == Mode::Enforce && !fits).then_some(at)
    }

    /// Refuses a caller in line with what keeps it now.
    pub(crate) fn turn_away(&mut self, at: u32) {
        let Some((keys, demand, _)) = self.claim_of(at) else {
            return;
        };
        // It is not behind itself.
        let left = self.unline(at);
        let refusal = self.refuse(Claim {
            keys: &keys,
            demand: &demand,
            order: NEWCOMER,
        });
        self.answer(at, Ok(refusal));
        left.into_iter().for_each(|line| self.put_on_agenda(line));
    }
}

/// Whether a caller that waits for these things does not wait for all of these.
pub(crate) fn keep(blockers: &[Blocker], waits_for: WaitsFor) -> bool {
    let mut blockers = blockers.iter();
    waits_for == WaitsFor::Rates && blockers.any(|blocker| blocker.standing.limit.is_quota())
}

#[cfg(test)]
mod tests;
