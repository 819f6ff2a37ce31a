//! A token bucket in exact integers.

use std::time::Duration;

use super::Fit;
use crate::clock::At;

/// The level is kept in tokens times the nanoseconds of the window, so that a nanosecond refills
/// exactly `amount` of it: no rounding, whatever the limit.
#[derive(Debug, Clone)]
pub(super) struct Bucket {
    amount: u128,
    capacity: u128,
    every: u128,
    level: u128,
    debt: u128,
    updated: At,
}

impl Bucket {
    pub(super) fn new(amount: u64, capacity: u64, every_nanos: u64, now: At) -> Self {
        let every = u128::from(every_nanos);
        let capacity = u128::from(capacity) * every;
        Self {
            amount: u128::from(amount),
            capacity,
            every,
            level: capacity,
            debt: 0,
            updated: now,
        }
    }

    pub(super) fn fit(&mut self, now: At, cost: u64) -> Fit {
        self.refill(now);
        let cost = u128::from(cost) * self.every;
        if cost > self.capacity {
            return Fit::Never;
        }
        let missing = (cost + self.debt).saturating_sub(self.level);
        match (missing, self.amount) {
            (0, _) => Fit::Now,
            (_, 0) => Fit::Never,
            _ => Fit::After(span(missing.div_ceil(self.amount))),
        }
    }

    pub(super) fn charge(&mut self, now: At, cost: u64) {
        self.refill(now);
        let cost = u128::from(cost) * self.every;
        let paid = cost.min(self.level);
        self.level -= paid;
        self.debt += cost - paid;
    }

    pub(super) fn remaining(&mut self, now: At) -> u64 {
        self.refill(now);
        u64::try_from(self.level / self.every).unwrap_or(u64::MAX)
    }

    pub(super) fn reset(&mut self, now: At) -> Duration {
        self.refill(now);
        let missing = self.capacity - self.level + self.debt;
        match self.amount {
            0 => Duration::ZERO,
            amount => span(missing.div_ceil(amount)),
        }
    }

    fn refill(&mut self, now: At) {
        let elapsed = now.since(self.updated).as_nanos();
        self.updated = self.updated.max(now);
        let refill = elapsed.saturating_mul(self.amount);
        let repaid = refill.min(self.debt);
        self.debt -= repaid;
        self.level = self
            .level
            .saturating_add(refill - repaid)
            .min(self.capacity);
    }
}

fn span(nanos: u128) -> Duration {
    Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
}
