//! Calls that a real provider would turn away.

use bytes::Bytes;
use http::{HeaderValue, Method};
use serde_json::json;
use tallygate_sim::mock::{Keys, MAX_TRIES};
use tallygate_sim::{ApiCall, Client, MockOptions, Reply};
use tallygate_tokens::Endpoint;

use crate::support::{Bench, KEY};

async fn post(client: &Client, path: &str, body: &str) -> Reply {
    let mut request = client
        .request(Method::POST, path, Bytes::from(body.to_owned()))
        .unwrap();
    request
        .headers_mut()
        .insert("content-type", HeaderValue::from_static("application/json"));
    client.send(request).await.unwrap().read().await.unwrap()
}

#[tokio::test]
async fn bad_bodies_are_answered_400() {
    let bench = Bench::new().await;
    let message = json!([{ "role": "user", "content": "Hi" }]);
    let bad = [
        ("/v1/chat/completions", json!({ "messages": message })),
        ("/v1/chat/completions", json!({ "model": "gpt-4o" })),
        (
            "/v1/chat/completions",
            json!({ "model": "gpt-4o", "messages": [] }),
        ),
        (
            "/v1/chat/completions",
            json!({ "model": 4, "messages": message }),
        ),
        (
            "/v1/chat/completions",
            json!({ "model": "gpt-4o", "messages": message, "n": 0 }),
        ),
        (
            "/v1/chat/completions",
            json!({ "model": "gpt-4o", "messages": message, "n": 129 }),
        ),
        (
            "/v1/chat/completions",
            json!({ "model": "gpt-4o", "messages": message, "max_tokens": 0 }),
        ),
        (
            "/v1/chat/completions",
            json!({ "model": "gpt-4o", "messages": message, "max_tokens": 1, "max_completion_tokens": 1 }),
        ),
        (
            "/v1/chat/completions",
            json!({ "model": "gpt-4o", "messages": message, "stream_options": { "include_usage": true } }),
        ),
        ("/v1/responses", json!({ "model": "gpt-4o" })),
        ("/v1/completions", json!({ "model": "gpt-4o" })),
        (
            "/v1/embeddings",
            json!({ "model": "gpt-4o", "input": "a", "dimensions": 0 }),
        ),
        ("/v1beta/models/gemini-2.5-flash:generateContent", json!({})),
    ];
    for (path, body) in &bad {
        assert_eq!(
            post(&bench.client, path, &body.to_string()).await.status,
            400,
            "{path} {body}"
        );
    }
    let books = bench.mock.books();
    assert_eq!((books.strays, books.accounts.len()), (bad.len() as u64, 0));
}

#[tokio::test]
async fn malformed_json_is_told_by_line_and_column() {
    let bench = Bench::new().await;
    let reply = post(&bench.client, "/v1/chat/completions", "{\n  \"model\": ,").await;
    let message = reply.json()["error"]["message"]
        .as_str()
        .unwrap()
        .to_owned();
    assert!(
        reply.status == 400 && message.contains("line 2 column 12"),
        "{message}"
    );
}

#[tokio::test]
async fn messages_need_a_version_and_max_tokens() {
    let bench = Bench::new().await;
    let body = json!({ "model": "claude-sonnet-4-5", "max_tokens": 5, "messages": [{ "role": "user", "content": "Hi" }] });
    let reply = post(&bench.client, "/v1/messages", &body.to_string()).await;
    assert_eq!(
        (reply.status, reply.json()["error"]["type"].as_str()),
        (400, Some("invalid_request_error"))
    );
    let versioned = bench
        .client
        .clone()
        .with_header("anthropic-version", "2023-06-01");
    assert_eq!(
        post(&versioned, "/v1/messages", &body.to_string())
            .await
            .status,
        200
    );
    let uncapped =
        json!({ "model": "claude-sonnet-4-5", "messages": [{ "role": "user", "content": "Hi" }] });
    assert_eq!(
        post(&versioned, "/v1/messages", &uncapped.to_string())
            .await
            .status,
        400
    );
}

#[tokio::test]
async fn unknown_keys_paths_methods_and_types_are_told_apart() {
    let options = MockOptions {
        keys: Keys::Only(vec![KEY.to_owned()]),
        ..MockOptions::default()
    };
    let bench = Bench::with(options).await;
    let stranger = Client::new(format!("http://{}", bench.mock.addr())).with_key("sk-stranger");
    let call = ApiCall::chat("gpt-4o", "Hi");
    assert_eq!(stranger.call(&call).await.unwrap().status, 401);
    assert_eq!(stranger.get("/v1/models").await.unwrap().status, 401);
    assert_eq!(bench.call(&call).await.status, 200);
    assert_eq!(
        bench
            .client
            .get("/v1/chat/completions")
            .await
            .unwrap()
            .status,
        405
    );
    assert_eq!(bench.client.get("/v1/nothing").await.unwrap().status, 404);
    assert_eq!(
        bench.client.get("/v1/models/gpt-9").await.unwrap().status,
        404
    );
    assert_eq!(
        bench.client.get("/v1/models/gpt-4o").await.unwrap().json()["id"],
        "gpt-4o"
    );
    let plain = bench
        .client
        .request(
            Method::POST,
            "/v1/chat/completions",
            Bytes::from(call.body()),
        )
        .unwrap();
    assert_eq!(bench.client.send(plain).await.unwrap().status, 415);
}

