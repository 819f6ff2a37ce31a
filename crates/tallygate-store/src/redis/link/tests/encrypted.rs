//! The way over TLS.
use tallygate_sim::servers::{Engine, Server};

use super::*;
use crate::redis::RedisOpenError;

const CERTIFICATES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/tls");

/// A server that speaks TLS on another port than plainly; gives that port.
fn encrypted() -> (Server, u16) {
    let lines = [
        format!("tls-cert-file {CERTIFICATES}/server.pem"),
        format!("tls-key-file {CERTIFICATES}/server.key"),
        format!("tls-ca-cert-file {CERTIFICATES}/ca.pem"),
        "tls-auth-clients no".to_owned(),
    ];
    let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
    let server = started(Engine::Redis, &lines);
    let port = server.tls_addr().unwrap().port();
    (server, port)
}

async fn refusal(url: &str) -> RedisOpenError {
    match Link::open(&options(url), ADD).await {
        Ok(_) => panic!("{url} was opened"),
        Err(error) => error,
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_and_messages_go_over_tls() {
    let (server, port) = encrypted();
    let url = format!("rediss://127.0.0.1:{port}?ca={CERTIFICATES}/ca.pem");
    let link = opened(&url, ADD).await;
    let mut news = link.subscribe(vec!["tg:news".to_owned()]);
    assert_eq!(sum(&link, &add(1, 2)).await, Ok(2));
    assert_eq!(news.recv().await, Some(super::super::Notice::Resumed));
    server.command(&["PUBLISH", "tg:news", "heard"]).unwrap();
    assert!(matches!(
        news.recv().await,
        Some(super::super::Notice::Message { .. })
    ));
    let big = vec![b'x'; 200_000];
    let mut call = add(1, 2);
    call.args.push(big);
    assert_eq!(sum(&link, &call).await, Ok(4));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_cannot_be_verified_is_refused() {
    let (server, port) = encrypted();
    let ours = format!("?ca={CERTIFICATES}/ca.pem");
    for (url, wanted) in [
        (format!("rediss://127.0.0.1:{port}"), "UnknownIssuer"),
        (
            format!("rediss://localhost:{port}{ours}"),
            "not valid for name",
        ),
        (
            format!("rediss://{}{ours}", server.addr()),
            "no answer within 1s",
        ),
    ] {
        match refusal(&url).await {
            RedisOpenError::Tls { reason, .. } => assert!(reason.contains(wanted), "{reason}"),
            other => panic!("{url}: {other}"),
        }
    }
    let plain = refusal(&format!("redis://127.0.0.1:{port}?connect_timeout=200ms")).await;
    assert!(
        plain.to_string().contains("the store at 127.0.0.1"),
        "{plain}"
    );
}

#[tokio::test]
async fn a_file_without_certificates_is_refused() {
    for file in ["no-such-file.pem", "server.key"] {
        let error = refusal(&format!("rediss://h?ca={CERTIFICATES}/{file}")).await;
        assert!(
            matches!(error, RedisOpenError::Authorities { .. }),
            "{error}"
        );
        assert!(error.to_string().contains(file), "{error}");
    }
}
