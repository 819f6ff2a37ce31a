//! How long things took: counts in buckets a sixty-fourth of their value wide, so that processes can add theirs up.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Spans of time.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct Histogram {
    /// How many fell into each bucket.
    counts: BTreeMap<u32, u64>,
    longest: u64,
}

/// Buckets between a power of two and the next, as a power of two.
const FINE: u32 = 6;

impl Histogram {
    pub(super) fn add(&mut self, span: Duration) {
        let nanos = u64::try_from(span.as_nanos()).unwrap_or(u64::MAX);
        *self.counts.entry(bucket(nanos)).or_default() += 1;
        self.longest = self.longest.max(nanos);
    }

    pub(super) fn merge(&mut self, other: &Self) {
        for (bucket, count) in &other.counts {
            *self.counts.entry(*bucket).or_default() += count;
        }
        self.longest = self.longest.max(other.longest);
    }

    pub(super) fn count(&self) -> u64 {
        self.counts.values().sum()
    }

    /// The span that `share` of all (0.5: half) do not pass; zero when there are none.
    pub(super) fn at(&self, share: f64) -> Duration {
        let wanted = (self.count() as f64 * share).ceil() as u64;
        let mut seen = 0;
        for (bucket, count) in &self.counts {
            seen += count;
            if seen >= wanted {
                return Duration::from_nanos(middle(*bucket).min(self.longest));
            }
        }
        Duration::ZERO
    }

    pub(super) fn longest(&self) -> Duration {
        Duration::from_nanos(self.longest)
    }
}

fn bucket(nanos: u64) -> u32 {
    let power = nanos.max(1).ilog2();
    if power < FINE {
        return nanos as u32;
    }
    let fine = (nanos >> (power - FINE)) as u32 - (1 << FINE);
    ((power - FINE + 1) << FINE) + fine
}

fn middle(bucket: u32) -> u64 {
    if bucket < 1 << FINE {
        return u64::from(bucket);
    }
    let power = (bucket >> FINE) - 1;
    let fine = u64::from(bucket & ((1 << FINE) - 1)) + (1 << FINE);
    (fine << power) + ((1 << power) >> 1)
}
