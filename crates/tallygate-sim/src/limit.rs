//! The provider's own limits, written apart from the engine they are used to check.

mod bucket;
mod log;

use std::time::Duration;

use serde::Serialize;

use crate::clock::{At, nanos_of};
use bucket::Bucket;
use log::Log;

/// The largest amount a limit may have: 2^53.
pub const MAX_LIMIT: u64 = 1 << 53;

/// What a limit counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum MockMetric {
    /// Calls admitted.
    Requests,
    /// Input and output tokens together.
    Tokens,
    /// Input tokens.
    InputTokens,
    /// Output tokens.
    OutputTokens,
}

/// How a limit refills.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum MockShape {
    /// A token bucket that refills by `amount` in each `every`, exactly, and holds `burst`
    /// (`None`: `amount`).
    Bucket {
        /// How much the full bucket holds.
        burst: Option<u64>,
    },
    /// An exact sliding log: never more than `amount` in any span `[t, t + every)`.
    Sliding,
}

/// What a call costs a limit, and when.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Charging {
    /// At admission and never corrected: tokens cost `max(max_tokens x choices, characters / 4)`,
    /// input tokens their count, output tokens `max_tokens x choices` (OpenAI).
    #[default]
    Admission,
    /// At admission and never corrected: tokens cost the counted input plus `max_tokens x choices`
    /// (Azure, Cerebras).
    InputPlusMaxTokens,
    /// The true use: input at admission, output when it is produced. Output is not known before, so
    /// a call is admitted while anything at all is left and may leave the limit in debt (Anthropic).
    TrueUsage,
}

/// One limit of the provider. It counts each API key and model apart.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct MockLimit {
    /// What is counted.
    pub metric: MockMetric,
    /// How much of it fits in each window; at most [`MAX_LIMIT`].
    pub amount: u64,
    /// The window, at least a nanosecond and at most 366 days.
    pub every: Duration,
    /// How the limit refills.
    pub shape: MockShape,
    /// What a call costs.
    pub charging: Charging,
    /// The only model it limits; `None`: each model.
    pub model: Option<String>,
}

impl MockLimit {
    /// A bucket of `amount` refilled by `amount` each minute, charged at admission.
    pub fn per_minute(metric: MockMetric, amount: u64) -> Self {
        Self {
            metric,
            amount,
            every: Duration::from_secs(60),
            shape: MockShape::Bucket { burst: None },
            charging: Charging::Admission,
            model: None,
        }
    }

    /// The same limit as an exact sliding log.
    #[must_use]
    pub fn sliding(self) -> Self {
        Self {
            shape: MockShape::Sliding,
            ..self
        }
    }

    /// The same limit with this window.
    #[must_use]
    pub fn every(self, every: Duration) -> Self {
        Self { every, ..self }
    }

    /// The same limit with this charging rule.
    #[must_use]
    pub fn charging(self, charging: Charging) -> Self {
        Self { charging, ..self }
    }

    /// The same limit with this burst; a sliding limit has none and becomes a bucket.
    #[must_use]
    pub fn burst(self, burst: u64) -> Self {
        Self {
            shape: MockShape::Bucket { burst: Some(burst) },
            ..self
        }
    }

    /// The most that one call may cost: the burst of a bucket, the amount of a log.
    pub fn capacity(&self) -> u64 {
        match self.shape {
            MockShape::Bucket { burst: Some(burst) } => burst,
            _ => self.amount,
        }
    }
}

/// The state of one limit for one API key and model.
#[derive(Debug, Clone)]
pub struct Meter(State);

#[derive(Debug, Clone)]
enum State {
    Bucket(Bucket),
    Log(Log),
}

/// When a cost fits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fit {
    /// Now.
    Now,
    /// After this span, if nothing else comes.
    After(Duration),
    /// Never: the cost is larger than the limit can hold.
    Never,
}

impl Meter {
    /// The untouched state of `limit` at `now`.
    pub fn new(limit: &MockLimit, now: At) -> Self {
        let every = nanos_of(limit.every).max(1);
        Self(match limit.shape {
            MockShape::Bucket { .. } => {
                State::Bucket(Bucket::new(limit.amount, limit.capacity(), every, now))
            }
            MockShape::Sliding => State::Log(Log::new(limit.amount, every)),
        })
    }

    /// When `cost` fits, seen from `now`.
    pub fn fit(&mut self, now: At, cost: u64) -> Fit {
        match &mut self.0 {
            State::Bucket(bucket) => bucket.fit(now, cost),
            State::Log(log) => log.fit(now, cost),
        }
    }

    /// Takes `cost` at `now`, whether or not it fits.
    pub fn charge(&mut self, now: At, cost: u64) {
        match &mut self.0 {
            State::Bucket(bucket) => bucket.charge(now, cost),
            State::Log(log) => log.charge(now, cost),
        }
    }

    /// What is left at `now`, rounded down; 0 in debt.
    pub fn remaining(&mut self, now: At) -> u64 {
        match &mut self.0 {
            State::Bucket(bucket) => bucket.remaining(now),
            State::Log(log) => log.remaining(now),
        }
    }

    /// How long until the limit is untouched again if nothing else comes.
    pub fn reset(&mut self, now: At) -> Duration {
        match &mut self.0 {
            State::Bucket(bucket) => bucket.reset(now),
            State::Log(log) => log.reset(now),
        }
    }
}
