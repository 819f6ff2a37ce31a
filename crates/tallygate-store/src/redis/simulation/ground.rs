//! What was really taken of every limit, whatever a store has forgotten of it since, held against the counters at every
//! call: a counter, with all shares of it, never shows less than what was taken, failovers' losses apart, and never grows
//! past its limit, overruns apart.
use super::truth::{Moment, Verdict};
use crate::redis::names::Account;
use crate::redis::sheet::{Lease, Sheet, instant};
use std::collections::BTreeMap;
use std::sync::Arc;
use tallygate_core::remote::{self, Numbers, RemoteLimit};
use tallygate_core::{Amounts, Shape, Time};

type Key = Vec<u8>;

/// Everything that was taken, of all accounts.
#[derive(Debug, Clone, Default)]
pub(in crate::redis) struct Ground {
    charges: Vec<Charge>,
    /// Which of them are on an account, by the time at which they were taken.
    by_key: BTreeMap<Key, Vec<usize>>,
    /// How the script last left an account.
    sheets: BTreeMap<Key, Sheet>,
    /// By how much each limit of an account was past its amount; none where that is not known.
    excess: BTreeMap<Key, Vec<u64>>,
    is_strange: bool,
    /// What failovers have lost of each limit of an account.
    lost: BTreeMap<Key, Vec<u64>>,
    failovers: u64,
    worst: Overshoot,
}

/// An amount that was taken: what is held, and once it has ended what was used of that.
#[derive(Debug, Clone, Copy)]
struct Charge {
    at: u64,
    taken: Amounts,
}

/// By how much a limit was passed at most, and what had been lost of it then.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::redis) struct Overshoot {
    pub(in crate::redis) most: u64,
    pub(in crate::redis) lost: u64,
}

/// How a call left an account.
#[derive(Debug, Clone, Copy)]
pub(super) struct Left<'a> {
    pub(super) account: &'a Account,
    pub(super) sheet: &'a Sheet,
    pub(super) now: Time,
}

