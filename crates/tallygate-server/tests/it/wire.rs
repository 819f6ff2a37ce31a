//! What callers read, against checked-in files: one a dialect.

use std::fmt::Write;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Response};
use tallygate_core::{
    Amounts, Denial, FullError, LimitInfo, Metric, Never, Outcome, Standing, Time,
};
use tallygate_server::config::{Config, Forbidden, NoRoute, Unread};
use tallygate_server::identify::{Rejection, Role};
use tallygate_server::wire::{self, ApiError, Ask, Voice};
use tallygate_tokens::{Call, CallError, Dialect, Endpoint};

use crate::golden;

/// 2026-11-21T22:16:00Z.
const NOW: Time = Time::from_secs(1_795_299_360);

const LIMITS: &str = "
metrics: [images]
limits:
  - { name: minute, tokens: 30_000, requests: 500, every: 60s }
  - { name: free-day, tokens: 10_000, every: day }
  - { name: streams, concurrency: 4 }
  - { name: spend, cost: 2_000.00, every: month }
  - { name: in-out, input_tokens: 50_000, output_tokens: 8_000, every: 5m }
  - { name: pictures, images: 20, every: 1h, shape: sliding }
  - { name: quiet, tokens: 10, requests: 1, every: 60s, mode: shadow }
";

struct Case {
    name: &'static str,
    error: ApiError,
}

fn limit(name: &str, metric: Metric) -> Arc<LimitInfo> {
    let config = Config::parse(LIMITS, "limits", &|_| None).expect("good");
    let found = config
        .policy()
        .limits()
        .find(|limit| &*limit.name == name && limit.metric == metric)
        .cloned();
    found.expect("a limit of that name")
}

fn standing(limit: Arc<LimitInfo>, used: u64, reset: Duration) -> Standing {
    Standing {
        remaining: limit.burst.saturating_sub(used),
        limit,
        used,
        debt: 0,
        reset,
    }
}

fn denied(standing: Standing, wait: Duration) -> ApiError {
    Denial {
        blocked_by: vec![standing],
        retry_after: wait,
        retry_at: NOW.plus(wait.into()),
    }
    .into()
}

fn denials() -> Vec<Case> {
    let second = Duration::from_secs(1);
    let exact = Duration::from_micros(18_641_200);
    let minute = || standing(limit("minute", Metric::TOKENS), 14_567, 29 * second);
    let calls = standing(limit("minute", Metric::REQUESTS), 500, 60 * second);
    let day = |reset| standing(limit("free-day", Metric::TOKENS), 9_000, reset);
    let money = standing(
        limit("spend", Metric::COST),
        2_000_000_000,
        777_600 * second,
    );
    let streams = standing(limit("streams", Metric::CONCURRENCY), 4, Duration::ZERO);
    let case = |name, error| Case { name, error };
    vec![
        case("short wait", denied(minute(), exact)),
        case("the shortest wait", denied(calls, Duration::from_nanos(1))),
        case("long wait of a rate", denied(minute(), 61 * second)),
        case(
            "long wait of a quota",
            denied(day(6_240 * second), 6_240 * second),
        ),
        case(
            "short wait of a quota",
            denied(day(30 * second), 30 * second),
        ),
        case("money", denied(money, 777_600 * second)),
        case("concurrency", denied(streams, second)),
        case("a shadow limit beside", shadowed(minute())),
        case("never", never("free-day", Metric::TOKENS, 10_000)),
        case(
            "never, own metric",
            never("pictures", own_metric("images"), 20),
        ),
    ]
}

fn never(name: &str, metric: Metric, largest: u64) -> ApiError {
    let blocked_by = vec![standing(limit(name, metric), 0, Duration::ZERO)];
    Never {
        blocked_by,
        largest: vec![(metric, largest)],
    }
    .into()
}

fn own_metric(name: &str) -> Metric {
    let config = Config::parse(LIMITS, "limits", &|_| None).expect("good");
    config.metrics().find(name).expect("a metric of that name")
}

fn shadowed(enforced: Standing) -> ApiError {
    let quiet = standing(limit("quiet", Metric::TOKENS), 10, Duration::from_secs(60));
    let wait = Duration::from_secs(2);
    Denial {
        blocked_by: vec![quiet, enforced],
        retry_after: wait,
        retry_at: NOW.plus(wait.into()),
    }
    .into()
}

