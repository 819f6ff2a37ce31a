//! A server that hangs.
use super::fleet::{TIMEOUT, admitted, ask, durable, open, policy, quota, refused, until_up};
use tallygate_core::StoreDown;
use tallygate_sim::servers::Engine;
use tokio::time::Instant;

#[tokio::test]
async fn a_hanging_server_costs_one_deadline() {
    let server = durable(Engine::Valkey);
    let store = open(&server, &policy([quota("q", 100, StoreDown::Closed)])).await;
    admitted(&store, ask(10)).await;
    server.pause().expect("it is paused");
    let began = Instant::now();
    let (reason, _) = refused(&store, ask(20)).await;
    let said = format!("no answer within {TIMEOUT:?}");
    assert!(reason.contains(&said), "{reason}");
    assert!(began.elapsed() >= TIMEOUT);
    assert!(began.elapsed() < 3 * TIMEOUT, "{:?}", began.elapsed());
    let began = Instant::now();
    refused(&store, ask(20)).await;
    assert!(began.elapsed() < TIMEOUT, "the circuit is open");
    server.resume().expect("it goes on");
    until_up(&store, true).await;
    admitted(&store, ask(30)).await;
}
