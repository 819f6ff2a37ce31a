//! Putting another policy in force.
use super::{Keys, Ledger};
use crate::counter::rescale;
use crate::meter::Meter;
use crate::metric::Renaming;
use crate::num;
use crate::policy::{CompiledRule, Policy};
use crate::shape::Mode;
use crate::slot::Slot;
use crate::time::Time;
use std::collections::BTreeMap;
use std::sync::Arc;

impl Ledger {
    /// Puts another policy in force. Counters of rules that are written as before are untouched; where only amounts
    /// differ, what was taken stays taken; rules that have gone take their counters with them. Callers in line
    /// are asked again; rules that are new do not bind them. What is held, waited for or told in receipts of a metric stays
    /// that metric's, wherever its name stands among the others now; a metric that has gone takes its amounts with it.
    pub fn replace_policy(&mut self, policy: &Policy, now: Time) {
        self.advance(now);
        self.put_in_force(policy);
    }

    /// Puts another policy in force at the time it is.
    pub(crate) fn put_in_force(&mut self, policy: &Policy) {
        self.record_policy(policy);
        if let Some(renaming) = self.policy.metrics().renaming(policy.metrics()) {
            self.rename(&renaming);
        }
        let before = std::mem::replace(&mut self.policy, policy.clone());
        let is_more = before
            .rules()
            .iter()
            .enumerate()
            .all(|(place, rule)| stands_at(policy, place, rule));
        let homeless = self.change_rules(&before);
        self.rehome(homeless);
        self.note_shadows();
        self.refresh_all();
        // Rules that are new bind nobody in line.
        if !is_more {
            self.ask_all_again();
        }
    }

    /// Changes, adds and drops rules, from those `before` to those in force; what stands where it stood is not looked into. Answers
    /// who stood in the lines of rules that went.
    fn change_rules(&mut self, before: &Policy) -> Vec<u32> {
        let policy = self.policy.clone();
        let former = std::mem::take(&mut self.active);
        let numbered = before.rules().iter().zip(&former).enumerate();
        let moved = numbered.filter(|(place, (rule, _))| !stands_at(&policy, *place, rule));
        let mut known: BTreeMap<&str, u32> = moved
            .map(|(_, (rule, at))| (rule.tag.as_str(), *at))
            .collect();
        for (place, rule) in policy.rules().iter().enumerate() {
            let same = former.get(place).filter(|_| stands_at(before, place, rule));
            let at = match same {
                Some(at) => *at,
                None => self.put_rule(known.remove(rule.tag.as_str()), rule),
            };
            self.active.push(at);
        }
        let gone = known.into_values();
        gone.flat_map(|rule| self.drop_rule(rule)).collect()
    }

    /// Puts a rule in force, with the counters of number `known` if they mean the same.
    fn put_rule(&mut self, known: Option<u32>, rule: &Arc<CompiledRule>) -> u32 {
        match known {
            Some(at) => self.change_rule(at, rule, self.now),
            None => self.add_rule(rule),
        }
    }

    /// Puts all amounts where their metrics stand now. Counters need it not: each is of a rule, which names its metric.
    fn rename(&mut self, renaming: &Renaming) {
        for hold in self.holds.iter_mut() {
            hold.amounts_mut().for_each(|all| renaming.apply(all));
        }
        self.holds.count_empty();
        for (_, waiter) in &mut self.waiters {
            renaming.apply(waiter.demand_mut());
        }
        for receipt in self.receipts.iter_mut() {
            receipt
                .amounts_mut()
                .into_iter()
                .for_each(|all| renaming.apply(all));
        }
    }

    pub(crate) fn note_shadows(&mut self) {
        let mut rules = self.policy.rules().iter();
        self.shadows = rules.any(|rule| rule.mode == Mode::Shadow);
    }

    fn add_rule(&mut self, rule: &Arc<CompiledRule>) -> u32 {
        self.slots.push(Some(Slot::new(rule.clone(), self.seed)));
        num::index32(self.slots.len().saturating_sub(1))
    }

    fn change_rule(&mut self, at: u32, rule: &Arc<CompiledRule>, now: Time) -> u32 {
        if let Some(Some(slot)) = self.slots.get_mut(num::index(at)) {
            let old = slot.rule.clone();
            if Arc::ptr_eq(&old, rule) {
                return at;
            }
            slot.change(rule.clone());
            for (number, (before, after)) in old.limits.iter().zip(&rule.limits).enumerate() {
                let (Meter::Bucket(before), Meter::Bucket(after)) = (&before.meter, &after.meter)
                else {
                    continue;
                };
                if before == after {
                    continue;
                }
                for account in slot.accounts.iter_mut() {
                    let motion = account.motion().and_then(|at| self.motions.get_mut(at));
                    let track = motion.and_then(|motion| motion.tracks.get_mut(number));
                    if let Some(state) = account.states_mut().get_mut(number) {
                        rescale(state, track, (before, after), now);
                    }
                }
            }
        }
        at
    }

    /// Drops a rule with its counters; answers who stood in their lines.
    fn drop_rule(&mut self, at: u32) -> Vec<u32> {
        let Some(mut slot) = self.slots.get_mut(num::index(at)).and_then(Option::take) else {
            return Vec::new();
        };
        self.counters = self.counters.saturating_sub(slot.accounts.len());
        for place in slot
            .accounts
            .iter_mut()
            .filter_map(|account| account.motion())
        {
            self.motions.remove(place);
        }
        let without = |keys: &mut Keys| keys.0.retain(|key| key.slot != at);
        for hold in self.holds.iter_mut() {
            without(&mut hold.keys);
        }
        let mut homeless = Vec::new();
        for (place, waiter) in &mut self.waiters {
            without(waiter.keys_mut());
            if waiter.stands_at(at) {
                homeless.push(num::index32(place));
            }
        }
        homeless
    }
}

/// Whether this very rule stands at this place.
fn stands_at(policy: &Policy, place: usize, rule: &Arc<CompiledRule>) -> bool {
    let there = policy.rules().get(place);
    there.is_some_and(|there| Arc::ptr_eq(there, rule))
}