fn refusals() -> Vec<Case> {
    let malformed =
        Call::parse(Endpoint::ChatCompletions, None, b"{\n  \"model\": }").expect_err("not JSON");
    let wrong = CallError::WrongType {
        path: "messages[0].content".into(),
        expected: "a string or an array",
        found: "a number",
    };
    let forbidden = Forbidden::Model {
        model: "gpt-4o".into(),
        tier: "free".into(),
    };
    let case = |name, error| Case { name, error };
    vec![
        case("malformed JSON", malformed.into()),
        case("a field of a wrong type", wrong.into()),
        case(
            "a field of the decision API",
            ApiError::invalid("unknown field `demand.tokenz`", Some("demand.tokenz")),
        ),
        case("no key", Rejection::Missing.into()),
        case("unknown key", Rejection::Unknown.into()),
        case(
            "bad header",
            Rejection::BadHeader("x-tallygate-user").into(),
        ),
        case("role", ApiError::Role(Role::Decide)),
        case("model not in the tier", forbidden.into()),
        case("unknown tier", Forbidden::Tier("gold".into()).into()),
        case("no path", ApiError::NoPath("/v3/chat".into())),
        case(
            "a path spelt otherwise",
            ApiError::Misspelt {
                path: "/v1/v1/responses".into(),
                meant: "POST /v1/responses",
            },
        ),
        case(
            "a call that cannot be sized",
            ApiError::Unsized {
                by: Unread::Tier("free".into()),
                upstream: "openai".into(),
            },
        ),
        case(
            "method",
            ApiError::Method {
                path: "/tallygate/v1/reserve".into(),
                allowed: "POST",
            },
        ),
        case("no upstream", NoRoute::Dialect(Dialect::Gemini).into()),
        case(
            "other dialect",
            NoRoute::OtherDialect {
                model: "gpt-4o".into(),
                served: Dialect::OpenAi,
            }
            .into(),
        ),
        case("too large a body", ApiError::TooLarge(33_554_432)),
        case(
            "too slow a body",
            ApiError::TooSlow(Duration::from_secs(60)),
        ),
    ]
}

fn failures() -> Vec<Case> {
    let receipt = serde_json::json!({ "outcome": "cancelled", "charged": {}, "returned": { "tokens": 5 }, "debt": {} });
    let case = |name, error| Case { name, error };
    vec![
        case(
            "store down",
            ApiError::StoreDown {
                trouble: "the store refuses (OOM)".to_owned(),
                retry_after: Duration::from_millis(1_500),
            },
        ),
        case("store full", ApiError::Full(FullError::Waiters(10_000))),
        case("unreachable", ApiError::Unreachable("openai".into())),
        case("timed out", ApiError::TimedOut("openai".into())),
        case("broken off", ApiError::BrokenOff("openai".into())),
        case("draining", ApiError::Draining),
        case("unknown reservation", ApiError::UnknownReservation),
        case(
            "ended reservation",
            ApiError::Ended {
                outcome: Outcome::Cancelled,
                receipt,
            },
        ),
        case("internal", ApiError::Internal),
    ]
}

fn demand() -> Amounts {
    Amounts::call(24_000, 754).with(Metric::COST, 5_000_000)
}

fn ask(voice: Voice, demand: &Amounts) -> Ask<'_> {
    Ask {
        voice,
        model: "gpt-4o",
        demand,
        request_id: "req_01",
        now: NOW,
    }
}

fn shown(response: &Response<Bytes>) -> String {
    let mut text = format!("{}\n", response.status());
    for (name, value) in response.headers() {
        writeln!(text, "{name}: {}", value.to_str().expect("text")).expect("a string");
    }
    let body: serde_json::Value = serde_json::from_slice(response.body()).expect("JSON");
    writeln!(
        text,
        "{}",
        serde_json::to_string_pretty(&body).expect("JSON")
    )
    .expect("a string");
    text
}

#[test]
fn errors_and_denials_speak_each_dialect() {
    let voices = [
        ("openai", Voice::Dialect(Dialect::OpenAi)),
        ("anthropic", Voice::Dialect(Dialect::Anthropic)),
        ("gemini", Voice::Dialect(Dialect::Gemini)),
        ("decision", Voice::Decision),
    ];
    let demand = demand();
    let mut differences = Vec::new();
    for (name, voice) in voices {
        let mut text = String::new();
        for case in denials().into_iter().chain(refusals()).chain(failures()) {
            let response = wire::error(&case.error, &ask(voice, &demand));
            writeln!(text, "== {}\n{}", case.name, shown(&response)).expect("a string");
        }
        differences.extend(golden::difference(
            &golden::folder("wire").join(format!("{name}.txt")),
            &text,
        ));
    }
    golden::all_equal(differences);
}

