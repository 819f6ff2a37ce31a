//! Rate-limit headers, as each provider sends them.

use http::{HeaderMap, HeaderName, HeaderValue};
use tallygate_tokens::Dialect;

use super::ledger::{Quota, Quotas};
use super::refusal::{go_duration, seconds_up};
use crate::clock::At;

/// Adds the headers of `dialect`; Gemini has none.
pub(crate) fn add(dialect: Dialect, quotas: &Quotas, now: At, headers: &mut HeaderMap) {
    match dialect {
        Dialect::OpenAi => openai(quotas, headers),
        Dialect::Anthropic => anthropic(quotas, now, headers),
        Dialect::Gemini => {}
    }
}

fn openai(quotas: &Quotas, headers: &mut HeaderMap) {
    let names = [
        (
            quotas.requests,
            [
                "x-ratelimit-limit-requests",
                "x-ratelimit-remaining-requests",
                "x-ratelimit-reset-requests",
            ],
        ),
        (
            quotas.tokens,
            [
                "x-ratelimit-limit-tokens",
                "x-ratelimit-remaining-tokens",
                "x-ratelimit-reset-tokens",
            ],
        ),
    ];
    for (quota, names) in names {
        if let Some(quota) = quota {
            three(names, quota, go_duration(quota.reset), headers);
        }
    }
}

fn anthropic(quotas: &Quotas, now: At, headers: &mut HeaderMap) {
    let names = [
        (
            quotas.requests,
            [
                "anthropic-ratelimit-requests-limit",
                "anthropic-ratelimit-requests-remaining",
                "anthropic-ratelimit-requests-reset",
            ],
        ),
        (
            quotas.tokens,
            [
                "anthropic-ratelimit-tokens-limit",
                "anthropic-ratelimit-tokens-remaining",
                "anthropic-ratelimit-tokens-reset",
            ],
        ),
        (
            quotas.input_tokens,
            [
                "anthropic-ratelimit-input-tokens-limit",
                "anthropic-ratelimit-input-tokens-remaining",
                "anthropic-ratelimit-input-tokens-reset",
            ],
        ),
        (
            quotas.output_tokens,
            [
                "anthropic-ratelimit-output-tokens-limit",
                "anthropic-ratelimit-output-tokens-remaining",
                "anthropic-ratelimit-output-tokens-reset",
            ],
        ),
    ];
    for (quota, names) in names {
        if let Some(quota) = quota {
            three(names, quota, rfc3339(now.plus(quota.reset)), headers);
        }
    }
}

fn three(names: [&'static str; 3], quota: Quota, reset: String, headers: &mut HeaderMap) {
    let [limit, remaining, until] = names.map(HeaderName::from_static);
    headers.insert(limit, HeaderValue::from(quota.limit));
    headers.insert(remaining, HeaderValue::from(quota.remaining));
    if let Ok(reset) = HeaderValue::try_from(reset) {
        headers.insert(until, reset);
    }
}

/// The instant in UTC, in seconds rounded up.
fn rfc3339(at: At) -> String {
    let seconds = seconds_up(std::time::Duration::from_nanos(at.nanos()));
    let timestamp = i64::try_from(seconds)
        .ok()
        .and_then(|seconds| jiff::Timestamp::from_second(seconds).ok());
    timestamp.unwrap_or(jiff::Timestamp::MAX).to_string()
}
