//! Refusals over HTTP: who is refused, when that ends, what the headers say, and the books.

use std::time::Duration;

use tallygate_sim::{ApiCall, Charging, MockLimit, MockMetric, MockOptions};
use tallygate_tokens::Endpoint;

use crate::support::{Bench, KEY};

fn strict(limits: Vec<MockLimit>) -> MockOptions {
    MockOptions {
        limits,
        ..MockOptions::default()
    }
}

fn hello() -> ApiCall {
    ApiCall::chat("gpt-4o", "Hello world").output(5)
}

#[tokio::test]
async fn a_refusal_names_the_exact_wait() {
    let bench = Bench::with(strict(vec![MockLimit::per_minute(
        MockMetric::Requests,
        60,
    )]))
    .await;
    for _ in 0..60 {
        assert_eq!(bench.call(&hello()).await.status, 200);
    }
    let reply = bench.call(&hello()).await;
    assert_eq!(
        (
            reply.status,
            reply.header("retry-after-ms"),
            reply.header("retry-after")
        ),
        (429, Some("1000"), Some("1"))
    );
    assert_eq!(
        reply.json()["error"]["message"],
        "Rate limit reached for gpt-4o in organization org-mock on requests per min (RPM): Limit 60, Used 60, Requested 1. Please try again in 1s."
    );
    assert_eq!(reply.header("x-ratelimit-reset-requests"), Some("1m0s"));
    bench.pass(999);
    assert_eq!(bench.call(&hello()).await.status, 429);
    bench.pass(1);
    assert_eq!(bench.call(&hello()).await.status, 200);
}

#[tokio::test]
async fn each_key_and_model_has_its_own_limit() {
    let bench = Bench::with(strict(vec![MockLimit::per_minute(MockMetric::Requests, 1)])).await;
    let other = bench.client.clone().with_key("sk-other");
    assert_eq!(bench.call(&hello()).await.status, 200);
    assert_eq!(bench.call(&hello()).await.status, 429);
    assert_eq!(other.call(&hello()).await.unwrap().status, 200);
    assert_eq!(
        bench
            .call(&ApiCall::chat("gpt-4o-mini", "Hello"))
            .await
            .status,
        200
    );
}

#[tokio::test]
async fn a_refusal_by_one_limit_charges_no_other() {
    let requests = MockLimit::per_minute(MockMetric::Requests, 10);
    let tokens = MockLimit::per_minute(MockMetric::Tokens, 100);
    let bench = Bench::with(strict(vec![requests, tokens])).await;
    assert_eq!(bench.call(&hello().max_tokens(90)).await.status, 200);
    for _ in 0..20 {
        let reply = bench.call(&hello().max_tokens(90)).await;
        assert_eq!(
            (reply.status, reply.header("x-ratelimit-remaining-requests")),
            (429, Some("9"))
        );
        assert_eq!(reply.json()["error"]["type"], "tokens");
    }
}

#[tokio::test]
async fn a_call_larger_than_the_limit_is_told_so() {
    let bench = Bench::with(strict(vec![MockLimit::per_minute(MockMetric::Tokens, 100)])).await;
    let reply = bench.call(&hello().max_tokens(101)).await;
    assert_eq!((reply.status, reply.header("retry-after")), (429, None));
    let message = reply.json()["error"]["message"]
        .as_str()
        .unwrap()
        .to_owned();
    assert!(
        message.starts_with("Request too large for gpt-4o"),
        "{message}"
    );
}