#[test]
fn a_stream_ends_with_its_dialects_event() {
    let demand = demand();
    let mut text = String::new();
    for endpoint in [
        Endpoint::ChatCompletions,
        Endpoint::Responses,
        Endpoint::Messages,
        Endpoint::StreamGenerateContent,
    ] {
        for error in [ApiError::BrokenOff("main".into()), ApiError::CutOff] {
            let event = wire::stream_error(
                &error,
                &ask(Voice::Dialect(endpoint.dialect()), &demand),
                endpoint,
            );
            writeln!(
                text,
                "== {} {}\n{}",
                endpoint.name(),
                error.reason(),
                String::from_utf8_lossy(&event)
            )
            .expect("a string");
        }
    }
    golden::all_equal(
        golden::difference(&golden::folder("wire").join("streams.txt"), &text)
            .into_iter()
            .collect(),
    );
}

#[test]
fn successes_tell_the_tightest_limit_of_each_class() {
    let seconds = Duration::from_secs;
    let standings = [
        standing(limit("quiet", Metric::TOKENS), 10, seconds(60)),
        standing(limit("minute", Metric::TOKENS), 3_000, seconds(6)),
        standing(
            limit("minute", Metric::REQUESTS),
            1,
            Duration::from_millis(120),
        ),
        standing(
            limit("free-day", Metric::TOKENS),
            9_000,
            Duration::from_millis(3_723_500),
        ),
        standing(limit("in-out", Metric::INPUT_TOKENS), 10_000, seconds(60)),
        standing(limit("in-out", Metric::OUTPUT_TOKENS), 800, seconds(30)),
    ];
    let mut text = String::new();
    for voice in [
        Voice::Dialect(Dialect::OpenAi),
        Voice::Dialect(Dialect::Anthropic),
        Voice::Dialect(Dialect::Gemini),
    ] {
        let mut headers = HeaderMap::new();
        wire::add_standings(&mut headers, voice, &standings, NOW);
        writeln!(text, "== {voice:?}").expect("a string");
        for (name, value) in &headers {
            writeln!(text, "{name}: {}", value.to_str().expect("text")).expect("a string");
        }
    }
    golden::all_equal(
        golden::difference(&golden::folder("wire").join("standings.txt"), &text)
            .into_iter()
            .collect(),
    );
}

#[test]
fn the_providers_limits_are_set_aside_under_another_name() {
    let mut headers: HeaderMap = [
        ("x-ratelimit-remaining-tokens", "29999"),
        ("anthropic-ratelimit-requests-limit", "50"),
        ("retry-after", "7"),
        ("x-request-id", "req_theirs"),
    ]
    .into_iter()
    .map(|(name, value)| (name.parse().expect("name"), value.parse().expect("value")))
    .collect();
    wire::set_aside_upstream_limits(&mut headers);
    let mut names: Vec<&str> = headers.keys().map(|name| name.as_str()).collect();
    names.sort_unstable();
    assert_eq!(
        names,
        [
            "retry-after",
            "x-request-id",
            "x-upstream-ratelimit-remaining-tokens",
            "x-upstream-ratelimit-requests-limit"
        ]
    );
}

#[test]
fn a_denied_sdk_is_told_a_wait_that_is_never_early_and_never_zero() {
    let demand = demand();
    for nanos in [
        1,
        999_999,
        1_000_000,
        1_000_001,
        59_999_999_999,
        60_000_000_000,
        60_000_000_001,
    ] {
        let wait = Duration::from_nanos(nanos);
        let error = denied(
            standing(limit("minute", Metric::TOKENS), 30_000, wait),
            wait,
        );
        for n in 0..50 {
            let id = format!("req_{n}");
            let ask = Ask {
                request_id: &id,
                ..ask(Voice::Dialect(Dialect::OpenAi), &demand)
            };
            let response = wire::error(&error, &ask);
            let number = |name: &str| {
                response.headers()[name]
                    .to_str()
                    .expect("text")
                    .parse::<u64>()
                    .expect("a number")
            };
            let (millis, seconds) = (number("retry-after-ms"), number("retry-after"));
            assert!(
                Duration::from_millis(millis) >= wait && millis >= 1,
                "{nanos}: {millis}"
            );
            assert!(millis <= nanos / 1_000_000 + 251, "{nanos}: {millis}");
            assert!(seconds >= 1 && seconds * 1_000 >= millis && seconds * 1_000 < millis + 1_000);
            let retried = !response.headers().contains_key("x-should-retry");
            assert_eq!(retried, wait <= wire::LONG_WAIT, "{nanos}");
        }
    }
}
