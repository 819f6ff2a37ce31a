//! The switches, one by one.

use std::time::Duration;

use tallygate_sim::mock::{Chance, Failure, Fault, Switches};
use tallygate_sim::{ApiCall, MockOptions, client};
use tallygate_tokens::Endpoint;

use crate::support::{Bench, KEY};

const STREAMED: [(Endpoint, &str); 5] = [
    (Endpoint::ChatCompletions, "gpt-4o"),
    (Endpoint::Responses, "gpt-4o"),
    (Endpoint::Completions, "gpt-4o"),
    (Endpoint::Messages, "gpt-4o"),
    (Endpoint::StreamGenerateContent, "gpt-4o"),
];

fn stream(endpoint: Endpoint, model: &str) -> ApiCall {
    let call = ApiCall::new(endpoint, model, "Please go on with the story.")
        .max_tokens(100)
        .output(20);
    if endpoint == Endpoint::StreamGenerateContent {
        call
    } else {
        call.streamed()
    }
}

fn whole() -> ApiCall {
    ApiCall::chat("gpt-4o", "Please go on with the story.").output(20)
}

#[tokio::test]
async fn a_status_comes_in_the_dialect_of_the_call() {
    let bench = Bench::new().await;
    for (endpoint, field, kind) in [
        (Endpoint::ChatCompletions, "type", "server_error"),
        (Endpoint::Messages, "type", "overloaded_error"),
        (Endpoint::GenerateContent, "status", "INTERNAL"),
    ] {
        let call = ApiCall::new(endpoint, "gpt-4o", "Hi").header("x-mock-status", "529");
        let reply = bench.call(&call).await;
        assert_eq!(
            (reply.status, reply.json()["error"][field].as_str()),
            (529, Some(kind))
        );
    }
    assert_eq!(bench.mock.books().totals().failed, 3);
}

#[tokio::test]
async fn a_denial_says_what_the_switches_say() {
    let bench = Bench::new().await;
    let call = whole()
        .header("x-mock-status", "429")
        .header("x-mock-retry-after-ms", "1500");
    let reply = bench
        .call(&call.header("x-mock-should-retry", "false"))
        .await;
    assert_eq!(reply.status, 429);
    assert_eq!(reply.header("retry-after-ms"), Some("1500"));
    assert_eq!(reply.header("retry-after"), Some("2"));
    assert_eq!(reply.header("x-should-retry"), Some("false"));
}

#[tokio::test]
async fn only_the_first_tries_of_a_name_fail() {
    let bench = Bench::new().await;
    let failing = |id| {
        whole()
            .header("x-mock-status", "503")
            .header("x-mock-id", id)
            .header("x-mock-times", "2")
    };
    let mut statuses = Vec::new();
    for id in ["a", "a", "b", "a", "a"] {
        statuses.push(bench.call(&failing(id)).await.status);
    }
    assert_eq!(statuses, [503, 503, 503, 200, 200]);
}

#[tokio::test]
async fn a_cut_stream_breaks_off_after_its_events() {
    let bench = Bench::new().await;
    for (endpoint, model) in STREAMED {
        let reply = bench
            .call(&stream(endpoint, model).header("x-mock-cut-after", "3"))
            .await;
        let answer = reply.answer();
        assert!(reply.broken && !answer.complete, "{endpoint:?}");
        assert_eq!(answer.text().split(' ').count(), 3, "{endpoint:?}");
    }
    let counts = bench.mock.books().account(KEY, "gpt-4o").unwrap().counts;
    assert_eq!(
        (counts.cut, counts.served, counts.output_tokens),
        (5, 0, 15)
    );
}

#[tokio::test]
async fn a_cut_body_is_shorter_than_announced() {
    let bench = Bench::new().await;
    let reply = bench.call(&whole().header("x-mock-cut-after", "3")).await;
    let announced: usize = reply.header("content-length").unwrap().parse().unwrap();
    assert!(reply.broken && reply.body.len() < announced && !reply.body.is_empty());
}

