//! Calls that go well, in every dialect.

use tallygate_core::Metric;
use tallygate_sim::ApiCall;
use tallygate_tokens::Endpoint;

use crate::world::{LIMITS, World};

const SIZED: [(Endpoint, &str); 7] = [
    (Endpoint::ChatCompletions, "gpt-4o"),
    (Endpoint::Responses, "gpt-4o"),
    (Endpoint::Completions, "gpt-3.5-turbo-instruct"),
    (Endpoint::Embeddings, "text-embedding-3-small"),
    (Endpoint::Messages, "claude-sonnet-4-5"),
    (Endpoint::GenerateContent, "gemini-2.5-flash"),
    (Endpoint::StreamGenerateContent, "gemini-2.5-flash"),
];

#[tokio::test]
async fn every_endpoint_passes_and_is_settled_by_its_usage() {
    for (endpoint, model) in SIZED {
        let world = World::new(LIMITS).await;
        let reply = world
            .call(
                &ApiCall::new(endpoint, model, "Hello world")
                    .output(30)
                    .max_tokens(100),
            )
            .await;
        assert_eq!(reply.status, 200, "{endpoint:?}: {:?}", reply.body);
        let usage = reply.answer().usage.unwrap();
        world.settled().await;
        assert_eq!(world.used(Metric::REQUESTS, &[]).await, 1, "{endpoint:?}");
        assert_eq!(
            world.used(Metric::TOKENS, &[]).await,
            usage.input + usage.output,
            "{endpoint:?}"
        );
    }
}

#[tokio::test]
async fn streams_pass_and_are_settled_by_their_usage() {
    for (endpoint, model) in SIZED {
        let call = ApiCall::new(endpoint, model, "Hello world")
            .output(30)
            .max_tokens(100);
        let call = match endpoint {
            Endpoint::ChatCompletions | Endpoint::Completions => call.streamed_with_usage(),
            Endpoint::Responses | Endpoint::Messages => call.streamed(),
            _ => continue,
        };
        let world = World::new(LIMITS).await;
        let reply = world.call(&call).await;
        let answer = reply.answer();
        assert!(answer.complete, "{endpoint:?}: {:?}", reply.body);
        let usage = answer.usage.unwrap();
        world.settled().await;
        assert_eq!(
            world.used(Metric::TOKENS, &[]).await,
            usage.input + usage.output,
            "{endpoint:?}"
        );
    }
}

#[tokio::test]
async fn counting_tokens_costs_a_request_and_no_tokens() {
    let world = World::new(LIMITS).await;
    let reply = world
        .call(&ApiCall::new(
            Endpoint::CountTokens,
            "claude-sonnet-4-5",
            "Hello world",
        ))
        .await;
    assert_eq!(reply.status, 200, "{:?}", reply.body);
    world.settled().await;
    assert_eq!(world.used(Metric::REQUESTS, &[]).await, 1);
    assert_eq!(world.used(Metric::TOKENS, &[]).await, 0);
}

#[tokio::test]
async fn an_answer_passes_unchanged() {
    let world = World::new(LIMITS).await;
    let direct = world.direct();
    for (endpoint, model) in SIZED {
        let call = ApiCall::new(endpoint, model, "Unchanged?")
            .output(20)
            .max_tokens(50);
        for call in [call.clone(), call.streamed_with_usage()] {
            let (through, straight) = (world.call(&call).await, direct.call(&call).await.unwrap());
            assert_eq!(through.status, straight.status);
            assert_eq!(
                through.header("content-type"),
                straight.header("content-type")
            );
            assert_eq!(
                World::comparable(&through.body),
                World::comparable(&straight.body),
                "{endpoint:?}"
            );
        }
    }
}

#[tokio::test]
async fn what_has_no_size_passes_as_one_request() {
    let world = World::new(LIMITS).await;
    let reply = world.client.get("/v1/models?limit=3").await.unwrap();
    assert_eq!(reply.status, 200);
    assert!(reply.json()["data"].is_array());
    world.settled().await;
    assert_eq!(world.used(Metric::REQUESTS, &[]).await, 1);
    assert_eq!(world.used(Metric::TOKENS, &[]).await, 0);
    let sent = world.mock.received();
    assert_eq!(sent.last().unwrap().path, "/v1/models?limit=3");
}

#[tokio::test]
async fn the_providers_key_goes_out_and_the_callers_does_not() {
    let hash = "sha256:2bb80d537b1da3e38bd30361aa855686bde0eacd7162fef6a25fe97bf527a25b"; // of "secret"
    let world = World::new(&format!(
        "{LIMITS}\nkeys: [{{ id: a, hash: \"{hash}\", subject: {{ user: alice }} }}]"
    ))
    .await;
    let client = world
        .client
        .clone()
        .with_key("secret")
        .with_header("x-tallygate-user", "bob");
    for (call, header, value) in [
        (
            ApiCall::chat("gpt-4o", "Hi"),
            "authorization",
            "Bearer sk-openai",
        ),
        (
            ApiCall::messages("claude-sonnet-4-5", "Hi"),
            "x-api-key",
            "sk-anthropic",
        ),
        (
            ApiCall::new(Endpoint::GenerateContent, "gemini-2.5-flash", "Hi"),
            "x-goog-api-key",
            "sk-gemini",
        ),
    ] {
        assert_eq!(client.call(&call).await.unwrap().status, 200);
        let sent = world.mock.received().pop().unwrap();
        assert_eq!(sent.headers[header], value);
        assert_eq!(sent.headers["accept-encoding"], "identity");
        for (name, value) in &sent.headers {
            assert!(!value.to_str().unwrap().contains("secret"), "{name}");
            assert!(!name.as_str().starts_with("x-tallygate"), "{name}");
        }
    }
}

#[tokio::test]
async fn limits_are_told_in_the_dialects_headers_and_the_providers_set_aside() {
    let limit = tallygate_sim::MockLimit::per_minute(tallygate_sim::MockMetric::Requests, 5_000);
    let options = tallygate_sim::MockOptions {
        limits: vec![limit],
        ..Default::default()
    };
    let world = World::with_mock(LIMITS, options).await;
    let reply = world.call(&ApiCall::chat("gpt-4o", "Hi")).await;
    assert_eq!(reply.header("x-ratelimit-limit-requests"), Some("1000"));
    assert_eq!(reply.header("x-ratelimit-remaining-requests"), Some("999"));
    assert_eq!(
        reply.header("x-upstream-ratelimit-limit-requests"),
        Some("5000")
    );
    let reply = world
        .call(&ApiCall::messages("claude-sonnet-4-5", "Hi"))
        .await;
    assert_eq!(
        reply.header("anthropic-ratelimit-requests-limit"),
        Some("1000")
    );
    assert_eq!(
        reply.header("anthropic-ratelimit-requests-remaining"),
        Some("998")
    );
}
