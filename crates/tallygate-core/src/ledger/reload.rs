//! Putting another policy in force.
use super::{Keys, Ledger};
use crate::counter::rescale;
use crate::meter::Meter;
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
    /// are asked again; rules that are new do not bind them.
    pub fn replace_policy(&mut self, policy: &Policy, now: Time) {
        let now = self.advance(now);
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
        let shadow = |at: &u32| {
            self.slot(*at)
                .is_some_and(|slot| slot.rule.mode == Mode::Shadow)
        };
        self.shadows = self.active.iter().any(shadow);
        self.ask_all_again();
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
        for (_, hold) in &mut self.holds {
            without(hold.keys_mut());
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
