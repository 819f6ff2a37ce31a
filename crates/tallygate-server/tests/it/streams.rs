//! Streamed answers: what passes, and what is settled when they end early.

use tallygate_core::Metric;
use tallygate_sim::client::events;
use tallygate_sim::{ApiCall, MockOptions};
use tallygate_tokens::Endpoint;

use crate::world::{LIMITS, World, within};

fn chat() -> ApiCall {
    ApiCall::chat("gpt-4o", "Hello world")
        .max_tokens(1_000)
        .output(50)
        .streamed()
}

async fn tokens(world: &World) -> u64 {
    world.settled().await;
    world.used(Metric::TOKENS, &[]).await
}

#[tokio::test]
async fn usage_is_asked_for_and_its_chunk_kept_from_a_caller_that_did_not() {
    let world = World::new(LIMITS).await;
    let reply = world.call(&chat()).await;
    let answer = reply.answer();
    assert!(answer.complete && answer.usage.is_none());
    assert!(!String::from_utf8_lossy(&reply.body).contains("\"choices\":[]"));
    let sent: serde_json::Value = serde_json::from_slice(&world.mock.received()[0].body).unwrap();
    assert_eq!(sent["stream_options"]["include_usage"], true);
    assert_eq!(tokens(&world).await, 9 + 50);
}

#[tokio::test]
async fn a_caller_that_asked_for_usage_gets_it() {
    let world = World::new(LIMITS).await;
    let reply = world.call(&chat().streamed_with_usage()).await;
    assert_eq!(reply.answer().usage.unwrap().output, 50);
    assert_eq!(tokens(&world).await, 9 + 50);
}

#[tokio::test]
async fn events_pass_as_they_come() {
    let world = World::new(LIMITS).await;
    let call = chat().header("x-mock-stall-after", "3");
    let mut opened = within(world.client.open(&call)).await.unwrap();
    let mut seen = Vec::new();
    while events(&seen).len() < 4 {
        seen.extend(within(opened.chunk()).await.unwrap().unwrap());
    }
    drop(opened);
    assert_eq!(tokens(&world).await, 9 + 3);
}

#[tokio::test]
async fn a_stream_that_breaks_off_settles_at_what_passed() {
    for (endpoint, model) in [
        (Endpoint::ChatCompletions, "gpt-4o"),
        (Endpoint::Responses, "gpt-4o"),
        (Endpoint::Messages, "claude-sonnet-4-5"),
        (Endpoint::StreamGenerateContent, "gemini-2.5-flash"),
    ] {
        let world = World::new(LIMITS).await;
        let call = ApiCall::new(endpoint, model, "Hello world")
            .max_tokens(1_000)
            .output(50);
        let call = if endpoint == Endpoint::StreamGenerateContent {
            call
        } else {
            call.streamed()
        };
        let reply = world.call(&call.header("x-mock-cut-after", "20")).await;
        assert!(reply.broken, "{endpoint:?}");
        let used = tokens(&world).await;
        assert!((20..100).contains(&used), "{endpoint:?}: {used}");
    }
}

#[tokio::test]
async fn a_stream_that_ends_in_an_error_settles_at_what_passed() {
    let world = World::new(LIMITS).await;
    let reply = world.call(&chat().header("x-mock-error-after", "20")).await;
    assert!(reply.answer().error.is_some() && !reply.broken);
    assert_eq!(tokens(&world).await, 9 + 20);
}

#[tokio::test]
async fn a_stream_that_falls_silent_is_ended_with_an_error_event() {
    let world = World::new(&format!("{LIMITS}\nbounds: {{ idle_time: 2s }}")).await;
    let reply = world.call(&chat().header("x-mock-stall-after", "20")).await;
    assert!(!reply.broken);
    let answer = reply.answer();
    assert!(
        answer.error.unwrap().contains("did not answer in time"),
        "{:?}",
        reply.body
    );
    assert_eq!(tokens(&world).await, 9 + 20);
}

#[tokio::test]
async fn a_caller_that_leaves_settles_at_what_passed_and_the_provider_is_told() {
    let world = World::with_mock(LIMITS, MockOptions::default()).await;
    let call = chat().header("x-mock-token-us", "20000");
    let mut opened = within(world.client.open(&call)).await.unwrap();
    let mut seen = Vec::new();
    while events(&seen).len() < 10 {
        seen.extend(within(opened.chunk()).await.unwrap().unwrap());
    }
    drop(opened);
    let used = tokens(&world).await;
    assert!((9 + 9..9 + 50).contains(&used), "{used}");
}

#[tokio::test]
async fn a_caller_that_leaves_what_goes_on_without_it_keeps_what_was_held() {
    for background in [false, true] {
        let world = World::new(LIMITS).await;
        let call = ApiCall::new(Endpoint::Responses, "gpt-4o", "Hello world")
            .with("background", background.into())
            .max_tokens(100)
            .streamed()
            .header("x-mock-token-us", "2000");
        let mut opened = within(world.client.open(&call)).await.unwrap();
        within(opened.chunk()).await.unwrap().unwrap();
        drop(opened);
        let used = tokens(&world).await;
        assert_eq!(used >= 100, background, "{used}");
    }
}

#[tokio::test]
async fn a_stream_that_outgrows_its_hold_runs_on_and_is_charged_in_full() {
    let world = World::new("limits: [{ name: all, tokens: 2_000, every: 8000h }]").await;
    let call = ApiCall::chat("gpt-4o", "Hello world")
        .output(3_000)
        .streamed();
    let reply = world.call(&call).await;
    assert!(reply.answer().complete);
    world.settled().await;
    let standing = &world.standings(&[]).await[0];
    assert_eq!(standing.debt, 9 + 3_000 - 2_000);
    let refused = world.call(&call).await;
    assert_eq!(refused.status, 429);
}

#[tokio::test]
async fn a_stream_that_outgrows_its_hold_is_held_for_as_it_grows() {
    let world = World::new("limits: [{ name: all, tokens: 100_000, every: 8000h }]").await;
    let call = ApiCall::chat("gpt-4o", "Hello world")
        .output(3_000)
        .streamed();
    let mut opened = within(
        world
            .client
            .open(&call.header("x-mock-stall-after", "2000")),
    )
    .await
    .unwrap();
    let mut seen = Vec::new();
    while events(&seen).len() < 2_001 {
        seen.extend(within(opened.chunk()).await.unwrap().unwrap());
    }
    let standing = &world.standings(&[]).await[0];
    assert!(
        (9 + 2_000..9 + 2_600).contains(&standing.used),
        "{}",
        standing.used
    );
    drop(opened);
    assert_eq!(tokens(&world).await, 9 + 2_000);
}

#[tokio::test]
async fn a_stream_that_outgrows_its_limit_is_cut_there_if_told_to() {
    let limits = "limits: [{ name: all, tokens: 1_000, every: 8000h }]\nbounds: { overrun: cut }";
    let world = World::new(limits).await;
    let call = ApiCall::chat("gpt-4o", "Hello world")
        .output(3_000)
        .streamed();
    let reply = world.call(&call).await;
    let answer = reply.answer();
    assert!(!reply.broken && !answer.complete);
    assert!(answer.error.unwrap().contains("no room for the rest"));
    let used = tokens(&world).await;
    assert!((900..=1_010).contains(&used), "{used}");
}