#[tokio::test]
async fn charging_rules_differ_in_what_they_charge() {
    // 2 tokens in 11 bytes of text, 9 with framing; 5 tokens come back.
    let cases = [
        (Charging::Admission, Some(40), 40),
        (Charging::Admission, Some(1), 3),
        (Charging::InputPlusMaxTokens, Some(40), 49),
        (Charging::TrueUsage, Some(40), 14),
        (Charging::TrueUsage, None, 14),
    ];
    for (charging, max_tokens, charged) in cases {
        let limit = MockLimit::per_minute(MockMetric::Tokens, 1_000).charging(charging);
        let bench = Bench::with(strict(vec![limit])).await;
        let call = max_tokens
            .map_or(hello(), |tokens| hello().max_tokens(tokens))
            .output(5);
        let output = bench.call(&call).await.answer().usage.unwrap().output;
        let reply = bench.call(&hello().max_tokens(1_001)).await;
        let left = reply.header("x-ratelimit-remaining-tokens").unwrap();
        let expected = if charging == Charging::TrueUsage {
            1_000 - 9 - output - 9
        } else {
            1_000 - charged
        };
        assert_eq!(
            left.parse::<u64>().unwrap(),
            expected,
            "{charging:?} {max_tokens:?}"
        );
    }
}

#[tokio::test]
async fn output_is_charged_as_it_is_produced_and_may_leave_debt() {
    let limit = MockLimit::per_minute(MockMetric::OutputTokens, 60).charging(Charging::TrueUsage);
    let bench = Bench::with(strict(vec![limit])).await;
    let call = ApiCall::messages("gpt-4o", "Hello").output(90);
    let reply = bench.call(&call.clone().streamed()).await;
    assert_eq!(
        reply.header("anthropic-ratelimit-output-tokens-remaining"),
        Some("60")
    );
    assert_eq!(reply.answer().usage.unwrap().output, 90);
    let refused = bench.call(&call).await;
    assert_eq!(
        (
            refused.status,
            refused.header("retry-after"),
            refused.header("retry-after-ms")
        ),
        (429, Some("31"), None)
    );
    assert_eq!(refused.json()["error"]["type"], "rate_limit_error");
    assert_eq!(
        refused.header("anthropic-ratelimit-output-tokens-remaining"),
        Some("0")
    );
    assert_eq!(
        refused.header("anthropic-ratelimit-output-tokens-reset"),
        Some("2023-11-14T22:14:50Z")
    );
    bench.pass(30_999);
    assert_eq!(bench.call(&call).await.status, 429);
    bench.pass(1);
    assert_eq!(bench.call(&call).await.status, 200);
}

#[tokio::test]
async fn books_balance_and_find_the_worst_span() {
    let minute = Duration::from_secs(60);
    let bench = Bench::with(strict(vec![MockLimit::per_minute(MockMetric::Requests, 4)])).await;
    for _ in 0..2 {
        for _ in 0..6 {
            bench.call(&hello().streamed()).await;
        }
        bench.pass(30_000);
    }
    bench.call(&hello().header("x-mock-status", "500")).await;
    let books = bench.mock.books();
    let counts = books.account(KEY, "gpt-4o").unwrap().counts;
    assert_eq!(
        (
            counts.received,
            counts.admitted,
            counts.refused,
            counts.failed
        ),
        (13, 6, 6, 1)
    );
    assert_eq!(
        (
            counts.served,
            counts.in_flight,
            counts.output_tokens,
            counts.input_tokens
        ),
        (6, 0, 30, 54)
    );
    assert_eq!(books.totals(), counts);
    // A bucket lets 4 pass at once and 2 more half a minute later.
    assert_eq!(books.worst(minute, MockMetric::Requests), Some(6));
    assert_eq!(books.worst(minute, MockMetric::Tokens), Some(6 * 14));
    assert_eq!(books.worst(minute * 2, MockMetric::Tokens), None);
}

#[tokio::test]
async fn a_sliding_limit_is_never_over_in_any_span() {
    let limit = MockLimit::per_minute(MockMetric::Requests, 4).sliding();
    let bench = Bench::with(strict(vec![limit])).await;
    for _ in 0..40 {
        bench.call(&hello()).await;
        bench.pass(7_000);
    }
    let books = bench.mock.books();
    assert_eq!(
        books.worst(Duration::from_secs(60), MockMetric::Requests),
        Some(4)
    );
    assert!(books.totals().admitted >= 16, "{:?}", books.totals());
}

