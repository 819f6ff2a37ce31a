//! How much of everything the admin listener takes.

use std::io::ErrorKind;
use std::time::Duration;

use bytes::Bytes;
use http::Method;
use serde_json::{Value, json};
use tallygate_server::admin::{MAX_BODY, MAX_CONNECTIONS, MAX_LISTENERS};
use tallygate_sim::Client;
use tallygate_sim::client::Opened;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::{administered, ask, made};
use crate::world::{LIMITS, World, within};

async fn connect(world: &World) -> TcpStream {
    let connected = TcpStream::connect(world.admin_addr()).await;
    connected.expect("a connection")
}

/// What comes of these bytes, until the server closes.
async fn raw(world: &World, bytes: &[u8]) -> String {
    let mut stream = connect(world).await;
    stream.write_all(bytes).await.expect("a connection");
    let mut answer = Vec::new();
    match within(stream.read_to_end(&mut answer)).await {
        Err(error) if error.kind() != ErrorKind::ConnectionReset => panic!("{error}"),
        _ => String::from_utf8_lossy(&answer).into_owned(),
    }
}

#[tokio::test]
async fn a_head_and_a_body_come_in_time_or_not_at_all() {
    let bounds = "bounds: { max_headers: 4KiB, header_time: 100ms, body_time: 100ms }";
    let world = World::new(&format!("{LIMITS}\n{bounds}")).await;
    let answer = raw(&world, b"GET /healthz HTTP/1.1\r\nhost: t\r\n").await;
    assert!(
        answer.is_empty() || answer.starts_with("HTTP/1.1 408"),
        "{answer}"
    );
    let body = b"POST /api/keys HTTP/1.1\r\nhost: t\r\ncontent-length: 10\r\n\r\n{";
    let answer = raw(&world, body).await;
    assert!(answer.starts_with("HTTP/1.1 408"), "{answer}");
    let long = "y".repeat(5_000);
    let head = format!("GET /healthz HTTP/1.1\r\nhost: t\r\nx-long: {long}\r\n\r\n");
    let answer = raw(&world, head.as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 431"), "{answer}");
}

#[tokio::test]
async fn a_body_over_the_bound_is_413_whether_it_tells_its_length_or_not() {
    let world = World::new(LIMITS).await;
    let long = "x".repeat(MAX_BODY + 1);
    for path in ["/api/keys", "/healthz"] {
        let told = format!("content-length: {}\r\n\r\n", long.len());
        let chunked = format!(
            "connection: close\r\ntransfer-encoding: chunked\r\n\r\n{:x}\r\n{long}\r\n0\r\n\r\n",
            long.len()
        );
        for rest in [told, chunked] {
            let request = format!("POST {path} HTTP/1.1\r\nhost: t\r\n{rest}");
            let answer = raw(&world, request.as_bytes()).await;
            assert!(answer.starts_with("HTTP/1.1 413"), "{path}: {answer}");
        }
    }
}

#[tokio::test]
async fn connections_over_the_bound_wait_for_a_slot() {
    let world = World::new(LIMITS).await;
    let mut held = Vec::new();
    for _ in 0..MAX_CONNECTIONS {
        held.push(connect(&world).await);
    }
    let mut next = connect(&world).await;
    let request = b"GET /healthz HTTP/1.1\r\nhost: t\r\nconnection: close\r\n\r\n";
    next.write_all(request).await.expect("a connection");
    let mut start = [0; 12];
    let reading = next.read_exact(&mut start);
    let early = tokio::time::timeout(Duration::from_millis(200), reading).await;
    assert!(early.is_err(), "all slots are taken");
    drop(held);
    within(next.read_exact(&mut start)).await.expect("a slot");
    assert_eq!(&start, b"HTTP/1.1 200");
}

async fn listen(world: &World, key: &str) -> Opened {
    let client = Client::new(&world.admin_base).with_key(key);
    let request = client.request(Method::GET, "/api/events", Bytes::new());
    let opened = client.send(request.expect("a request"));
    within(opened).await.expect("an answer")
}

#[tokio::test]
async fn listeners_to_events_have_a_bound() {
    let (world, root) = administered(LIMITS).await;
    let mut listeners = Vec::new();
    for _ in 0..MAX_LISTENERS {
        let opened = listen(&world, &root).await;
        assert_eq!(opened.status, 200);
        listeners.push(opened);
    }
    let refused = listen(&world, &root).await;
    assert_eq!(refused.status, 503);
    let error = within(refused.read()).await.expect("a body").json()["error"].clone();
    assert_eq!(error["type"], "full");
    assert!(error["mend"].is_string(), "{error}");
    listeners.pop();
    within(async {
        while listen(&world, &root).await.status != 200 {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

#[tokio::test]
async fn a_listener_hears_nothing_more_once_its_key_is_revoked() {
    let (world, root) = administered(LIMITS).await;
    let eve = json!({ "id": "eve", "roles": ["admin"] });
    let eve = made(&world, Some(&root), eve).await;
    let mut opened = listen(&world, &eve).await;
    assert_eq!(opened.status, 200);
    let path = ("/api/keys/eve", Value::Null);
    let revoked = ask(&world, Some(&root), Method::DELETE, path).await;
    assert_eq!(revoked.status, 200);
    while let Ok(Some(_)) = within(opened.chunk()).await {}
}