#[tokio::test]
async fn a_body_over_the_bound_is_answered_413() {
    let options = MockOptions {
        max_body: 200,
        ..MockOptions::default()
    };
    let bench = Bench::with(options).await;
    let sized = |size: usize| {
        let body = ApiCall::chat("gpt-4o", "").body();
        ApiCall::chat("gpt-4o", &"x".repeat(size - body.len()))
    };
    assert_eq!(bench.call(&sized(200)).await.status, 200);
    assert_eq!(bench.call(&sized(201)).await.status, 413);
}

#[tokio::test]
async fn switches_that_cannot_be_read_are_refused() {
    let bench = Bench::new().await;
    for (name, value) in [
        ("x-mock-output-tokens", "many"),
        ("x-mock-status", "200"),
        ("x-mock-first-token-ms", "600001"),
        ("x-mock-output-tokens", "1048577"),
        ("x-mock-huge-event", "67108865"),
        ("x-mock-retry-after-ms", "31622400001"),
        ("x-mock-id", &"x".repeat(129)),
        ("x-mock-tpyo", "1"),
    ] {
        let reply = bench
            .call(&ApiCall::chat("gpt-4o", "Hi").header(name, value))
            .await;
        let message = reply.json()["error"]["message"]
            .as_str()
            .unwrap()
            .to_owned();
        assert!(reply.status == 400 && message.contains(name), "{message}");
    }
    let longest = ApiCall::chat("gpt-4o", "Hi")
        .output(0)
        .header("x-mock-token-us", "600000000");
    assert_eq!(bench.call(&longest).await.status, 200);
}

#[tokio::test]
async fn more_accounts_than_the_bound_are_turned_away() {
    let bench = Bench::with(MockOptions {
        max_accounts: 2,
        ..MockOptions::default()
    })
    .await;
    let mut statuses = Vec::new();
    for model in ["a", "b", "c", "a"] {
        statuses.push(
            bench
                .call(&ApiCall::chat(model, "Hi").output(1))
                .await
                .status,
        );
    }
    assert_eq!(statuses, [200, 200, 503, 200]);
}

#[tokio::test]
async fn the_latest_requests_are_kept_as_they_came() {
    let bench = Bench::with(MockOptions {
        keep_received: 2,
        ..MockOptions::default()
    })
    .await;
    for prompt in ["one", "two", "three"] {
        bench
            .call(
                &ApiCall::new(Endpoint::ChatCompletions, "gpt-4o", prompt).header("x-test", prompt),
            )
            .await;
    }
    let received = bench.mock.received();
    assert_eq!(received.len(), 2);
    assert_eq!(received[1].headers["x-test"], "three");
    assert_eq!(received[1].body, ApiCall::chat("gpt-4o", "three").body());
}

#[tokio::test]
async fn one_connection_more_than_the_bound_waits() {
    let bench = Bench::with(MockOptions {
        max_connections: 1,
        ..MockOptions::default()
    })
    .await;
    let held = ApiCall::chat("gpt-4o", "Hi")
        .streamed()
        .header("x-mock-stall-after", "0");
    let opened = bench.client.open(&held).await.unwrap();
    let call = ApiCall::chat("gpt-4o", "Hi");
    let mut waiting = std::pin::pin!(bench.call(&call));
    let soon = tokio::time::timeout(std::time::Duration::from_millis(30), &mut waiting);
    assert!(soon.await.is_err(), "answered over the bound");
    drop(opened);
    assert_eq!(waiting.await.status, 200);
}

#[tokio::test]
async fn names_of_tries_are_forgotten_past_their_bound() {
    let bench = Bench::new().await;
    let client = &bench.client;
    let fails = |id: String| async move {
        let call = ApiCall::chat("gpt-4o", "Hi")
            .header("x-mock-status", "500")
            .header("x-mock-id", &id);
        client.call(&call).await.unwrap().status == 500
    };
    for number in 0..MAX_TRIES {
        assert!(fails(number.to_string()).await);
    }
    assert!(!fails("0".to_owned()).await, "forgotten at the bound");
    assert!(fails("one more".to_owned()).await);
    assert!(fails("0".to_owned()).await, "remembered past the bound");
}