#[tokio::test]
async fn counting_tokens_is_not_limited() {
    let bench = Bench::with(strict(vec![MockLimit::per_minute(MockMetric::Requests, 1)])).await;
    for _ in 0..3 {
        let call = ApiCall::new(Endpoint::CountTokens, "gpt-4o", "Hello world");
        assert_eq!(bench.call(&call).await.status, 200);
    }
    assert_eq!(
        (
            bench.mock.books().unlimited,
            bench.mock.books().totals().received
        ),
        (3, 0)
    );
}

#[tokio::test]
async fn the_books_can_be_read_over_http() {
    let bench = Bench::new().await;
    bench.call(&hello()).await;
    let page = bench.client.get("/mock/books").await.unwrap().json();
    assert_eq!(page["accounts"][0]["counts"]["served"], 1);
    assert_eq!(
        page["accounts"][0]["worst"][0]["at_admission"]["tokens"],
        14
    );
    assert!(!page.to_string().contains(KEY));
}

#[tokio::test]
async fn waits_are_written_as_go_writes_them() {
    let waits = [
        (12, "12ms"),
        (1_000, "1s"),
        (18_642, "18.642s"),
        (60_500, "1m0.5s"),
        (360_000, "6m0s"),
        (3_723_000, "1h2m3s"),
        (86_400_000, "24h0m0s"),
    ];
    for (millis, written) in waits {
        let every = Duration::from_millis(millis);
        let limit = MockLimit::per_minute(MockMetric::Requests, 1).every(every);
        let bench = Bench::with(strict(vec![limit])).await;
        bench.call(&hello()).await;
        let reply = bench.call(&hello()).await;
        let message = reply.json()["error"]["message"]
            .as_str()
            .unwrap()
            .to_owned();
        assert!(
            message.ends_with(&format!("Please try again in {written}.")),
            "{message}"
        );
        assert_eq!(reply.header("x-ratelimit-reset-requests"), Some(written));
        assert_eq!(reply.retry_after(), Some(every));
    }
}

#[tokio::test]
async fn calls_can_be_made_of_an_exact_size() {
    let bench = Bench::new().await;
    for endpoint in [
        Endpoint::ChatCompletions,
        Endpoint::Responses,
        Endpoint::Completions,
    ] {
        for tokens in [20, 120, 4_000] {
            let call = ApiCall::sized(endpoint, "gpt-4o", tokens, 7).output(1);
            let told = bench.call(&call).await.answer().usage.unwrap();
            assert_eq!(told.input, tokens, "{endpoint:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_at_once_are_admitted_up_to_the_limit_and_no_further() {
    let bench = Bench::with(strict(vec![
        MockLimit::per_minute(MockMetric::Tokens, 1_000).sliding(),
    ]))
    .await;
    let calls = (0..40).map(|number| {
        let client = bench.client.clone();
        let call = ApiCall::chat("gpt-4o", &format!("Call {number}"))
            .max_tokens(90)
            .output(80);
        tokio::spawn(async move { client.call(&call.streamed()).await.unwrap().status })
    });
    let mut passed = 0;
    for call in calls.collect::<Vec<_>>() {
        passed += u64::from(call.await.unwrap() == 200);
    }
    let counts = bench.mock.books().totals();
    assert_eq!(
        (passed, counts.admitted, counts.served, counts.refused),
        (11, 11, 11, 29)
    );
    assert_eq!(counts.in_flight, 0);
    assert!(counts.peak_in_flight <= 11);
}

#[tokio::test]
async fn a_stopped_mock_breaks_off_and_answers_no_more() {
    let bench = Bench::new().await;
    let mut opened = bench
        .client
        .open(&hello().streamed().header("x-mock-stall-after", "0"))
        .await
        .unwrap();
    while let Ok(Some(chunk)) = opened.chunk().await {
        if chunk.windows(9).any(|part| part == b"assistant") {
            break;
        }
    }
    bench.mock.stop().await;
    assert!(opened.chunk().await.is_err());
    assert!(bench.client.call(&hello()).await.is_err());
}
