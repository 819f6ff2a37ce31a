//! How long, written in the ways that clients read.

use std::borrow::Cow;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::Duration;

use jiff::Timestamp;
use jiff::civil::Date;
use tallygate_core::Time;
use tallygate_store::registry::Stamp;

/// From here on a wait is not to be sat out by a retry: SDKs ignore, cap or sleep through longer ones, each its own way.
pub const LONG_WAIT: Duration = Duration::from_secs(60);

/// The most that is added to a wait so that callers denied together do not return together.
const MAX_JITTER: Duration = Duration::from_millis(250);

/// A wait as it is told to a caller: never zero, never early.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Wait(Duration);

impl Wait {
    /// The exact wait, rounded up to a millisecond.
    #[must_use]
    pub fn exact(wait: Duration) -> Self {
        Self(Duration::from_millis(millis(wait).max(1)))
    }

    /// The wait with up to a twentieth more, at most 250 ms, the same for the same request. Only ever later: at the exact
    /// instant the demand fits, and after it too unless another came first.
    #[must_use]
    pub fn jittered(wait: Duration, request_id: &str) -> Self {
        let room = u64::try_from((wait / 20).min(MAX_JITTER).as_millis()).unwrap_or(0);
        let mut hasher = DefaultHasher::new();
        request_id.hash(&mut hasher);
        let more = Duration::from_millis(hasher.finish() % room.saturating_add(1));
        // A wait that a retry may sit out stays one.
        let told = wait.saturating_add(more).min(wait.max(LONG_WAIT));
        Self::exact(told)
    }

    /// Whole milliseconds.
    #[must_use]
    pub fn millis(self) -> u64 {
        millis(self.0)
    }

    /// Whole seconds, rounded up, at least one.
    #[must_use]
    pub fn seconds(self) -> u64 {
        self.millis().div_ceil(1_000).max(1)
    }

    /// Whether it is longer than [`LONG_WAIT`].
    #[must_use]
    pub fn is_long(self) -> bool {
        self.0 > LONG_WAIT
    }

    /// The length itself.
    #[must_use]
    pub fn length(self) -> Duration {
        self.0
    }
}

/// A length in whole milliseconds, rounded up.
#[must_use]
pub fn millis(length: Duration) -> u64 {
    u64::try_from(length.as_nanos().div_ceil(1_000_000)).unwrap_or(u64::MAX)
}

/// A length as Go writes it and OpenAI's headers have it: `12ms`, `1s`, `18.642s`, `6m0s`, `1h2m3s`; to the millisecond,
/// rounded up.
#[must_use]
pub fn go_duration(length: Duration) -> String {
    let total = millis(length);
    if total < 1_000 && total > 0 {
        return format!("{total}ms");
    }
    let (hours, minutes, seconds) = (
        total / 3_600_000,
        total / 60_000 % 60,
        seconds_text(total % 60_000),
    );
    match (hours, minutes) {
        (0, 0) => format!("{seconds}s"),
        (0, minutes) => format!("{minutes}m{seconds}s"),
        (hours, minutes) => format!("{hours}h{minutes}m{seconds}s"),
    }
}

/// Milliseconds as seconds, without a fraction of zeros.
pub(super) fn seconds_text(millis: u64) -> String {
    let (whole, fraction) = (millis / 1_000, millis % 1_000);
    if fraction == 0 {
        return whole.to_string();
    }
    let text = format!("{whole}.{fraction:03}");
    text.trim_end_matches('0').to_owned()
}

/// An instant as RFC 3339 in UTC with milliseconds, rounded up: `2026-11-21T22:16:00.120Z`.
#[must_use]
pub fn rfc3339(at: Time) -> String {
    stamp(at.as_nanos().div_ceil(1_000_000))
        .map_or_else(|| FOREVER.to_owned(), |stamp| format!("{stamp:.3}"))
}

/// As [`rfc3339`], also of instants that a server's clock does not reach.
#[must_use]
pub fn stamp_rfc3339(at: Stamp) -> String {
    stamp(at.as_millis()).map_or_else(|| FOREVER.to_owned(), |stamp| format!("{stamp:.3}"))
}

/// Why a text names no instant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum StampError {
    /// It has another form, or names a day that there is not.
    #[error("is no instant")]
    Form,
    /// It is before the first that can be told.
    #[error("is before 1970")]
    Early,
    /// It is later than what can be told.
    #[error("is later than the last instant that can be told, {LAST}")]
    Late,
}