#[tokio::test]
async fn a_connection_can_close_before_any_answer() {
    let bench = Bench::new().await;
    let result = bench
        .client
        .call(&whole().header("x-mock-close", "before-headers"))
        .await;
    assert!(
        matches!(result, Err(client::ClientError::NoAnswer(_))),
        "{result:?}"
    );
    assert_eq!(bench.mock.books().totals().admitted, 0);
}

#[tokio::test]
async fn an_error_can_come_inside_a_stream() {
    let bench = Bench::new().await;
    for (endpoint, model) in STREAMED {
        let reply = bench
            .call(&stream(endpoint, model).header("x-mock-error-after", "2"))
            .await;
        let answer = reply.answer();
        assert!(
            !reply.broken && !answer.complete && answer.error.is_some(),
            "{endpoint:?}: {answer:?}"
        );
    }
}

#[tokio::test]
async fn the_last_event_can_be_missing() {
    let bench = Bench::new().await;
    for (endpoint, model) in STREAMED {
        let reply = bench
            .call(&stream(endpoint, model).header("x-mock-omit-terminal", "true"))
            .await;
        let answer = reply.answer();
        assert!(!reply.broken && !answer.complete, "{endpoint:?}");
        assert_eq!(answer.text().split(' ').count(), 20, "{endpoint:?}");
    }
}

#[tokio::test]
async fn an_event_can_be_huge_and_the_answer_still_whole() {
    let bench = Bench::new().await;
    for (endpoint, model) in STREAMED {
        let plain = bench.call(&stream(endpoint, model)).await;
        let reply = bench
            .call(&stream(endpoint, model).header("x-mock-huge-event", "5000000"))
            .await;
        assert!(reply.body.len() > 5_000_000);
        assert_eq!(reply.answer(), plain.answer(), "{endpoint:?}");
    }
    let reply = bench
        .call(&whole().header("x-mock-huge-event", "100000"))
        .await;
    assert!(reply.body.len() > 100_000 && reply.answer().complete);
}

#[tokio::test]
async fn an_answer_can_be_malformed() {
    let bench = Bench::new().await;
    assert!(
        bench
            .call(&whole().header("x-mock-malformed", "true"))
            .await
            .json()
            .is_null()
    );
    for (endpoint, model) in STREAMED {
        let reply = bench
            .call(&stream(endpoint, model).header("x-mock-malformed", "true"))
            .await;
        let broken = client::events(&reply.body)
            .iter()
            .filter(|event| event.data.starts_with("{\"broken\""))
            .count();
        assert_eq!(broken, 1, "{endpoint:?}");
    }
}

#[tokio::test]
async fn usage_can_lie() {
    let bench = Bench::new().await;
    let honest = bench.call(&whole()).await.answer().usage.unwrap();
    assert_eq!(
        bench
            .call(&whole().header("x-mock-usage", "missing"))
            .await
            .answer()
            .usage,
        None
    );
    let zero = bench
        .call(&whole().header("x-mock-usage", "zero"))
        .await
        .answer()
        .usage
        .unwrap();
    assert_eq!((zero.input, zero.output), (0, 0));
    let triple = bench
        .call(&whole().header("x-mock-usage", "3000"))
        .await
        .answer()
        .usage
        .unwrap();
    assert_eq!(
        (triple.input, triple.output),
        (3 * honest.input, 3 * honest.output)
    );
    for (endpoint, model) in STREAMED {
        let mut call = stream(endpoint, model).header("x-mock-usage", "missing");
        if endpoint == Endpoint::ChatCompletions {
            call = call.streamed_with_usage();
        }
        assert_eq!(bench.call(&call).await.answer().usage, None, "{endpoint:?}");
    }
    assert_eq!(bench.mock.books().totals().output_tokens, 20 * 9);
}

