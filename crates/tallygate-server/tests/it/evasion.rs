//! Ways round the limits, and to the provider's key, that are closed.

use http::{Method, Request};
use http_body_util::Full;
use tallygate_core::Metric;
use tallygate_sim::{ApiCall, Client, Reply};

use crate::world::{LIMITS, World, within};

const KEYS: &str = "
keys: [{ id: a, hash: \"sha256:2bb80d537b1da3e38bd30361aa855686bde0eacd7162fef6a25fe97bf527a25b\" }]"; // of "secret"

const REQUESTS: &str = "limits: [{ name: all, requests: 1000, every: 8000h }]";

const CHAT: &str =
    r#"{"model": "gpt-4o", "messages": [{"role": "user", "content": "Hi"}], "max_tokens": 30}"#;

/// Sends a body by `method` to `path`.
async fn send(client: &Client, method: Method, path: &str) -> Reply {
    let request = client
        .request(method, path, CHAT.to_owned().into())
        .expect("a request");
    let opened = within(client.send(request)).await.expect("an answer");
    within(opened.read()).await.expect("a body")
}

#[tokio::test]
async fn a_disguised_path_reaches_no_provider() {
    let world = World::new(LIMITS).await;
    for path in [
        "/v1//chat/completions",
        "/v1/chat/completions/",
        "/v1/%63hat/completions",
        "/v1/x/../chat/completions",
        "/v1/../../other/account",
        "/v1beta/models/gemini-2.5-flash%3AgenerateContent",
    ] {
        let reply = send(&world.client, Method::POST, path).await;
        assert_eq!(reply.status, 404, "{path}");
    }
    assert!(world.mock.received().is_empty());
    assert_eq!(world.used(Metric::REQUESTS, &[]).await, 0);
}

#[tokio::test]
async fn only_methods_of_an_api_are_handed_on() {
    let world = World::new(LIMITS).await;
    for method in ["TRACE", "PURGE", "get"] {
        let mut request = Request::new(Full::default());
        *request.method_mut() = method.parse().expect("a method");
        *request.uri_mut() = format!("{}/v1/models", world.base).parse().expect("a path");
        let opened = within(world.client.send(request)).await.expect("an answer");
        let reply = within(opened.read()).await.expect("a body");
        assert_eq!(reply.status, 405, "{method}");
    }
    let client = world
        .client
        .clone()
        .with_header("x-http-method-override", "POST");
    send(&client, Method::GET, "/v1/chat/completions").await;
    let received = world.mock.received();
    assert_eq!(received.len(), 1, "{received:?}");
    assert!(!received[0].headers.contains_key("x-http-method-override"));
}

#[tokio::test]
async fn a_key_in_the_query_goes_to_no_provider() {
    let world = World::new(&format!("{LIMITS}{KEYS}")).await;
    for path in [
        "/v1/models?key=secret&limit=2",
        "/v1/models?limit=2&key=secret",
        "/v1/chat/completions?limit=2&key=secret",
    ] {
        send(&world.client, Method::POST, path).await;
    }
    let received = world.mock.received();
    assert_eq!(received.len(), 3);
    for request in received {
        assert!(request.path.ends_with("?limit=2"), "{}", request.path);
    }
}

#[tokio::test]
async fn a_callers_own_key_in_the_query_passes_where_there_is_no_other() {
    let world = World::new(LIMITS).await;
    let upstream = format!(
        "upstreams: {{ gemini: {{ dialect: gemini, base_url: \"http://{}\" }} }}",
        world.mock.addr()
    );
    let keyless = World::with_config(crate::world::config(&upstream, REQUESTS)).await;
    let path = "/v1beta/models?key=theirs";
    send(&keyless.client, Method::GET, path).await;
    let received = world.mock.received();
    assert_eq!(received.len(), 1);
    assert_eq!(received[0].path, path);
}

#[tokio::test]
async fn a_compressed_body_is_refused_for_what_it_is() {
    let world = World::new(LIMITS).await;
    let client = world.client.clone().with_header("content-encoding", "gzip");
    let reply = within(client.call(&ApiCall::chat("gpt-4o", "Hi")))
        .await
        .expect("an answer");
    assert_eq!(reply.status, 400);
    let message = reply.json()["error"]["message"].to_string();
    assert!(message.contains("content-encoding"), "{message}");
    assert!(world.mock.received().is_empty());
}

#[tokio::test]
async fn a_models_name_has_no_control_characters() {
    let world = World::new(LIMITS).await;
    let reply = world.call(&ApiCall::chat("gpt-4o\u{1b}[31m", "Hi")).await;
    assert_eq!(
        (reply.status, reply.json()["error"]["param"].as_str()),
        (400, Some("model"))
    );
    assert!(world.mock.received().is_empty());
}
