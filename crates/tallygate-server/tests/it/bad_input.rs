//! Requests that are refused before any limit is asked, each in the caller's dialect.

use std::io::ErrorKind;
use std::time::Duration;

use tallygate_core::Metric;
use tallygate_sim::ApiCall;
use tallygate_tokens::Endpoint;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};

use crate::world::{LIMITS, World, within};

const KEYS: &str = "
keys: [{ id: a, hash: \"sha256:2bb80d537b1da3e38bd30361aa855686bde0eacd7162fef6a25fe97bf527a25b\" }]"; // of "secret"

/// Sends raw bytes and reads until the server closes.
async fn raw(world: &World, pieces: &[&[u8]]) -> String {
    let addr = world.base.trim_start_matches("http://");
    let mut stream = TcpStream::connect(addr).await.expect("a connection");
    for piece in pieces {
        stream.write_all(piece).await.expect("a connection");
    }
    read_all(stream).await
}

async fn read_all(mut stream: TcpStream) -> String {
    let mut answer = Vec::new();
    match within(stream.read_to_end(&mut answer)).await {
        Err(error) if error.kind() != ErrorKind::ConnectionReset => panic!("{error}"),
        _ => String::from_utf8_lossy(&answer).into_owned(),
    }
}

#[tokio::test]
async fn no_key_or_an_unknown_one_is_401_in_each_dialect() {
    let world = World::new(&format!("{LIMITS}{KEYS}")).await;
    let unknown = world.client.clone().with_key("unknown");
    for client in [&world.client, &unknown] {
        let openai = client.call(&ApiCall::chat("gpt-4o", "Hi")).await.unwrap();
        assert_eq!(
            (openai.status, openai.json()["error"]["type"].as_str()),
            (401, Some("invalid_request_error"))
        );
        let anthropic = client
            .call(&ApiCall::messages("claude-sonnet-4-5", "Hi"))
            .await
            .unwrap();
        assert_eq!(
            (anthropic.status, anthropic.json()["error"]["type"].as_str()),
            (401, Some("authentication_error"))
        );
        let gemini = ApiCall::new(Endpoint::GenerateContent, "gemini-2.5-flash", "Hi");
        let gemini = client.call(&gemini).await.unwrap();
        assert_eq!(
            (gemini.status, gemini.json()["error"]["status"].as_str()),
            (401, Some("UNAUTHENTICATED"))
        );
        assert_eq!(client.get("/v1/models").await.unwrap().status, 401);
    }
    assert_eq!(
        world
            .client
            .clone()
            .with_key("secret")
            .call(&ApiCall::chat("gpt-4o", "Hi"))
            .await
            .unwrap()
            .status,
        200
    );
    assert_eq!(world.used(Metric::REQUESTS, &[]).await, 1);
}

#[tokio::test]
async fn malformed_json_is_told_with_line_and_column() {
    let world = World::new(LIMITS).await;
    for path in [
        "/v1/chat/completions",
        "/v1/messages",
        "/v1beta/models/gemini-2.5-flash:generateContent",
    ] {
        let reply = world
            .post(path, "{\n  \"model\": \"m\",\n  oops }".to_owned())
            .await;
        assert_eq!(reply.status, 400, "{path}");
        let message = reply.json()["error"]["message"].to_string();
        assert!(
            message.contains("line 3") && message.contains("column 3"),
            "{path}: {message}"
        );
    }
    let reply = world
        .post("/v1/chat/completions", r#"{"messages": []}"#.to_owned())
        .await;
    assert_eq!(
        (reply.status, reply.json()["error"]["param"].as_str()),
        (400, Some("model"))
    );
    let reply = world.call(&ApiCall::chat(&"m".repeat(257), "Hi")).await;
    assert_eq!(
        (reply.status, reply.json()["error"]["param"].as_str()),
        (400, Some("model"))
    );
    assert_eq!(world.used(Metric::REQUESTS, &[]).await, 0);
    assert_eq!(world.mock.books().totals().received, 0);
}

#[tokio::test]
async fn unknown_paths_are_404_and_unserved_dialects_too() {
    let world = World::new(LIMITS).await;
    let reply = world.client.get("/").await.unwrap();
    assert_eq!(
        (reply.status, reply.json()["error"]["code"].as_str()),
        (404, Some("unknown_url"))
    );
    let anthropic = world
        .client
        .clone()
        .with_header("anthropic-version", "2023-06-01");
    let reply = anthropic.get("/v2/messages").await.unwrap();
    assert_eq!(
        (reply.status, reply.json()["error"]["type"].as_str()),
        (404, Some("not_found_error"))
    );
}

#[tokio::test]
async fn a_tier_without_the_model_is_403() {
    let tiers = format!(
        "{LIMITS}\ntiers: {{ free: {{ models: [gpt-4o] }} }}\nidentify: {{ trust_headers: true }}"
    );
    let world = World::new(&tiers).await;
    let client = world.client.clone().with_header("x-tallygate-tier", "free");
    let reply = client.call(&ApiCall::chat("o3", "Hi")).await.unwrap();
    assert_eq!(
        (reply.status, reply.json()["error"]["code"].as_str()),
        (403, Some("model_not_found"))
    );
    assert_eq!(
        client
            .call(&ApiCall::chat("gpt-4o", "Hi"))
            .await
            .unwrap()
            .status,
        200
    );
}

#[tokio::test]
async fn a_body_over_the_bound_is_413_whether_it_tells_its_length_or_not() {
    let world = World::new(&format!("{LIMITS}\nbounds: {{ max_body: 100KiB }}")).await;
    let long = "x".repeat(100 * 1024 + 1);
    for path in ["/v1/chat/completions", "/v1/files"] {
        let head = format!(
            "POST {path} HTTP/1.1\r\nhost: t\r\ncontent-length: {}\r\n\r\n",
            long.len()
        );
        let answer = raw(&world, &[head.as_bytes()]).await;
        assert!(answer.starts_with("HTTP/1.1 413"), "{answer}");
        assert!(answer.contains("request_too_large"), "{answer}");
        let head = format!(
            "POST {path} HTTP/1.1\r\nhost: t\r\nconnection: close\r\ntransfer-encoding: chunked\r\n\r\n{:x}\r\n",
            long.len()
        );
        let answer = raw(
            &world,
            &[head.as_bytes(), long.as_bytes(), b"\r\n0\r\n\r\n"],
        )
        .await;
        assert!(answer.starts_with("HTTP/1.1 413"), "{path}: {answer}");
    }
    assert_eq!(
        world
            .post("/v1/chat/completions", long[..100 * 1024].to_owned())
            .await
            .status,
        400
    );
    world.settled().await;
}

#[tokio::test]
async fn a_body_that_does_not_come_is_408() {
    let world = World::new(&format!("{LIMITS}\nbounds: {{ body_time: 100ms }}")).await;
    let head = b"POST /v1/messages HTTP/1.1\r\nhost: t\r\ncontent-length: 10\r\n\r\n{";
    let answer = raw(&world, &[head]).await;
    assert!(answer.starts_with("HTTP/1.1 408"), "{answer}");
}

#[tokio::test]
async fn heads_are_bounded_in_bytes_and_time() {
    let world = World::new(&format!(
        "{LIMITS}\nbounds: {{ max_headers: 4KiB, header_time: 1s }}"
    ))
    .await;
    let head = format!(
        "GET /v1/models HTTP/1.1\r\nhost: t\r\nx-long: {}\r\n\r\n",
        "y".repeat(5_000)
    );
    let answer = raw(&world, &[head.as_bytes()]).await;
    assert!(answer.starts_with("HTTP/1.1 431"), "{answer}");
    let answer = raw(&world, &[b"GET /v1/models HTTP/1.1\r\nhost: t\r\n"]).await;
    assert!(
        answer.is_empty() || answer.starts_with("HTTP/1.1 408"),
        "{answer}"
    );
}

#[tokio::test]
async fn an_idle_connection_outlives_the_time_for_a_head() {
    let world = World::new(&format!("{LIMITS}\nbounds: {{ header_time: 100ms }}")).await;
    let addr = world.base.trim_start_matches("http://").to_owned();
    let mut stream = TcpStream::connect(addr).await.unwrap();
    // tidy: sleeps because the passing of time is what is tested
    tokio::time::sleep(Duration::from_millis(300)).await;
    for last in ["", "connection: close\r\n"] {
        let request = format!("GET /v1/models HTTP/1.1\r\nhost: t\r\n{last}\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        if last.is_empty() {
            let mut start = [0; 12];
            within(stream.read_exact(&mut start)).await.unwrap();
            assert_eq!(&start, b"HTTP/1.1 200");
            // tidy: sleeps because the passing of time is what is tested
            tokio::time::sleep(Duration::from_millis(300)).await;
        }
    }
    assert!(read_all(stream).await.contains("HTTP/1.1 200"));
}

#[tokio::test]
async fn a_caller_that_takes_nothing_of_its_answer_is_given_up() {
    let world = World::new(&format!("{LIMITS}\nbounds: {{ idle_time: 500ms }}")).await;
    let addr = world.base.trim_start_matches("http://");
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    let mut stream = socket.connect(addr.parse().unwrap()).await.unwrap();
    let body =
        r#"{"model": "gpt-4o", "messages": [{"role": "user", "content": "Hi"}], "stream": true}"#;
    let head = format!(
        "POST /v1/chat/completions HTTP/1.1\r\nhost: t\r\ncontent-type: application/json\r\n\
         x-mock-output-tokens: 500000\r\nx-mock-chunk-tokens: 20\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut start = [0; 12];
    within(stream.read_exact(&mut start)).await.unwrap();
    assert_eq!(&start, b"HTTP/1.1 200");
    world.settled().await;
    assert!(world.used(Metric::TOKENS, &[]).await < 500_000);
}

#[tokio::test]
async fn connections_over_the_bound_wait_for_a_slot() {
    let world = World::new(&format!("{LIMITS}\nbounds: {{ max_connections: 1 }}")).await;
    let addr = world.base.trim_start_matches("http://").to_owned();
    let first = TcpStream::connect(&addr).await.unwrap();
    let request = b"GET /v1/models HTTP/1.1\r\nhost: t\r\nconnection: close\r\n\r\n";
    let mut second = TcpStream::connect(&addr).await.unwrap();
    second.write_all(request).await.unwrap();
    let mut start = [0; 12];
    let early =
        tokio::time::timeout(Duration::from_millis(200), second.read_exact(&mut start)).await;
    assert!(early.is_err(), "the only slot is taken");
    drop(first);
    within(second.read_exact(&mut start)).await.unwrap();
    assert_eq!(&start, b"HTTP/1.1 200");
}
