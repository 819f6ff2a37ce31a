//! Instants and lengths of time, in nanoseconds. The crate has no clock: every operation is told what time it is.
use crate::num;
use std::time::Duration;

/// An instant: nanoseconds since the Unix epoch, on a clock that never goes back.
///
/// A store makes it from the wall clock at its start and a monotonic clock since, so a step of the
/// wall clock neither refills a bucket nor takes from it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Time(u64);

impl Time {
    /// The earliest instant.
    pub const ZERO: Self = Self(0);
    /// The latest instant; stands for "never".
    pub const MAX: Self = Self(u64::MAX);

    /// The instant `nanos` nanoseconds after the Unix epoch.
    #[must_use]
    pub const fn from_nanos(nanos: u64) -> Self {
        Self(nanos)
    }

    /// The instant `millis` milliseconds after the Unix epoch, saturating.
    #[must_use]
    pub const fn from_millis(millis: u64) -> Self {
        Self(millis.saturating_mul(1_000_000))
    }

    /// The instant `secs` seconds after the Unix epoch, saturating.
    #[must_use]
    pub const fn from_secs(secs: u64) -> Self {
        Self(secs.saturating_mul(1_000_000_000))
    }

    /// Nanoseconds since the Unix epoch.
    #[must_use]
    pub const fn as_nanos(self) -> u64 {
        self.0
    }

    /// This instant, `span` later, saturating.
    #[must_use]
    pub const fn plus(self, span: Span) -> Self {
        Self(self.0.saturating_add(span.0))
    }

    /// The length from `earlier` to this instant; zero if `earlier` is later.
    #[must_use]
    pub const fn since(self, earlier: Self) -> Span {
        Span(self.0.saturating_sub(earlier.0))
    }
}

/// A length of time in nanoseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Span(u64);

impl Span {
    /// No time.
    pub const ZERO: Self = Self(0);

    /// A length of `nanos` nanoseconds.
    #[must_use]
    pub const fn from_nanos(nanos: u64) -> Self {
        Self(nanos)
    }

    /// A length of `millis` milliseconds, saturating.
    #[must_use]
    pub const fn from_millis(millis: u64) -> Self {
        Self(millis.saturating_mul(1_000_000))
    }

    /// A length of `secs` seconds, saturating.
    #[must_use]
    pub const fn from_secs(secs: u64) -> Self {
        Self(secs.saturating_mul(1_000_000_000))
    }

    /// The length in nanoseconds.
    #[must_use]
    pub const fn as_nanos(self) -> u64 {
        self.0
    }
}

impl From<Duration> for Span {
    /// Saturates at 584 years.
    fn from(length: Duration) -> Self {
        Self(num::saturate_u64(length.as_nanos()))
    }
}

impl From<Span> for Duration {
    fn from(span: Span) -> Self {
        Self::from_nanos(span.0)
    }
}

/// Writes the largest unit that divides the length: `60s`, `5m`, `1h`, `250ms`.
impl std::fmt::Display for Span {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        const UNITS: [(u64, &str); 6] = [
            (86_400_000_000_000, "d"),
            (3_600_000_000_000, "h"),
            (1_000_000_000, "s"),
            (1_000_000, "ms"),
            (1_000, "us"),
            (1, "ns"),
        ];
        let minutes = 60_000_000_000;
        if self.0.is_multiple_of(minutes) && self.0 > minutes && !self.0.is_multiple_of(UNITS[1].0)
        {
            return write!(f, "{}m", self.0.checked_div(minutes).unwrap_or(0));
        }
        let whole = |unit: &&(u64, &str)| self.0 >= unit.0 && self.0.is_multiple_of(unit.0);
        match UNITS.iter().find(whole) {
            Some((unit, name)) => write!(f, "{}{name}", self.0.checked_div(*unit).unwrap_or(0)),
            None => f.write_str("0s"),
        }
    }
}
