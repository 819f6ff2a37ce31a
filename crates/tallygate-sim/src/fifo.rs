//! What a perfect scheduler would do: first come, first served, each job at the very instant at which it fits.
//!
//! It is computed in virtual time with exact integers, and is what real drains of a batch are measured against.
//!
//! ```
//! use std::time::Duration;
//! use tallygate_sim::fifo::{Arrivals, Quota, Task, admissions};
//!
//! let quota = Quota { amount: 100, every: Duration::from_secs(1) };
//! let jobs = [Task::of(100), Task::of(50), Task::of(50)];
//! let at = admissions(quota, &jobs, &Arrivals::Workers(3));
//! assert_eq!(at, [0, 500, 1000].map(Duration::from_millis));
//! ```

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Duration;

use crate::clock::nanos_of;

/// A bucket of `amount`, full at the start, that refills by `amount` in each `every`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Quota {
    /// What it holds, and what it refills.
    pub amount: u64,
    /// In how long; at least a nanosecond.
    pub every: Duration,
}

/// One job to schedule.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Task {
    /// What must be there for it to be admitted, and is taken then.
    pub held: u64,
    /// What it really uses; the rest comes back at the end of its call.
    pub used: u64,
    /// How long its call takes.
    pub call: Duration,
}

/// When jobs ask.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Arrivals {
    /// So many workers take one job after the other, each as soon as its call before has ended.
    Workers(usize),
    /// At these instants from the start, one a job, in order.
    At(Vec<Duration>),
}

impl Task {
    /// A job of known size whose call takes no time.
    pub fn of(used: u64) -> Self {
        Self {
            held: used,
            used,
            call: Duration::ZERO,
        }
    }

    /// The same job, had its use been known before.
    #[must_use]
    pub fn foreseen(self) -> Self {
        Self {
            held: self.used,
            ..self
        }
    }
}

/// When each job is admitted, from the start. Nobody overtakes: a job waits for those before it.
///
/// # Panics
/// When a job holds more than the quota, without workers, or with fewer arrivals than jobs.
pub fn admissions(quota: Quota, jobs: &[Task], arrivals: &Arrivals) -> Vec<Duration> {
    let mut bucket = Bucket::new(quota);
    let mut free = match arrivals {
        Arrivals::Workers(count) => vec![Reverse(0); *count].into(),
        Arrivals::At(_) => BinaryHeap::new(),
    };
    let admit = |(number, job): (usize, &Task)| {
        let asked = match arrivals {
            Arrivals::Workers(_) => free.pop().expect("there are workers").0,
            Arrivals::At(instants) => nanos_of(instants[number]),
        };
        let at = bucket.admit(asked, job);
        free.push(Reverse(at + nanos_of(job.call)));
        Duration::from_nanos(at)
    };
    jobs.iter().enumerate().map(admit).collect()
}

/// Kept in tokens times the nanoseconds of the window, so that a nanosecond refills exactly `amount` of it.
struct Bucket {
    amount: u128,
    every: u128,
    level: u128,
    now: u64,
    /// When something comes back, and how many tokens.
    returns: BinaryHeap<Reverse<(u64, u64)>>,
}

impl Bucket {
    fn new(quota: Quota) -> Self {
        let (amount, every) = (u128::from(quota.amount), quota.every.as_nanos());
        Self {
            amount,
            every,
            level: amount * every,
            now: 0,
            returns: BinaryHeap::new(),
        }
    }

    fn admit(&mut self, asked: u64, job: &Task) -> u64 {
        let held = u128::from(job.held) * self.every;
        assert!(
            held <= self.amount * self.every,
            "{} tokens never fit",
            job.held
        );
        self.advance(asked);
        while self.level < held {
            let full = (held - self.level).div_ceil(self.amount);
            let fits = self.now + u64::try_from(full).unwrap_or(u64::MAX / 2);
            let back = self.returns.peek().map_or(fits, |Reverse((at, _))| *at);
            self.advance(fits.min(back));
        }
        self.level -= held;
        let back = job.held.saturating_sub(job.used);
        self.returns
            .push(Reverse((self.now + nanos_of(job.call), back)));
        self.now
    }

    /// Moves on to `to`, taking in what comes back until then.
    fn advance(&mut self, to: u64) {
        while let Some(Reverse((at, tokens))) = self.returns.peek().copied() {
            if at > to {
                break;
            }
            self.returns.pop();
            self.refill(at);
            self.give(u128::from(tokens) * self.every);
        }
        self.refill(to);
    }

    fn refill(&mut self, to: u64) {
        let span = to.saturating_sub(self.now);
        self.now = self.now.max(to);
        self.give(u128::from(span) * self.amount);
    }

    fn give(&mut self, back: u128) {
        self.level = (self.level + back).min(self.amount * self.every);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const QUOTA: Quota = Quota {
        amount: 100,
        every: Duration::from_secs(1),
    };

    fn millis(at: &[Duration]) -> Vec<u128> {
        at.iter().map(Duration::as_millis).collect()
    }

    fn held(held: u64, used: u64, call: u64) -> Task {
        Task {
            held,
            used,
            call: Duration::from_millis(call),
        }
    }

    #[test]
    fn few_workers_are_the_bound_where_quota_is_plenty() {
        let jobs = [held(1, 1, 300); 5];
        let at = admissions(QUOTA, &jobs, &Arrivals::Workers(2));
        assert_eq!(millis(&at), [0, 0, 300, 300, 600]);
    }

    #[test]
    fn a_return_lets_the_next_one_go() {
        let jobs = [held(100, 50, 20), held(50, 50, 0), held(50, 50, 0)];
        let at = admissions(QUOTA, &jobs, &Arrivals::Workers(3));
        // At 20 ms 50 come back to the 2 refilled; then there are 2 left of the 50 that the last one takes.
        assert_eq!(millis(&at), [0, 20, 500]);
        let foreseen = jobs.map(Task::foreseen);
        let at = admissions(QUOTA, &foreseen, &Arrivals::Workers(3));
        assert_eq!(millis(&at), [0, 0, 500]);
    }

    #[test]
    fn nobody_overtakes() {
        let arrivals = Arrivals::At([0, 10, 20].map(Duration::from_millis).to_vec());
        let at = admissions(
            QUOTA,
            &[Task::of(100), Task::of(80), Task::of(1)],
            &arrivals,
        );
        assert_eq!(millis(&at), [0, 800, 810]);
    }

    #[test]
    fn what_comes_back_to_a_full_bucket_is_lost() {
        let arrivals = Arrivals::At([0, 2000, 2000].map(Duration::from_millis).to_vec());
        let jobs = [held(60, 10, 1500), Task::of(100), Task::of(1)];
        let at = admissions(QUOTA, &jobs, &arrivals);
        assert_eq!(millis(&at), [0, 2000, 2010]);
    }
}
