//! Switches: how the provider misbehaves, for all calls or for one.

use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue};

/// Longest delay a switch may ask for.
pub const MAX_DELAY: Duration = Duration::from_secs(600);
/// Longest wait a switch may tell callers.
pub const MAX_RETRY_AFTER: Duration = Duration::from_secs(366 * 86_400);
/// Largest event or padding a switch may ask for, in bytes.
pub const MAX_PADDING: u64 = 64 << 20;
/// Most output tokens a switch may ask for.
pub const MAX_OUTPUT: u64 = 1 << 20;
/// Longest name in `x-mock-id`, in bytes.
pub const MAX_ID: usize = 128;

/// What to do out of the ordinary. `None` everywhere: nothing.
///
/// In [`MockOptions`](crate::mock::MockOptions) they hold for every call or for a share of them; a
/// call sets them for itself by the headers named below, which win. A header that cannot be read is
/// answered 400.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Switches {
    /// Output tokens of each choice, capped by `max_tokens` (`x-mock-output-tokens`, or
    /// `mock_output_tokens` in the body's `metadata`).
    pub output_tokens: Option<u64>,
    /// How many of them are reasoning (`x-mock-reasoning-tokens`).
    pub reasoning_tokens: Option<u64>,
    /// How many input tokens the usage calls cached (`x-mock-cached-tokens`).
    pub cached_tokens: Option<u64>,
    /// Tokens in an event of a stream (`x-mock-chunk-tokens`); by default 1.
    pub chunk_tokens: Option<u64>,
    /// Delay to the first token (`x-mock-first-token-ms`).
    pub first_token: Option<Duration>,
    /// Delay of each output token (`x-mock-token-us`).
    pub per_token: Option<Duration>,
    /// What the usage says (`x-mock-usage: missing | zero | <per mille>`).
    pub usage: Option<Lie>,
    /// How the body is sent (`x-mock-encoding: gzip`).
    pub encoding: Option<Encoding>,
    /// How the call fails.
    pub fault: Option<Fault>,
    /// Only the first calls that carry this name fail (`x-mock-id: name`, `x-mock-times: n`).
    pub tries: Option<Tries>,
}

/// How the usage lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lie {
    /// There is none.
    Missing,
    /// All its numbers are 0.
    Zero,
    /// All its numbers are this many thousandths of the truth, rounded down.
    PerMille(u32),
}

/// The encoding of an answer's body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Encoding {
    /// As it is.
    Identity,
    /// `content-encoding: gzip`, whether or not the caller accepts it.
    Gzip,
}

/// How a call fails. "After n" counts events with text; an answer that is no stream breaks off in the
/// middle of its body instead.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// An error status in the dialect's form, before the limits are asked (`x-mock-status`, with
    /// `x-mock-retry-after-ms` and `x-mock-should-retry: true | false`).
    Status(Failure),
    /// The connection closes without an answer (`x-mock-close: before-headers`).
    Close,
    /// The connection closes after so many events (`x-mock-cut-after`).
    CutAfter(u64),
    /// Nothing more comes after so many events, for the longest stall the options allow, and then the
    /// connection closes (`x-mock-stall-after`).
    StallAfter(u64),
    /// The dialect's error event after so many events, and nothing after it (`x-mock-error-after`).
    ErrorAfter(u64),
    /// The stream ends well but its last event is missing (`x-mock-omit-terminal: true`).
    OmitTerminal,
    /// One event, or the answer, carries this many bytes of padding (`x-mock-huge-event`).
    HugeEvent(u64),
    /// The answer, or one event, is not JSON (`x-mock-malformed: true`).
    Malformed,
}

/// A failing status.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Failure {
    /// The status, 400 to 599.
    pub status: u16,
    /// What `retry-after-ms` and `retry-after` say.
    pub retry_after: Option<Duration>,
    /// What `x-should-retry` says.
    pub should_retry: Option<bool>,
}

impl Failure {
    /// This status and nothing else.
    pub const fn of(status: u16) -> Self {
        Self {
            status,
            retry_after: None,
            should_retry: None,
        }
    }
}

/// Limits a fault to the first calls of a name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tries {
    /// The name.
    pub id: String,
    /// How many calls fail.
    pub times: u64,
}

/// A header that cannot be read, by its name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("header {0} has a value that the mock does not know")]
pub struct SwitchError(pub(crate) String);

impl Switches {
    /// Reads the `x-mock-` headers.
    ///
    /// # Errors
    /// [`SwitchError`] names the first header that is unknown, out of bounds or not readable.
    pub fn from_headers(headers: &HeaderMap) -> Result<Self, SwitchError> {
        let mut switches = Self::default();
        let mut failing = Failing::default();
        for (name, value) in headers {
            let Some(word) = name.as_str().strip_prefix("x-mock-") else {
                continue;
            };
            let read = text(value).and_then(|value| switches.read(word, value, &mut failing));
            read.ok_or_else(|| unreadable(name))?;
        }
        failing.enter(&mut switches);
        Ok(switches)
    }