#[tokio::test]
async fn details_are_parts_of_the_usage() {
    let bench = Bench::new().await;
    for (endpoint, model) in STREAMED {
        let mut call = stream(endpoint, model)
            .header("x-mock-reasoning-tokens", "12")
            .header("x-mock-cached-tokens", "4");
        if matches!(endpoint, Endpoint::ChatCompletions | Endpoint::Completions) {
            call = call.streamed_with_usage();
        }
        let answer = bench.call(&call).await.answer();
        let told = answer.usage.unwrap();
        assert_eq!((told.output, told.cached), (20, 4), "{endpoint:?}");
        assert_eq!(answer.text().split(' ').count(), 8, "{endpoint:?}");
        if endpoint != Endpoint::Messages {
            assert_eq!(told.reasoning, 12, "{endpoint:?}");
        }
    }
}

#[tokio::test]
async fn gzip_comes_unasked_and_unpacks() {
    let bench = Bench::new().await;
    for call in [whole(), whole().streamed()] {
        let plain = bench.call(&call).await;
        let packed = bench.call(&call.header("x-mock-encoding", "gzip")).await;
        assert_eq!(packed.header("content-encoding"), Some("gzip"));
        assert_eq!(unpacked(&packed.body), plain.body);
    }
}

/// Reads gzip whose blocks are all stored.
fn unpacked(body: &[u8]) -> Vec<u8> {
    assert_eq!(body[..4], [0x1f, 0x8b, 8, 0]);
    let (mut at, mut out) = (10, Vec::new());
    loop {
        let (last, length) = (
            body[at] & 1,
            usize::from(u16::from_le_bytes([body[at + 1], body[at + 2]])),
        );
        out.extend_from_slice(&body[at + 5..at + 5 + length]);
        at += 5 + length;
        if last == 1 {
            let length = u32::from_le_bytes(body[at + 4..at + 8].try_into().unwrap());
            assert_eq!((length as usize, at + 8), (out.len(), body.len()));
            return out;
        }
    }
}

#[tokio::test]
async fn a_caller_that_leaves_is_in_the_books() {
    let bench = Bench::new().await;
    let call = stream(Endpoint::ChatCompletions, "gpt-4o").header("x-mock-stall-after", "4");
    let mut opened = bench.client.open(&call).await.unwrap();
    let mut seen = 0;
    while seen < 4 {
        let chunk = opened.chunk().await.unwrap().unwrap();
        seen += String::from_utf8_lossy(&chunk)
            .matches(r#""delta":{"content":""#)
            .count();
    }
    assert_eq!(bench.mock.books().totals().in_flight, 1);
    drop(opened);
    let counts = loop {
        let counts = bench.mock.books().totals();
        if counts.in_flight == 0 {
            break counts;
        }
        tokio::task::yield_now().await;
    };
    assert_eq!((counts.left, counts.output_tokens), (1, 4));
}

#[tokio::test]
async fn a_stall_ends_at_its_bound() {
    let options = MockOptions {
        max_stall: Duration::from_millis(20),
        ..MockOptions::default()
    };
    let bench = Bench::with(options).await;
    for call in [whole(), whole().streamed()] {
        let reply = bench.call(&call.header("x-mock-stall-after", "0")).await;
        assert!(reply.broken && reply.total >= Duration::from_millis(20));
    }
    assert_eq!(bench.mock.books().totals().cut, 2);
}

#[tokio::test]
async fn delays_are_kept() {
    let bench = Bench::new().await;
    for call in [whole(), whole().streamed()] {
        let call = call
            .header("x-mock-first-token-ms", "30")
            .header("x-mock-token-us", "1000");
        let reply = bench.call(&call).await;
        assert!(
            reply.total >= Duration::from_millis(49),
            "{:?}",
            reply.total
        );
        assert_eq!(reply.answer().text().split(' ').count(), 20);
    }
}

#[tokio::test]
async fn chances_hit_their_share_of_the_calls() {
    let failing = Switches {
        fault: Some(Fault::Status(Failure::of(500))),
        ..Switches::default()
    };
    let chances = vec![Chance {
        per_mille: 250,
        switches: failing,
    }];
    let bench = Bench::with(MockOptions {
        chances,
        ..MockOptions::default()
    })
    .await;
    for _ in 0..200 {
        bench.call(&whole()).await;
    }
    let failed = bench.mock.books().totals().failed;
    assert!((30..70).contains(&failed), "{failed}");
}
