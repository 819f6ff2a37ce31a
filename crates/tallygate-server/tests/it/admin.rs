//! The admin listener beside a running server.

use std::future::Future;
use std::net::SocketAddr;
use std::time::Duration;

use tallygate_server::admin::Ready;
use tallygate_server::{Config, Listeners, Server, ServerHandle};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use crate::http::{Answer, ask};

struct Running {
    data: SocketAddr,
    admin: SocketAddr,
    handle: ServerHandle,
    stop: oneshot::Sender<()>,
    served: JoinHandle<()>,
}

async fn listener() -> TcpListener {
    TcpListener::bind("127.0.0.1:0").await.expect("a port")
}

async fn serve(config: &str) -> Running {
    let config = Config::parse(config, "tallygate.yaml", &|_| None).expect("a good configuration");
    let server = Server::open(config).await.expect("a server");
    let handle = server.handle();
    assert_eq!(handle.ready(), Ready::No, "nothing is served yet");
    let listeners = Listeners {
        data: listener().await,
        admin: Some(listener().await),
    };
    let data = listeners.data.local_addr().expect("an address");
    let admin = listeners
        .admin
        .as_ref()
        .expect("bound")
        .local_addr()
        .expect("an address");
    let (stop, stopped) = oneshot::channel::<()>();
    let shutdown = async {
        let _ = stopped.await;
    };
    let served =
        tokio::spawn(async move { server.run(listeners, shutdown).await.expect("served") });
    Running {
        data,
        admin,
        handle,
        stop,
        served,
    }
}

/// Asks again until the answer is as expected.
async fn until(admin: SocketAddr, path: &str, wanted: impl Fn(&Answer) -> bool) -> Answer {
    let asking = async {
        loop {
            let answer = ask(admin, "GET", path, "").await;
            if wanted(&answer) {
                return answer;
            }
            tokio::task::yield_now().await;
        }
    };
    within(asking).await
}

async fn within<T>(work: impl Future<Output = T>) -> T {
    timeout(Duration::from_secs(20), work)
        .await
        .expect("in time")
}

#[tokio::test]
async fn health_and_metrics_are_told_and_nothing_else() {
    let server = serve("limits: [{ name: all, requests: 5, every: 60s }]").await;
    assert_eq!(ask(server.admin, "GET", "/healthz", "").await.status, 200);
    until(server.admin, "/readyz", |answer| answer.status == 200).await;
    let metrics = ask(server.admin, "GET", "/metrics", "").await;
    assert_eq!(metrics.status, 200);
    assert!(
        metrics
            .head
            .contains("content-type: application/openmetrics-text; version=1.0.0; charset=utf-8")
    );
    assert!(
        metrics.body.contains("tallygate_reservations_open 0"),
        "{}",
        metrics.body
    );
    assert!(metrics.body.ends_with("# EOF\n"));
    let document: serde_json::Value =
        serde_json::from_str(&ask(server.admin, "GET", "/openapi.json", "").await.body)
            .expect("JSON");
    assert_eq!(document["openapi"], "3.1.0");
    assert_eq!(
        ask(server.admin, "GET", "/tallygate/v1/limits", "")
            .await
            .status,
        404,
        "not the data listener"
    );
    assert_eq!(
        ask(server.data, "GET", "/metrics", "").await.status,
        404,
        "not the admin listener"
    );
    let _ = server.stop.send(());
    within(server.served).await.expect("ended");
    assert_eq!(server.handle.ready(), Ready::No);
}

#[tokio::test]
async fn a_draining_server_is_not_ready_and_still_answers() {
    let upstream = listener().await;
    let base = upstream.local_addr().expect("an address");
    let server = serve(&format!(
        "upstreams: {{ u: {{ dialect: openai, base_url: 'http://{base}/v1' }} }}"
    ))
    .await;
    let data = server.data;
    let body = r#"{"model":"gpt-4o","messages":[{"role":"user","content":"hi"}]}"#;
    let call = tokio::spawn(async move { ask(data, "POST", "/v1/chat/completions", body).await });
    // The call is under way once the upstream has its connection, and stays so until that is dropped.
    let (held, _): (TcpStream, _) = within(upstream.accept()).await.expect("a connection");
    until(server.admin, "/readyz", |answer| answer.status == 200).await;
    let _ = server.stop.send(());
    let draining = until(server.admin, "/readyz", |answer| answer.status == 503).await;
    assert_eq!(draining.body, "not ready\n");
    drop(held);
    assert_eq!(within(call).await.expect("answered").status, 502);
    within(server.served).await.expect("ended");
}
