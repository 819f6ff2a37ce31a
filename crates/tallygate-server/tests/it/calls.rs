//! Calls that go well, in every dialect.

use std::convert::Infallible;
use std::net::SocketAddr;

use http::header::CONTENT_TYPE;
use http::{Request, Response};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tallygate_core::Metric;
use tallygate_sim::ApiCall;
use tallygate_tokens::Endpoint;
use tokio::net::TcpListener;

use crate::world::{LIMITS, World, config};

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

/// Sends every request's body back, with the status that its header `x-status` wants.
pub(crate) async fn echo() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a listener");
    let addr = listener.local_addr().expect("an address");
    let service = service_fn(|request: Request<Incoming>| async {
        let encoding = request.headers().get("content-type").cloned();
        let status = request.headers().get("x-status").cloned();
        let mut response = Response::new(request.into_body());
        if let Some(status) = status {
            *response.status_mut() = http::StatusCode::from_bytes(status.as_bytes()).expect("one");
        }
        response
            .headers_mut()
            .extend(encoding.map(|kind| (CONTENT_TYPE, kind)));
        Ok::<_, Infallible>(response)
    });
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), service));
        }
    });
    addr
}

#[tokio::test]
async fn uploads_and_binary_answers_pass_as_they_come() {
    let upstreams = format!(
        "upstreams: {{ a: {{ dialect: openai, base_url: \"http://{}/v1\" }} }}",
        echo().await
    );
    let world = World::with_config(config(&upstreams, "bounds: { max_body: 8MiB }")).await;
    let bytes: Vec<u8> = (0..5_000_000_u32)
        .map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8)
        .collect();
    for _ in 0..2 {
        let reply = world.post("/v1/files", bytes.clone()).await;
        assert_eq!(reply.status, 200);
        assert!(reply.body == bytes, "{} bytes came back", reply.body.len());
    }
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
