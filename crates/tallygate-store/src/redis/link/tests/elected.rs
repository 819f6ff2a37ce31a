//! A primary that sentinels name.
use std::sync::Arc;
use std::time::Duration;

use tallygate_sim::servers::{Engine, Sentinels, Server, ServerError};

use super::super::Route;
use super::*;

fn watched(engine: Engine) -> Sentinels {
    Sentinels::start(engine, &[]).unwrap_or_else(|error| panic!("{error}"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_replica_takes_over_from_a_dead_primary() {
    takes_over(Engine::Redis, killed).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_replica_takes_over_from_a_silent_primary() {
    takes_over(Engine::Valkey, Server::pause).await;
}

async fn takes_over(engine: Engine, fell: impl Fn(&Server) -> Result<(), ServerError>) {
    let watched = Arc::new(watched(engine));
    let link = opened(&watched.url(), ADD).await;
    assert_eq!((link.is_cluster(), link.route(5)), (false, Route::One));
    assert_eq!(sum(&link, &add(1, 1)).await, Ok(1));
    let old = watched.primary().unwrap();
    fell(old).unwrap();
    let old = old.port();
    is_down(sum(&link, &add(1, 1)).await);
    let waiting = watched.clone();
    let vote = move || {
        let mut servers = waiting.servers().iter();
        let old = servers.find(|server| server.port() == old).unwrap();
        waiting
            .wait_for_another_than(old, Duration::from_secs(30))
            .unwrap();
    };
    let ordeal = endure(&link, 0..1, vote).await;
    ordeal.was_short(&format!("failover of {engine} by sentinels"));
}

/// A primary that its sentinels no longer name is left, though it answers as well as ever.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_primary_that_was_voted_out_is_left() {
    let watched = watched(Engine::Valkey);
    let link = opened(&watched.url(), ADD).await;
    assert_eq!(sum(&link, &add(1, 1)).await, Ok(1));
    let (old, new) = (watched.primary().unwrap(), watched.replica().unwrap());
    let name = watched.master_name();
    let port = new.port().to_string();
    for sentinel in watched.sentinels() {
        sentinel.command(&["SENTINEL", "REMOVE", name]).unwrap();
    }
    new.command(&["REPLICAOF", "NO", "ONE"]).unwrap();
    new.command(&["SET", "tg:{00000001}n", "100"]).unwrap();
    for sentinel in watched.sentinels() {
        let monitor = ["SENTINEL", "MONITOR", name, "127.0.0.1", &port, "2"];
        sentinel.command(&monitor).unwrap();
    }
    let since = tokio::time::Instant::now();
    while sum(&link, &add(1, 0)).await != Ok(100) {
        assert!(since.elapsed() < SOON + Duration::from_secs(1));
        tokio::task::yield_now().await;
    }
    assert!(old.is_running());
}
