//! Instants as they are written down.
use serde::{Deserialize, Serialize};
use std::time::Duration;
use tallygate_core::Time;

/// An instant in whole milliseconds since the Unix epoch, which is what files and answers tell.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Stamp(u64);

impl Stamp {
    /// The instant so many milliseconds after the Unix epoch.
    #[must_use]
    pub const fn from_millis(millis: u64) -> Self {
        Self(millis)
    }

    /// Milliseconds since the Unix epoch.
    #[must_use]
    pub const fn as_millis(self) -> u64 {
        self.0
    }

    /// This instant, `length` later, saturating.
    #[must_use]
    pub fn plus(self, length: Duration) -> Self {
        let millis = u64::try_from(length.as_millis()).unwrap_or(u64::MAX);
        Self(self.0.saturating_add(millis))
    }

    /// The length from `earlier` to this instant; zero if `earlier` is later.
    #[must_use]
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(self.0.saturating_sub(earlier.0))
    }
}

/// Rounded down to the millisecond.
impl From<Time> for Stamp {
    fn from(time: Time) -> Self {
        Self(time.as_nanos() / 1_000_000)
    }
}

impl From<Stamp> for Time {
    fn from(stamp: Stamp) -> Self {
        Self::from_millis(stamp.0)
    }
}
