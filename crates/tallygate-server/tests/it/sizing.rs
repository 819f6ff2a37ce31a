//! When a call is counted, and when its bounds are enough.

use tallygate_core::Metric;
use tallygate_sim::{ApiCall, Reply};

use crate::world::World;

/// About 5,000 tokens in 25,000 bytes.
fn prompt() -> String {
    "word ".repeat(5_000)
}

async fn told(world: &World) -> String {
    world.settled().await;
    world.metrics()
}

/// The input that was held, by what the limit had left when the call was admitted.
fn held(reply: &Reply, limit: u64) -> u64 {
    let left = reply
        .header("x-ratelimit-remaining-tokens")
        .and_then(|left| left.parse::<u64>().ok());
    limit - left.expect("the limit is told") - 10
}

const CALLS: [(&str, u64); 2] = [("bounded", 100_000_000), ("counted", 1_000_000)];

#[tokio::test]
async fn far_from_every_limit_a_bound_is_held_and_the_use_charged() {
    for (how, limit) in CALLS {
        let world = World::new(&format!(
            "limits: [{{ name: all, tokens: {limit}, every: 8000h }}]"
        ))
        .await;
        let call = ApiCall::chat("gpt-4o", &prompt()).max_tokens(10).output(10);
        let reply = world.call(&call).await;
        let input = reply.answer().usage.unwrap().input;
        let held = held(&reply, limit);
        match how {
            "bounded" => assert!(held >= 25_000, "{held}"),
            _ => assert_eq!(held, input),
        }
        world.settled().await;
        assert_eq!(world.used(Metric::TOKENS, &[]).await, input + 10, "{how}");
    }
}

#[tokio::test]
async fn a_bounded_call_without_usage_is_counted_after_all() {
    for (how, limit) in CALLS {
        let limits = format!("limits: [{{ name: all, tokens: {limit}, every: 8000h }}]");
        let call = ApiCall::chat("gpt-4o", &prompt()).max_tokens(64).output(10);
        let world = World::new(&limits).await;
        world
            .call(&call.clone().header("x-mock-usage", "missing"))
            .await;
        world.settled().await;
        let used = world.used(Metric::TOKENS, &[]).await;
        assert!((5_000 + 10..5_020 + 10).contains(&used), "{how}: {used}");
        let world = World::new(&limits).await;
        world
            .call(&call.clone().header("x-mock-encoding", "gzip"))
            .await;
        world.settled().await;
        let kept = world.used(Metric::TOKENS, &[]).await;
        assert_eq!(kept, used - 10 + 64, "{how}");
        assert!(told(&world).await.contains("outcome=\"settled\"} 1"));
    }
}

#[tokio::test]
async fn a_text_that_can_never_fit_is_refused_by_its_lower_bound() {
    let world = World::new("limits: [{ name: all, tokens: 1_000, every: 60s }]").await;
    let reply = world
        .call(&ApiCall::chat("gpt-4o", &"word ".repeat(100_000)))
        .await;
    assert_eq!(reply.status, 429);
    assert_eq!(reply.header("x-should-retry"), Some("false"));
    assert!(
        reply.json()["error"]["message"]
            .as_str()
            .unwrap()
            .contains("too large")
    );
}

#[tokio::test]
async fn a_large_text_is_counted_exactly_when_that_matters() {
    let world = World::new("limits: [{ name: all, tokens: 150_000, every: 8000h }]").await;
    let call = ApiCall::chat("gpt-4o", &"word ".repeat(100_000))
        .max_tokens(10)
        .output(10);
    let reply = world.call(&call).await;
    let input = reply.answer().usage.unwrap().input;
    assert_eq!(held(&reply, 150_000), input);
    let again = world.call(&call).await;
    assert_eq!(again.status, 429);
}
