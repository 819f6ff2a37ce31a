//! The exact checker: what was used in the worst span of real time.

use std::time::Duration;

use serde::Serialize;

use crate::clock::At;
use crate::limit::MockMetric;

/// How many entries a timeline holds before neighbours are put together.
pub const MAX_ENTRIES: usize = 1 << 18;

/// An amount of each metric.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Use {
    /// Calls.
    pub requests: u64,
    /// Input and output tokens. In a worst span it is the worst sum, not the sum of the worsts.
    pub tokens: u64,
    /// Input tokens.
    pub input_tokens: u64,
    /// Output tokens.
    pub output_tokens: u64,
}

impl Use {
    /// One call with this input.
    pub fn call(input_tokens: u64) -> Self {
        Self {
            requests: 1,
            tokens: input_tokens,
            input_tokens,
            output_tokens: 0,
        }
    }

    /// Output alone.
    pub fn output(output_tokens: u64) -> Self {
        Self {
            tokens: output_tokens,
            output_tokens,
            ..Self::default()
        }
    }

    /// The amount of one metric.
    pub fn of(&self, metric: MockMetric) -> u64 {
        match metric {
            MockMetric::Requests => self.requests,
            MockMetric::Tokens => self.tokens,
            MockMetric::InputTokens => self.input_tokens,
            MockMetric::OutputTokens => self.output_tokens,
        }
    }

    /// Both together.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        self.merge(other, u64::saturating_add)
    }

    fn minus(self, other: Self) -> Self {
        self.merge(other, u64::saturating_sub)
    }

    fn most(self, other: Self) -> Self {
        self.merge(other, u64::max)
    }

    fn merge(self, other: Self, by: impl Fn(u64, u64) -> u64) -> Self {
        Self {
            requests: by(self.requests, other.requests),
            tokens: by(self.tokens, other.tokens),
            input_tokens: by(self.input_tokens, other.input_tokens),
            output_tokens: by(self.output_tokens, other.output_tokens),
        }
    }
}

/// What happened when, in order of time.
///
/// Past [`MAX_ENTRIES`] neighbours are put together into spans; a span counts whole wherever it
/// touches, so the worst use may then be overstated and is never understated ([`Timeline::is_exact`]).
#[derive(Debug, Clone, Default)]
pub struct Timeline {
    entries: Vec<Entry>,
    /// An entry holds 2^`shift` pushes.
    shift: u32,
    pushed: usize,
}

#[derive(Debug, Clone, Copy)]
struct Entry {
    first: At,
    last: At,
    used: Use,
}

impl Entry {
    /// Whether no span of `window` that reaches `at` still touches this entry.
    fn left(&self, at: At, window: Duration) -> bool {
        self.last < at && at.since(self.last) >= window
    }
}

impl Timeline {
    /// A timeline without entries.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds what was used at `at`, which must not be before an earlier push. Returns its number.
    pub fn push(&mut self, at: At, used: Use) -> usize {
        let number = self.pushed;
        self.pushed += 1;
        match self.entries.get_mut(number >> self.shift) {
            Some(entry) => {
                entry.last = at;
                entry.used = entry.used.plus(used);
            }
            None => self.entries.push(Entry {
                first: at,
                last: at,
                used,
            }),
        }
        if self.entries.len() > MAX_ENTRIES {
            self.halve();
        }
        number
    }

    /// Adds to what was pushed under `number`, at that push's instant.
    pub fn add(&mut self, number: usize, used: Use) {
        if let Some(entry) = self.entries.get_mut(number >> self.shift) {
            entry.used = entry.used.plus(used);
        }
    }

    /// Whether no neighbours have been put together.
    pub fn is_exact(&self) -> bool {
        self.shift == 0
    }

    /// The most that was used in any span `[t, t + window)`, each metric by itself.
    pub fn worst(&self, window: Duration) -> Use {
        let (mut worst, mut inside, mut oldest) = (Use::default(), Use::default(), 0);
        for entry in &self.entries {
            // An entry is never before itself, so `oldest` stops here at the latest.
            while self.entries[oldest].left(entry.first, window) {
                inside = inside.minus(self.entries[oldest].used);
                oldest += 1;
            }
            inside = inside.plus(entry.used);
            worst = worst.most(inside);
        }
        worst
    }

    fn halve(&mut self) {
        let join = |pair: &[Entry]| Entry {
            first: pair[0].first,
            last: pair[pair.len() - 1].last,
            used: pair
                .iter()
                .fold(Use::default(), |sum, entry| sum.plus(entry.used)),
        };
        self.entries = self.entries.chunks(2).map(join).collect();
        self.shift += 1;
    }
}
