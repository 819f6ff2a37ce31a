//! Rate-limit headers: ours added, the provider's set aside.

use http::header::{HeaderMap, HeaderName, HeaderValue};
use tallygate_core::{Metric, Mode, Span, Standing, Time};
use tallygate_tokens::Dialect;

use super::Voice;
use super::wait::{go_duration, rfc3339_seconds};

/// Adds where the caller's limits stand, in the headers of its dialect. Of several limits in one header's class the tightest is
/// told: the one with the least left of what it gives. Limits in shadow are not told. Gemini and the decision API have no such
/// headers.
pub fn add_standings(headers: &mut HeaderMap, voice: Voice, standings: &[Standing], now: Time) {
    match voice {
        Voice::Dialect(Dialect::OpenAi) => {
            for class in &OPENAI {
                if let Some(standing) = tightest(standings, class.metrics) {
                    let values = [
                        standing.limit.burst.into(),
                        standing.remaining.into(),
                        text(&go_duration(standing.reset)),
                    ];
                    insert(headers, class, values);
                }
            }
        }
        Voice::Dialect(Dialect::Anthropic) => {
            for class in &ANTHROPIC {
                if let Some(standing) = tightest(standings, class.metrics) {
                    let reset = rfc3339_seconds(now.plus(Span::from(standing.reset)));
                    insert(
                        headers,
                        class,
                        [
                            standing.limit.burst.into(),
                            standing.remaining.into(),
                            text(&reset),
                        ],
                    );
                }
            }
        }
        Voice::Dialect(Dialect::Gemini) | Voice::Decision => {}
    }
}

/// Renames the provider's rate-limit headers to `x-upstream-ratelimit-*`: they speak of the account, which the caller shares.
pub fn set_aside_upstream_limits(headers: &mut HeaderMap) {
    let theirs: Vec<HeaderName> = headers
        .keys()
        .filter(|name| behind_prefix(name).is_some())
        .cloned()
        .collect();
    for name in theirs {
        let renamed = behind_prefix(&name).and_then(|rest| {
            format!("x-upstream-ratelimit-{rest}")
                .parse::<HeaderName>()
                .ok()
        });
        if let (Some(value), Some(renamed)) = (headers.remove(&name), renamed) {
            headers.insert(renamed, value);
        }
    }
}

fn behind_prefix(name: &HeaderName) -> Option<&str> {
    let name = name.as_str();
    name.strip_prefix("x-ratelimit-")
        .or_else(|| name.strip_prefix("anthropic-ratelimit-"))
}

/// One class of limits that a dialect has headers for.
struct Class {
    /// The headers for limit, remaining and reset.
    names: [HeaderName; 3],
    /// The metrics it tells of; a later group only where no limit of an earlier one applies.
    metrics: &'static [&'static [Metric]],
}

const fn class(names: [&'static str; 3], metrics: &'static [&'static [Metric]]) -> Class {
    let [limit, remaining, reset] = names;
    Class {
        names: [
            HeaderName::from_static(limit),
            HeaderName::from_static(remaining),
            HeaderName::from_static(reset),
        ],
        metrics,
    }
}

static OPENAI: [Class; 2] = [
    class(
        [
            "x-ratelimit-limit-requests",
            "x-ratelimit-remaining-requests",
            "x-ratelimit-reset-requests",
        ],
        &[&[Metric::REQUESTS]],
    ),
    class(
        [
            "x-ratelimit-limit-tokens",
            "x-ratelimit-remaining-tokens",
            "x-ratelimit-reset-tokens",
        ],
        &[
            &[Metric::TOKENS],
            &[Metric::INPUT_TOKENS, Metric::OUTPUT_TOKENS],
        ],
    ),
];

static ANTHROPIC: [Class; 4] = [
    class(
        [
            "anthropic-ratelimit-requests-limit",
            "anthropic-ratelimit-requests-remaining",
            "anthropic-ratelimit-requests-reset",
        ],
        &[&[Metric::REQUESTS]],
    ),
    class(
        [
            "anthropic-ratelimit-tokens-limit",
            "anthropic-ratelimit-tokens-remaining",
            "anthropic-ratelimit-tokens-reset",
        ],
        &[&[Metric::TOKENS]],
    ),
    class(
        [
            "anthropic-ratelimit-input-tokens-limit",
            "anthropic-ratelimit-input-tokens-remaining",
            "anthropic-ratelimit-input-tokens-reset",
        ],
        &[&[Metric::INPUT_TOKENS]],
    ),
    class(
        [
            "anthropic-ratelimit-output-tokens-limit",
            "anthropic-ratelimit-output-tokens-remaining",
            "anthropic-ratelimit-output-tokens-reset",
        ],
        &[&[Metric::OUTPUT_TOKENS]],
    ),
];

fn tightest<'s>(standings: &'s [Standing], groups: &[&[Metric]]) -> Option<&'s Standing> {
    groups.iter().find_map(|metrics| {
        let told = |standing: &&Standing| {
            standing.limit.mode == Mode::Enforce && metrics.contains(&standing.limit.metric)
        };
        standings
            .iter()
            .filter(told)
            .min_by_key(|standing| left_of(standing))
    })
}

/// What is left of what the limit gives, in 2^-64ths; exact enough to compare by, and without a fraction.
fn left_of(standing: &Standing) -> u128 {
    (u128::from(standing.remaining) << 64) / u128::from(standing.limit.burst.max(1))
}

fn insert(headers: &mut HeaderMap, class: &Class, values: [HeaderValue; 3]) {
    for (name, value) in class.names.iter().zip(values) {
        headers.insert(name, value);
    }
}

/// Texts of digits, letters, `:`, `-` and `.` are header values.
fn text(value: &str) -> HeaderValue {
    HeaderValue::from_str(value).unwrap_or(HeaderValue::from_static("0s"))
}
