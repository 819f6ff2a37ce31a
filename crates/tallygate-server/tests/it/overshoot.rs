//! Many callers at once: never over, and nothing wasted.

use std::time::Duration;

use futures_util::future::join_all;
use tallygate_core::Metric;
use tallygate_sim::{ApiCall, MockMetric, Reply};

use crate::world::World;

/// One per caller: 110 tokens of input, 110 of output.
fn call(number: usize, max_tokens: Option<u64>) -> ApiCall {
    let prompt = format!("{number:>4} {}", "word ".repeat(101));
    let call = ApiCall::chat("gpt-4o", &prompt).output(110);
    max_tokens.map_or(call.clone(), |most| call.max_tokens(most))
}

async fn all(world: &World, calls: impl Iterator<Item = ApiCall>) -> Vec<Reply> {
    let calls: Vec<ApiCall> = calls.collect();
    join_all(calls.iter().map(|call| world.call(call))).await
}

fn admitted(replies: &[Reply]) -> usize {
    assert!(
        replies
            .iter()
            .all(|reply| [200, 429].contains(&reply.status))
    );
    replies.iter().filter(|reply| reply.status == 200).count()
}

#[tokio::test]
async fn twenty_callers_of_220_tokens_stay_within_1000_a_minute() {
    // Calls are counted where none comes back while the test runs.
    let limits = "limits: [{ name: calls, requests: 100, every: 8000h }, { name: all, tokens: 1_000, every: 60s }]";
    for max_tokens in [200, 900] {
        for streamed in [false, true] {
            let world = World::new(limits).await;
            let call = |number| {
                let call = call(number, Some(max_tokens));
                if streamed { call.streamed() } else { call }
            };
            let replies = all(&world, (0..20).map(call)).await;
            world.settled().await;
            let books = world.mock.books();
            let served = books
                .worst(Duration::from_secs(60), MockMetric::Tokens)
                .unwrap();
            assert!(
                served <= 1_000,
                "{served} with max_tokens {max_tokens}, streamed: {streamed}"
            );
            let admitted = admitted(&replies);
            assert!(admitted >= 1, "nothing was admitted");
            assert_eq!(
                world.used(Metric::REQUESTS, &[]).await,
                admitted as u64,
                "denials touch no other counter"
            );
        }
    }
}

/// Short questions with long answers, which no multiple of the input foresees: a model that holds what callers allow an
/// answer to be keeps the limit to the token all the same.
#[tokio::test]
async fn twenty_short_questions_with_long_answers_stay_within_the_limit() {
    let settings = "\
models: { gpt-4o: { upstream: openai, output_estimate: max_tokens } }
limits: [{ name: all, requests: 100, tokens: 1_000, every: 8000h }]";
    for (max_tokens, streamed) in [(200, false), (200, true), (900, false), (900, true)] {
        let world = World::new(settings).await;
        let call = |number: usize| {
            let prompt = format!("{number:>4} {}", "word ".repeat(11));
            let call = ApiCall::chat("gpt-4o", &prompt).output(200);
            let call = call.max_tokens(max_tokens);
            if streamed { call.streamed() } else { call }
        };
        let replies = all(&world, (0..20).map(call)).await;
        world.settled().await;
        let served = world.mock.books().totals();
        assert!(admitted(&replies) >= 1, "nothing was admitted");
        assert!(
            served.tokens() <= 1_000,
            "{} with max_tokens {max_tokens}, streamed: {streamed}",
            served.tokens()
        );
        assert_eq!(world.used(Metric::TOKENS, &[]).await, served.tokens());
    }
}

/// Shapes in which nothing refills within the seconds that the test takes.
const SHAPES: [&str; 3] = [
    "every: month",
    "every: 8000h",
    "every: 8000h, shape: sliding",
];

#[tokio::test]
async fn two_hundred_callers_without_max_tokens_use_the_limit_and_no_more() {
    for shape in SHAPES {
        let limits = format!(
            "limits: [{{ name: all, tokens: 100_000, {shape} }}]\nwaiting: {{ max_wait: 3s }}"
        );
        let world = World::new(&limits).await;
        let prompt = "word ".repeat(321);
        let call =
            |number: usize| ApiCall::chat("gpt-4o", &format!("{number:>4} {prompt}")).output(200);
        let replies = all(&world, (0..200).map(call)).await;
        world.settled().await;
        let served = world.mock.books().totals();
        eprintln!("{shape}: {} of 100000 tokens used", served.tokens());
        assert!(
            served.tokens() <= 100_000,
            "{shape}: {} is over",
            served.tokens()
        );
        assert!(
            served.tokens() >= 90_000,
            "{shape}: {} is less than could be used",
            served.tokens()
        );
        assert_eq!(admitted(&replies) as u64, served.served);
        assert_eq!(world.standings(&[]).await[0].debt, 0);
    }
}
