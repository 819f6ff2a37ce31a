//! Calls that the provider does not serve, or not to the end.

use tallygate_core::Metric;
use tallygate_sim::ApiCall;
use tallygate_tokens::Endpoint;
use tokio::net::TcpListener;

use crate::world::{LIMITS, World, config, within};

fn chat() -> ApiCall {
    ApiCall::chat("gpt-4o", "Hello world")
        .max_tokens(100)
        .output(50)
}

/// Requests and tokens that stay used once all is settled.
async fn charged(world: &World) -> (u64, u64) {
    world.settled().await;
    (
        world.used(Metric::REQUESTS, &[]).await,
        world.used(Metric::TOKENS, &[]).await,
    )
}

#[tokio::test]
async fn a_providers_429_and_5xx_are_passed_on_and_cost_nothing() {
    for status in ["429", "500", "503", "529"] {
        let world = World::new(LIMITS).await;
        let call = chat()
            .header("x-mock-status", status)
            .header("x-mock-retry-after-ms", "1700");
        let reply = world.call(&call).await;
        assert_eq!(reply.status.to_string(), status);
        assert_eq!(reply.header("retry-after-ms"), Some("1700"));
        assert!(reply.json()["error"]["message"].is_string());
        assert_eq!(charged(&world).await, (0, 0), "{status}");
    }
}

#[tokio::test]
async fn a_providers_400_is_passed_on_and_costs_a_request() {
    let world = World::new(LIMITS).await;
    let reply = world.call(&chat().header("x-mock-status", "400")).await;
    assert_eq!(reply.status, 400);
    assert_eq!(charged(&world).await, (1, 0));
}

#[tokio::test]
async fn a_provider_that_closes_without_an_answer_is_502_and_costs_nothing() {
    let world = World::new(LIMITS).await;
    let reply = world
        .call(&chat().header("x-mock-close", "before-headers"))
        .await;
    assert_eq!(reply.status, 502);
    assert_eq!(reply.json()["error"]["code"], "broken_off");
    assert_eq!(charged(&world).await, (0, 0));
}

#[tokio::test]
async fn a_provider_that_cannot_be_reached_is_502_and_costs_nothing() {
    let nobody = TcpListener::bind("127.0.0.1:0")
        .await
        .unwrap()
        .local_addr()
        .unwrap();
    let upstreams =
        format!("upstreams: {{ a: {{ dialect: anthropic, base_url: \"http://{nobody}\" }} }}");
    let limits = "limits: [{ name: all, requests: 10, tokens: 10_000, every: 8000h }]";
    let world = World::with_config(config(&upstreams, limits)).await;
    let reply = world
        .call(&ApiCall::messages("claude-sonnet-4-5", "Hi"))
        .await;
    assert_eq!(reply.status, 502);
    assert_eq!(reply.json()["error"]["type"], "api_error");
    assert_eq!(charged(&world).await, (0, 0));
}

#[tokio::test]
async fn an_upstream_that_speaks_no_tls_where_it_should_is_502() {
    let world = World::new(LIMITS).await;
    let upstreams = format!(
        "upstreams: {{ a: {{ dialect: openai, base_url: \"https://{}\" }} }}",
        world.mock.addr()
    );
    let limits = "limits: [{ name: all, requests: 10, tokens: 10_000, every: 8000h }]";
    let secured = World::with_config(config(&upstreams, limits)).await;
    assert_eq!(secured.call(&chat()).await.status, 502);
    assert_eq!(charged(&secured).await, (0, 0));
}

#[tokio::test]
async fn an_answer_that_breaks_off_in_its_middle_is_502_and_keeps_what_was_held() {
    let world = World::new(LIMITS).await;
    let reply = world.call(&chat().header("x-mock-cut-after", "3")).await;
    assert_eq!(reply.status, 502);
    assert_eq!(charged(&world).await, (1, 9 + 100));
}

#[tokio::test]
async fn a_provider_that_falls_silent_is_504() {
    for bound in ["total_time", "answer_time"] {
        let world = World::new(&format!("{LIMITS}\nbounds: {{ {bound}: 1s }}")).await;
        let reply = world
            .call(&chat().header("x-mock-first-token-ms", "60000"))
            .await;
        assert_eq!(reply.status, 504);
        assert_eq!(charged(&world).await, (1, 9 + 100));
    }
}

#[tokio::test]
async fn missing_usage_is_counted_here() {
    let world = World::new(LIMITS).await;
    let call = chat().header("x-mock-usage", "missing");
    let reply = world.call(&call).await;
    assert_eq!(reply.status, 200);
    assert_eq!(reply.answer().usage, None);
    assert_eq!(charged(&world).await, (1, 9 + 50));
    let world = World::new(LIMITS).await;
    let reply = world.call(&call.streamed()).await;
    assert!(reply.answer().complete);
    assert_eq!(charged(&world).await, (1, 9 + 50));
}

#[tokio::test]
async fn a_usage_of_nothing_at_all_is_counted_here() {
    for call in [chat(), chat().streamed()] {
        let world = World::new(LIMITS).await;
        let reply = world.call(&call.header("x-mock-usage", "zero")).await;
        assert_eq!(reply.status, 200);
        assert_eq!(charged(&world).await, (1, 9 + 50));
    }
}

#[tokio::test]
async fn a_compressed_answer_passes_and_keeps_what_was_held() {
    for call in [chat(), chat().streamed()] {
        let world = World::new(LIMITS).await;
        let reply = world.call(&call.header("x-mock-encoding", "gzip")).await;
        assert_eq!(reply.header("content-encoding"), Some("gzip"));
        assert!(!reply.broken && reply.body.starts_with(&[0x1f, 0x8b]));
        assert_eq!(charged(&world).await, (1, 9 + 100));
    }
}

#[tokio::test]
async fn an_answer_above_what_is_read_whole_passes_and_is_settled() {
    let world = World::new(LIMITS).await;
    let reply = world
        .call(&chat().header("x-mock-huge-event", "3000000"))
        .await;
    assert_eq!(reply.status, 200);
    assert!(!reply.broken && reply.body.len() > 3_000_000);
    let usage = reply.answer().usage.unwrap();
    assert_eq!(charged(&world).await, (1, usage.input + usage.output));
}

#[tokio::test]
async fn a_caller_that_leaves_before_the_answer_keeps_what_was_held() {
    let world = World::new(LIMITS).await;
    let call = chat().header("x-mock-first-token-ms", "60000");
    let received = async {
        while world.mock.books().totals().received == 0 {
            tokio::task::yield_now().await;
        }
    };
    tokio::select! {
        answer = world.client.open(&call) => panic!("the answer is a minute away: {:?}", answer.is_ok()),
        () = within(received) => {}
    }
    assert_eq!(charged(&world).await, (1, 9 + 100));
}

#[tokio::test]
async fn embeddings_settle_by_their_input() {
    let world = World::new(LIMITS).await;
    let call = ApiCall::new(
        Endpoint::Embeddings,
        "text-embedding-3-small",
        "Hello world",
    );
    let reply = within(world.client.call(&call.header("x-mock-usage", "missing")))
        .await
        .unwrap();
    assert_eq!(reply.status, 200);
    assert_eq!(charged(&world).await, (1, 2));
}
