//! The shapes of a limit: how what was taken comes back.
use crate::metric::Metric;
use crate::time::Span;
use jiff::tz::TimeZone;
use std::fmt;

/// How a limit refills.
#[derive(Debug, Clone, PartialEq)]
pub enum Shape {
    /// Refills continuously: never more than `burst + t · amount / every` in any span `t`.
    Bucket {
        /// The length in which the whole amount refills.
        every: Span,
        /// The most that can be taken at once; the amount (a tenth of it when strict) unless given.
        burst: Option<u64>,
        /// Refill at `(amount − burst) / every`, so that no span of `every` ever sees more than the amount.
        strict: bool,
    },
    /// Never more than the amount in any span of `every`.
    Sliding {
        /// The length of the window.
        every: Span,
    },
    /// Never more than the amount in one calendar window; twice that across an edge.
    Fixed {
        /// Which windows.
        window: Calendar,
        /// Where its midnight is.
        timezone: TimeZone,
    },
    /// Never more than the amount at once.
    Concurrency,
}

/// A window of the calendar.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Calendar {
    /// From a full second to the next.
    Second,
    /// From a full minute to the next.
    Minute,
    /// From a full hour to the next.
    Hour,
    /// From midnight to midnight.
    Day,
    /// From Monday's midnight to Monday's midnight.
    Week,
    /// From the first of a month to the first of the next.
    Month,
}

impl Calendar {
    /// All of them, the shortest first.
    pub const ALL: [Self; 6] = [
        Self::Second,
        Self::Minute,
        Self::Hour,
        Self::Day,
        Self::Week,
        Self::Month,
    ];

    /// The word in a configuration.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Second => "second",
            Self::Minute => "minute",
            Self::Hour => "hour",
            Self::Day => "day",
            Self::Week => "week",
            Self::Month => "month",
        }
    }

    /// The window of this word.
    #[must_use]
    pub fn of_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|window| window.word() == word)
    }
}

impl Shape {
    /// The word in a configuration.
    #[must_use]
    pub const fn word(&self) -> &'static str {
        match self {
            Self::Bucket { .. } => "bucket",
            Self::Sliding { .. } => "sliding",
            Self::Fixed { .. } => "fixed",
            Self::Concurrency => "concurrency",
        }
    }

    /// Whether a limit of this shape and metric is a quota rather than a rate: a calendar day, week or month, or money.
    #[must_use]
    pub fn is_quota_of(&self, metric: Metric) -> bool {
        let by_calendar = matches!(
            self,
            Self::Fixed {
                window: Calendar::Day | Calendar::Week | Calendar::Month,
                ..
            }
        );
        by_calendar || metric == Metric::COST
    }

    /// The window as text: `60s`, `day`, or `at once`.
    #[must_use]
    pub fn window(&self) -> String {
        match self {
            Self::Bucket { every, .. } | Self::Sliding { every } => every.to_string(),
            Self::Fixed { window, .. } => window.word().to_owned(),
            Self::Concurrency => "at once".to_owned(),
        }
    }

    /// What tells counters of one shape from those of another, amounts apart.
    pub(crate) fn signature(&self) -> String {
        match self {
            Self::Fixed { timezone, .. } => {
                format!("{}/{}/{}", self.word(), self.window(), zone(timezone))
            }
            _ => format!("{}/{}", self.word(), self.window()),
        }
    }

    /// What a limit of this shape promises, in words; `show` and `of_it` write an amount alone and with what it is of.
    pub(crate) fn promise(
        &self,
        (amount, burst): (u64, u64),
        (show, of_it): (Show<'_>, Show<'_>),
    ) -> String {
        match self {
            Self::Bucket {
                every,
                strict: true,
                ..
            } => format!(
                "never more than {} in any span of {every}: at most {} at once, refilled by {} every {every}",
                of_it(amount),
                show(burst),
                show(amount.saturating_sub(burst))
            ),
            Self::Bucket { every, .. } => format!(
                "never more than {} at once plus a refill of {} every {every}: at most {} in any span of {every}",
                of_it(burst),
                show(amount),
                show(amount.saturating_add(burst))
            ),
            Self::Sliding { every } => {
                format!("never more than {} in any span of {every}", of_it(amount))
            }
            Self::Fixed { window, timezone } => format!(
                "never more than {} in a calendar {} ({}); up to {} across an edge",
                of_it(amount),
                window.word(),
                zone(timezone),
                show(amount.saturating_mul(2))
            ),
            Self::Concurrency => format!("never more than {} at once", of_it(amount)),
        }
    }
}

/// Writes an amount.
type Show<'a> = &'a dyn Fn(u64) -> String;

fn zone(timezone: &TimeZone) -> &str {
    timezone.iana_name().unwrap_or("UTC")
}

/// What a limit does when its demand does not fit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Mode {
    /// It denies.
    #[default]
    Enforce,
    /// It counts and reports, and never denies.
    Shadow,
}

/// What a limit does when its store cannot be reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum StoreDown {
    /// It denies.
    #[default]
    Closed,
    /// It admits without counting.
    Open,
    /// Each node spends only what it had leased before.
    Share,
}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.word(), self.window())
    }
}
