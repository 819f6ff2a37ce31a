//! A primary that sentinels name.
use std::sync::Arc;
use std::time::Duration;

use tallygate_sim::servers::{Engine, Sentinels};

use super::super::Route;
use super::*;

fn watched(engine: Engine) -> Sentinels {
    Sentinels::start(engine, &[]).unwrap_or_else(|error| panic!("{error}"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_replica_takes_over() {
    for engine in Engine::ALL {
        let watched = Arc::new(watched(engine));
        let link = opened(&watched.url(), ADD).await;
        assert_eq!((link.is_cluster(), link.route(5)), (false, Route::One));
        assert_eq!(sum(&link, &add(1, 1)).await, Ok(1));
        let old = watched.kill_primary().unwrap().port();
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
}