impl Ground {
    /// Notes that an amount was taken of these accounts; answers its number.
    pub(in crate::redis) fn take<'a>(
        &mut self,
        keys: impl Iterator<Item = &'a Key>,
        taken: Amounts,
        at: u64,
    ) -> usize {
        let number = self.charges.len();
        self.charges.push(Charge { at, taken });
        for key in keys {
            self.by_key.entry(key.clone()).or_default().push(number);
        }
        number
    }

    /// Notes that it came to this.
    pub(in crate::redis) fn amend(&mut self, number: usize, used: Amounts) {
        self.charges[number].taken = used;
    }

    /// A process's share of an account, if the script has one that lives at `now`.
    pub(in crate::redis) fn lease(&self, key: &[u8], node: [u8; 8], now: u64) -> Option<&Lease> {
        let leases = &self.sheets.get(key)?.leases;
        let mut mine = leases.iter().filter(|lease| lease.node == node);
        mine.find(|lease| lease.till > now)
    }

    /// By how much a limit was passed at most.
    pub(in crate::redis) fn worst(&self) -> Overshoot {
        self.worst
    }

    pub(in crate::redis) fn failovers(&self) -> u64 {
        self.failovers
    }

    /// Counters may stand anyhow at the next call: the clock was set.
    pub(super) fn allow_anything_once(&mut self) {
        self.excess.clear();
        self.is_strange = true;
    }

    /// A replica has taken over that shows this much less of these limits.
    pub(super) fn fail_over(&mut self, lost: Vec<(Arc<Account>, Vec<u64>)>) {
        self.failovers += 1;
        for (account, amounts) in lost {
            let limits = account.rule.rule.limits();
            let none = vec![0; amounts.len()];
            let sums = self.lost.entry(account.key.clone()).or_insert(none);
            for ((sum, amount), limit) in sums.iter_mut().zip(amounts).zip(limits) {
                // One burst or window each time, at the very worst.
                *sum += amount.min(limit.largest());
            }
        }
        self.allow_anything_once();
    }

    /// Looks how a call left an account; `overran` if it charged what was used and not held.
    pub(super) fn observe(&mut self, left: Left<'_>, moment: Moment, overran: bool) -> Verdict {
        self.no_share_is_past(left, overran)?;
        self.nothing_is_forgotten(left, moment)?;
        let key = left.account.key.clone();
        self.sheets.insert(key, left.sheet.clone());
        Ok(())
    }

    /// What is charged and all shares together do not grow past a limit.
    fn no_share_is_past(&mut self, left: Left<'_>, overran: bool) -> Verdict {
        let now: Vec<u64> = left.standings().map(|one| one.debt).collect();
        let fresh = (!self.is_strange).then(|| vec![0; now.len()]);
        let before = self.excess.get(&left.account.key).cloned().or(fresh);
        self.excess.insert(left.account.key.clone(), now.clone());
        let Some(before) = before.filter(|_| !overran && left.is_enforced()) else {
            return Ok(());
        };
        let limits = left.account.rule.rule.limits();
        for ((before, now), limit) in before.iter().zip(&now).zip(limits) {
            if now > before {
                let (name, sheet) = (&limit.info().name, left.sheet);
                return Err(format!(
                    "{name}: charged and shared {now} too much: {sheet:?}"
                ));
            }
        }
        Ok(())
    }

    /// No counter shows less than what was taken of it.
    fn nothing_is_forgotten(&mut self, left: Left<'_>, moment: Moment) -> Verdict {
        let limits = left.account.rule.rule.limits().enumerate();
        for ((at, limit), used) in limits.zip(left.used()) {
            let real = self.level(left.account, limit, moment.fair);
            let lost = self.lost(left.account, at);
            if real > used + lost {
                let name = &limit.info().name;
                return Err(format!(
                    "{name}: {real} is taken, the counter shows {used}, and {lost} was lost"
                ));
            }
            self.bounded(limit, (real, lost))?;
        }
        Ok(())
    }

    fn lost(&self, account: &Account, limit: usize) -> u64 {
        let lost = self.lost.get(&account.key);
        lost.and_then(|lost| lost.get(limit)).copied().unwrap_or(0)
    }

    /// What is taken of an account fits its limits.
    pub(super) fn fits(&mut self, account: &Account, now: u64) -> Verdict {
        for (at, limit) in account.rule.rule.limits().enumerate() {
            let real = self.level(account, limit, now);
            self.bounded(limit, (real, self.lost(account, at)))?;
        }
        Ok(())
    }

    /// No more is taken than a limit gives and failovers have lost of it.
    fn bounded(&mut self, limit: RemoteLimit<'_>, (real, lost): (u64, u64)) -> Verdict {
        let most = real.saturating_sub(limit.largest());
        if most > lost.min(self.failovers * limit.largest()) {
            let name = &limit.info().name;
            return Err(format!("{name}: {most} too much, and {lost} was lost"));
        }
        if most > 0 {
            self.worst = self.worst.max(Overshoot { most, lost });
        }
        Ok(())
    }

    /// What is taken of a limit, by its exact definition.
    fn level(&self, account: &Account, limit: RemoteLimit<'_>, now: u64) -> u64 {
        let numbers = self.by_key.get(&account.key).map_or(&[][..], Vec::as_slice);
        let first = match limit.numbers(Time::ZERO) {
            Numbers::Sliding { every, .. } => {
                numbers.partition_point(|number| self.charges[*number].at + every <= now)
            }
            _ => 0,
        };
        let charges = numbers
            .iter()
            .skip(first)
            .map(|number| self.charges[*number]);
        let metric = limit.metric();
        let charges = charges.map(|charge| (charge.at, charge.taken.get(metric)));
        match limit.numbers(Time::ZERO) {
            Numbers::Bucket { amount, .. } => match limit.info().shape {
                Shape::Bucket { every, .. } => {
                    in_bucket(charges, (amount, every.as_nanos() / 1000), now)
                }
                _ => 0,
            },
            // All that is left of it, or all of it, is in one window.
            Numbers::Sliding { .. } | Numbers::Fixed { .. } => charges.map(|one| one.1).sum(),
            // Slots are counted by those who hold them.
            Numbers::Gauge { .. } => 0,
        }
    }
}

impl Sheet {
    /// Leaves out the shares that have ended.
    pub(super) fn forget_ended(&mut self, account: &Account, now: Time) {
        self.leases.retain(|lease| instant(lease.till) > now);
        let limits = account.rule.rule.limits().enumerate();
        for ((at, limit), seen) in limits.zip(&mut self.counters) {
            let amounts = self.leases.iter().filter_map(|lease| lease.amounts.get(at));
            let sum = amounts.sum();
            seen.shared = (sum, limit.cost(sum));
        }
    }
}

impl Left<'_> {
    fn standings(&self) -> impl Iterator<Item = tallygate_core::Standing> {
        let view = remote::Sheet {
            rule: &self.account.rule.rule,
            counters: &self.sheet.counters,
        };
        remote::standings(&[view], self.now).into_iter()
    }

    /// What of each limit is used, shares included.
    pub(super) fn used(&self) -> Vec<u64> {
        self.standings().map(|standing| standing.used).collect()
    }

    fn is_enforced(&self) -> bool {
        self.account.rule.rule.is_enforced()
    }
}

/// A bucket's level, in whole tokens: a unit is a token times the length of the window.
fn in_bucket(
    charges: impl Iterator<Item = (u64, u64)>,
    (amount, every): (u64, u64),
    now: u64,
) -> u64 {
    let (mut level, mut last) = (0u128, 0);
    for (at, taken) in charges {
        level = level.saturating_sub(u128::from(at - last) * u128::from(amount));
        level += u128::from(taken) * u128::from(every);
        last = at;
    }
    let level = level.saturating_sub(u128::from(now - last) * u128::from(amount));
    u64::try_from(level / u128::from(every)).unwrap_or(u64::MAX)
}