    /// These switches, with `other` where these say nothing.
    #[must_use]
    pub fn or(self, other: &Self) -> Self {
        // Named tries belong to the fault they came with.
        let tries = if self.fault.is_some() {
            self.tries
        } else {
            other.tries.clone()
        };
        Self {
            output_tokens: self.output_tokens.or(other.output_tokens),
            reasoning_tokens: self.reasoning_tokens.or(other.reasoning_tokens),
            cached_tokens: self.cached_tokens.or(other.cached_tokens),
            chunk_tokens: self.chunk_tokens.or(other.chunk_tokens),
            first_token: self.first_token.or(other.first_token),
            per_token: self.per_token.or(other.per_token),
            usage: self.usage.or(other.usage),
            encoding: self.encoding.or(other.encoding),
            fault: self.fault.or(other.fault),
            tries,
        }
    }

    fn read(&mut self, word: &str, value: &str, failing: &mut Failing) -> Option<()> {
        match word {
            "output-tokens" => self.output_tokens = Some(number(value, MAX_OUTPUT)?),
            "reasoning-tokens" => self.reasoning_tokens = Some(number(value, MAX_OUTPUT)?),
            "cached-tokens" => self.cached_tokens = Some(number(value, MAX_OUTPUT)?),
            "chunk-tokens" => self.chunk_tokens = Some(number(value, MAX_OUTPUT)?.max(1)),
            "first-token-ms" => self.first_token = Some(delay(value, Duration::from_millis)?),
            "token-us" => self.per_token = Some(delay(value, Duration::from_micros)?),
            "usage" => self.usage = Some(lie(value)?),
            "encoding" => self.encoding = Some(encoding(value)?),
            "cut-after" => self.fault = Some(Fault::CutAfter(number(value, MAX_OUTPUT)?)),
            "stall-after" => self.fault = Some(Fault::StallAfter(number(value, MAX_OUTPUT)?)),
            "error-after" => self.fault = Some(Fault::ErrorAfter(number(value, MAX_OUTPUT)?)),
            "huge-event" => self.fault = Some(Fault::HugeEvent(number(value, MAX_PADDING)?)),
            "omit-terminal" => self.fault = truth(value)?.then_some(Fault::OmitTerminal),
            "malformed" => self.fault = truth(value)?.then_some(Fault::Malformed),
            "close" => self.fault = (value == "before-headers").then_some(Some(Fault::Close))?,
            _ => failing.read(word, value)?,
        }
        Some(())
    }
}

/// The headers that together make a failing status, and whom it hits.
#[derive(Default)]
struct Failing {
    status: Option<u16>,
    retry_after: Option<Duration>,
    should_retry: Option<bool>,
    id: Option<String>,
    times: Option<u64>,
}

impl Failing {
    fn read(&mut self, word: &str, value: &str) -> Option<()> {
        match word {
            "status" => self.status = Some(value.parse().ok().filter(|s| (400..600).contains(s))?),
            "retry-after-ms" => {
                let wait = value.parse().ok().map(Duration::from_millis)?;
                self.retry_after = (wait <= MAX_RETRY_AFTER).then_some(Some(wait))?;
            }
            "should-retry" => self.should_retry = Some(truth(value)?),
            "id" => self.id = (value.len() <= MAX_ID).then(|| Some(value.to_owned()))?,
            "times" => self.times = Some(number(value, u64::MAX)?),
            _ => return None,
        }
        Some(())
    }

    fn enter(self, switches: &mut Switches) {
        let (retry_after, should_retry) = (self.retry_after, self.should_retry);
        if let Some(status) = self.status {
            switches.fault = Some(Fault::Status(Failure {
                status,
                retry_after,
                should_retry,
            }));
        }
        if let Some(id) = self.id {
            switches.tries = Some(Tries {
                id,
                times: self.times.unwrap_or(1),
            });
        }
    }
}

fn unreadable(name: &HeaderName) -> SwitchError {
    SwitchError(name.as_str().to_owned())
}

fn text(value: &HeaderValue) -> Option<&str> {
    value.to_str().ok().map(str::trim)
}

fn number(value: &str, most: u64) -> Option<u64> {
    value.parse().ok().filter(|number| *number <= most)
}

fn delay(value: &str, unit: fn(u64) -> Duration) -> Option<Duration> {
    value
        .parse()
        .ok()
        .map(unit)
        .filter(|delay| *delay <= MAX_DELAY)
}

fn truth(value: &str) -> Option<bool> {
    value.parse().ok()
}

fn lie(value: &str) -> Option<Lie> {
    match value {
        "missing" => Some(Lie::Missing),
        "zero" => Some(Lie::Zero),
        per_mille => per_mille.parse().ok().map(Lie::PerMille),
    }
}

fn encoding(value: &str) -> Option<Encoding> {
    match value {
        "gzip" => Some(Encoding::Gzip),
        "identity" => Some(Encoding::Identity),
        _ => None,
    }
}