impl StampError {
    /// How to mend it.
    #[must_use]
    pub fn mend(self) -> &'static str {
        match self {
            Self::Early => "name one that is to come, as 2027-01-31",
            Self::Form => "write it as 2027-01-31, which is midnight UTC, or 2027-01-31T18:00:00Z",
            Self::Late => "name an earlier one, or leave it out where there need not be one",
        }
    }
}

/// The last whole second that can be told, wherever it is told.
const LAST: &str = "9999-12-30T22:00:00Z";

/// The instant that a text names: RFC 3339 as `2027-01-31T18:00:00Z`, or a day as `2027-01-31`, which is its first instant in
/// UTC.
///
/// # Errors
/// When it names none.
pub fn read_stamp(text: &str) -> Result<Stamp, StampError> {
    let whole = match text.len() {
        10 => Cow::from(format!("{text}T00:00:00Z")),
        _ => Cow::from(text),
    };
    match whole.parse::<Timestamp>() {
        Ok(at) => {
            let millis = u64::try_from(at.as_millisecond());
            millis
                .map(Stamp::from_millis)
                .map_err(|_| StampError::Early)
        }
        // The calendar goes a little further.
        Err(_) => match text.get(..10).map(str::parse::<Date>) {
            Some(Ok(day)) if day.year() == Date::MAX.year() => Err(StampError::Late),
            _ => Err(StampError::Form),
        },
    }
}

/// As [`rfc3339`], in whole seconds, as Anthropic's headers have it.
pub(super) fn rfc3339_seconds(at: Time) -> String {
    let millis = at.as_nanos().div_ceil(1_000_000_000).saturating_mul(1_000);
    stamp(millis).map_or_else(|| FOREVER.to_owned(), |stamp| format!("{stamp:.0}"))
}

/// The last second that RFC 3339 can write, for instants beyond it.
const FOREVER: &str = "9999-12-31T23:59:59Z";

fn stamp(millis: u64) -> Option<Timestamp> {
    i64::try_from(millis)
        .ok()
        .and_then(|millis| Timestamp::from_millisecond(millis).ok())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tallygate_core::Time;

    use super::{Wait, go_duration, rfc3339, rfc3339_seconds};

    #[test]
    fn lengths_are_written_as_go_does() {
        let go = |millis| go_duration(Duration::from_millis(millis));
        assert_eq!(go(0), "0s");
        assert_eq!(go(12), "12ms");
        assert_eq!(go(1_000), "1s");
        assert_eq!(go(18_642), "18.642s");
        assert_eq!(go(59_900), "59.9s");
        assert_eq!(go(360_000), "6m0s");
        assert_eq!(go(3_723_000), "1h2m3s");
        assert_eq!(go(3_600_000), "1h0m0s");
        assert_eq!(go(86_400_001), "24h0m0.001s");
        assert_eq!(go_duration(Duration::from_nanos(1)), "1ms");
        assert_eq!(go_duration(Duration::from_nanos(999_000_001)), "1s");
    }

    #[test]
    fn a_wait_is_never_zero_and_never_early() {
        assert_eq!(Wait::exact(Duration::ZERO).millis(), 1);
        assert_eq!(Wait::exact(Duration::from_nanos(1_000_001)).millis(), 2);
        assert_eq!(Wait::exact(Duration::from_millis(1)).seconds(), 1);
        assert_eq!(Wait::exact(Duration::from_millis(1_001)).seconds(), 2);
        assert!(!Wait::exact(Duration::from_secs(60)).is_long());
        assert!(Wait::exact(Duration::from_nanos(60_000_000_001)).is_long());
    }

    #[test]
    fn jitter_is_small_upward_and_the_requests_own() {
        let wait = Duration::from_secs(10);
        let told: Vec<u64> = (0..200)
            .map(|n| Wait::jittered(wait, &format!("req_{n}")).millis())
            .collect();
        assert!(told.iter().all(|ms| (10_000..=10_250).contains(ms)));
        assert!(told.iter().max() > told.iter().min(), "callers are spread");
        assert_eq!(Wait::jittered(wait, "req_1"), Wait::jittered(wait, "req_1"));
        assert_eq!(
            Wait::jittered(Duration::from_millis(19), "req_1").millis(),
            19
        );
    }

    #[test]
    fn instants_are_rounded_up() {
        assert_eq!(
            rfc3339(Time::from_millis(1_763_763_360_120)),
            "2025-11-21T22:16:00.120Z"
        );
        assert_eq!(rfc3339(Time::from_nanos(1)), "1970-01-01T00:00:00.001Z");
        assert_eq!(rfc3339_seconds(Time::from_nanos(1)), "1970-01-01T00:00:01Z");
        assert_eq!(rfc3339(Time::MAX), "2554-07-21T23:34:33.710Z");
    }
}
