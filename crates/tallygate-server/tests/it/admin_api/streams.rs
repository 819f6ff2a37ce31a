//! Streams that are open when their caller's key is revoked.

use http::Method;
use serde_json::{Value, json};
use tallygate_core::Metric;
use tallygate_sim::ApiCall;
use tallygate_sim::client::events;
use tallygate_tokens::Endpoint;

use super::{administered, ask, made};
use crate::world::{World, within};

const LIMITS: &str = "limits: [{ name: all, tokens: 100_000, every: 8000h }]";

/// A stream that has begun and stays open, cut down to what came of it once its key is revoked.
async fn revoked_inside(settings: &str, endpoint: Endpoint, model: &str) -> (World, String) {
    let (world, root) = administered(settings).await;
    let key = made(&world, Some(&root), json!({ "id": "alice" })).await;
    let world = world.keyed(&key);
    let call = ApiCall::new(endpoint, model, "Hello world")
        .output(400)
        .max_tokens(500)
        .streamed()
        .header("x-mock-token-us", "2000");
    let mut opened = within(world.client.open(&call)).await.expect("an answer");
    let mut seen = Vec::new();
    while events(&seen).len() < 10 {
        seen.extend(within(opened.chunk()).await.expect("whole").expect("more"));
    }
    let revoked = ask(
        &world,
        Some(&root),
        Method::DELETE,
        ("/api/keys/alice", Value::Null),
    )
    .await;
    assert_eq!(revoked.status, 200);
    while let Some(more) = within(opened.chunk()).await.expect("it does not break off") {
        seen.extend(more);
    }
    world.settled().await;
    (world, String::from_utf8_lossy(&seen).into_owned())
}

#[tokio::test]
async fn an_open_stream_ends_with_its_key_where_the_configuration_says_so() {
    let settings = format!("{LIMITS}\nbounds: {{ revoked: cut }}");
    for (endpoint, model) in [
        (Endpoint::ChatCompletions, "gpt-4o"),
        (Endpoint::Responses, "gpt-4o"),
        (Endpoint::Messages, "claude-haiku-4-5"),
        (Endpoint::StreamGenerateContent, "gemini-2.5-flash"),
    ] {
        let (world, text) = revoked_inside(&settings, endpoint, model).await;
        assert!(
            text.contains("he api key was revoked"),
            "{endpoint:?}: {text}"
        );
        let used = world.used(Metric::TOKENS, &[]).await;
        assert!(
            (15..350).contains(&used),
            "{endpoint:?}: paid for what passed: {used}"
        );
    }
}

#[tokio::test]
async fn an_open_stream_outlives_its_key_otherwise() {
    let (world, text) = revoked_inside(LIMITS, Endpoint::ChatCompletions, "gpt-4o").await;
    assert!(
        text.contains("[DONE]") && !text.contains("revoked"),
        "{text}"
    );
    assert!(world.used(Metric::TOKENS, &[]).await >= 400);
}
