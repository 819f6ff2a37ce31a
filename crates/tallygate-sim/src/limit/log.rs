//! An exact sliding log.

use std::collections::VecDeque;
use std::time::Duration;

use super::Fit;
use crate::clock::At;

/// How many entries a log holds before neighbours are put together. An entry put together leaves
/// the window with its later part, so the log then errs towards refusing.
pub(super) const MAX_ENTRIES: usize = 1 << 18;

/// What was charged inside the window, oldest first. A charge at `t` counts in `[t, t + every)`.
#[derive(Debug, Clone)]
pub(super) struct Log {
    amount: u64,
    every: Duration,
    entries: VecDeque<(At, u64)>,
    sum: u64,
}

impl Log {
    pub(super) fn new(amount: u64, every_nanos: u64) -> Self {
        let every = Duration::from_nanos(every_nanos);
        Self {
            amount,
            every,
            entries: VecDeque::new(),
            sum: 0,
        }
    }

    pub(super) fn fit(&mut self, now: At, cost: u64) -> Fit {
        self.expire(now);
        if cost > self.amount {
            return Fit::Never;
        }
        let mut excess = self.sum.saturating_add(cost).saturating_sub(self.amount);
        if excess == 0 {
            return Fit::Now;
        }
        for &(at, charged) in &self.entries {
            excess = excess.saturating_sub(charged);
            if excess == 0 {
                return Fit::After(at.plus(self.every).since(now));
            }
        }
        Fit::Never
    }

    pub(super) fn charge(&mut self, now: At, cost: u64) {
        self.expire(now);
        if cost == 0 {
            return;
        }
        self.sum = self.sum.saturating_add(cost);
        match self.entries.back_mut() {
            Some((at, charged)) if *at >= now => *charged = charged.saturating_add(cost),
            _ => self.entries.push_back((now, cost)),
        }
        if self.entries.len() > MAX_ENTRIES {
            self.halve();
        }
    }

    pub(super) fn remaining(&mut self, now: At) -> u64 {
        self.expire(now);
        self.amount.saturating_sub(self.sum)
    }

    pub(super) fn reset(&mut self, now: At) -> Duration {
        self.expire(now);
        self.entries
            .back()
            .map_or(Duration::ZERO, |&(at, _)| at.plus(self.every).since(now))
    }

    fn expire(&mut self, now: At) {
        while let Some(&(at, charged)) = self.entries.front() {
            if at.plus(self.every) > now {
                return;
            }
            self.sum -= charged;
            self.entries.pop_front();
        }
    }

    fn halve(&mut self) {
        let pairs: Vec<(At, u64)> = self.entries.drain(..).collect();
        let join = |pair: &[(At, u64)]| {
            let charged = pair.iter().map(|entry| entry.1).sum();
            (pair[pair.len() - 1].0, charged)
        };
        self.entries = pairs.chunks(2).map(join).collect();
    }
}
