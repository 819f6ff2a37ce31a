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
        self.policy = policy.clone();
        let now = self.now;
        let mut known: BTreeMap<String, u32> = BTreeMap::new();
        for at in &self.active {
            if let Some(slot) = self.slot(*at) {
                known.insert(slot.rule.tag.clone(), *at);
            }
        }
        self.active.clear();
        for rule in policy.rules() {
            let at = match known.remove(&rule.tag) {
                Some(at) => self.change_rule(at, rule, now),
                None => self.add_rule(rule),
            };
            self.active.push(at);
        }
        let gone = known.into_values();
        let homeless = gone.flat_map(|rule| self.drop_rule(rule)).collect();
        self.rehome(homeless);
        self.note_shadows();
        self.refresh_all();
        self.ask_all_again();
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
