//! Putting another policy in force.
use super::{Keys, Ledger};
use crate::counter::rescale;
use crate::meter::Meter;
use crate::num;
use crate::policy::{CompiledRule, Policy};
use crate::shape::Mode;
use crate::slot::Slot;
use crate::time::Time;
use std::collections::HashMap;
use std::sync::Arc;

impl Ledger {
    /// Puts another policy in force. Counters of rules that are written as before are untouched; where only amounts
    /// differ, what was taken stays taken; rules that have gone take their counters with them. Callers in line
    /// are asked again under the new rules.
    pub fn replace_policy(&mut self, policy: &Policy, now: Time) {
        let now = self.advance(now);
        let mut known: HashMap<String, u32> = HashMap::new();
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
        for gone in known.into_values() {
            self.drop_rule(gone);
        }
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

    fn drop_rule(&mut self, at: u32) {
        let Some(slot) = self.slots.get_mut(num::index(at)).and_then(Option::take) else {
            return;
        };
        self.counters = self.counters.saturating_sub(slot.accounts.len());
        let mut slot = slot;
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
        homeless.into_iter().for_each(|waiter| self.rehome(waiter));
        self.serve_agenda();
    }
}
