//! A server that hangs.
use super::fleet::{TIMEOUT, admitted, ask, durable, open, policy, quota, refused, until_up};
use crate::support::CALM_LAPS;
use std::time::Duration;
use tallygate_core::StoreDown;
use tallygate_sim::servers::{Engine, Server};
use tallygate_store::RedisStore;
use tokio::time::Instant;

#[tokio::test]
async fn a_hanging_server_costs_one_deadline() {
    let server = durable(Engine::Valkey);
    let store = open(&server, &policy([quota("q", 100, StoreDown::Closed)])).await;
    admitted(&store, ask(10)).await;
    for _ in 0..CALM_LAPS {
        let (first, next) = cost_of_a_hanging_server(&server, &store).await;
        assert!(first >= TIMEOUT);
        if first < 3 * TIMEOUT && next < TIMEOUT {
            return;
        }
    }
    panic!("it took longer in each lap");
}

/// How long it takes until a caller is refused, and until the next is.
async fn cost_of_a_hanging_server(server: &Server, store: &RedisStore) -> (Duration, Duration) {
    server.pause().expect("it is paused");
    let began = Instant::now();
    let (reason, _) = refused(store, ask(20)).await;
    let said = format!("no answer within {TIMEOUT:?}");
    assert!(reason.contains(&said), "{reason}");
    let first = began.elapsed();
    let began = Instant::now();
    refused(store, ask(20)).await;
    let next = began.elapsed();
    server.resume().expect("it goes on");
    until_up(store, true).await;
    admitted(store, ask(1)).await;
    (first, next)
}
