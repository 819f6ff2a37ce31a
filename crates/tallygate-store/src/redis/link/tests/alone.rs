//! One server: what its deaths and pauses cost.

use redis::Value;
use tallygate_sim::servers::{Engine, Server};
use tokio::time::Instant;

use super::super::Route;
use super::*;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_is_answered_by_each_engine() {
    for engine in Engine::ALL {
        let server = started(engine, &[]);
        let link = opened(&server.url(), ADD).await;
        assert_eq!(sum(&link, &add(1, 2)).await, Ok(2), "{engine}");
        assert_eq!(sum(&link, &add(1, 3)).await, Ok(5), "{engine}");
        assert_eq!(link.ping().await, Ok(()));
        assert!(!link.is_cluster());
        assert_eq!(link.route(1), Route::One);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_that_is_no_array_is_one_value() {
    let server = started(Engine::Redis, &[]);
    let link = opened(&server.url(), "return 7").await;
    assert_eq!(link.call(&add(1, 1)).await, Ok(vec![Value::Int(7)]));
}

/// A server that forgot the script gets its text once, and knows it by its hash from then on.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_forgotten_script_is_loaded_again() {
    let server = started(Engine::Valkey, &[]);
    let link = opened(&server.url(), ADD).await;
    assert_eq!(sum(&link, &add(1, 1)).await, Ok(1));
    server.command(&["SCRIPT", "FLUSH"]).unwrap();
    server.command(&["CONFIG", "RESETSTAT"]).unwrap();
    for expected in 2..5 {
        assert_eq!(sum(&link, &add(1, 1)).await, Ok(expected));
    }
    let stats = server.info("commandstats").unwrap();
    assert!(stats["cmdstat_eval"].starts_with("calls=1,"), "{stats:?}");
    assert!(
        stats["cmdstat_evalsha"].starts_with("calls=3,"),
        "{stats:?}"
    );
}

/// A connection that the server closed is made again under the call: nobody hears of it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_closed_connection_is_made_again() {
    let server = started(Engine::Redis, &[]);
    let link = opened(&server.url(), ADD).await;
    for expected in 1..10 {
        let killed = ["CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"];
        server.command(&killed).unwrap();
        assert_eq!(sum(&link, &add(1, 1)).await, Ok(expected));
    }
    assert_eq!(*link.open_circuits().borrow(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_fail_at_once_while_the_server_is_dead_and_go_on_when_it_is_back() {
    let server = started(Engine::Valkey, &[]);
    let link = opened(&server.url(), ADD).await;
    let mut circuits = link.open_circuits();
    assert_eq!(sum(&link, &add(1, 1)).await, Ok(1));
    server.kill();
    is_down(sum(&link, &add(1, 1)).await);
    open_circuits(&mut circuits, 1).await;
    let since = Instant::now();
    for _ in 0..1000 {
        let reason = is_down(sum(&link, &add(1, 1)).await);
        assert!(reason.contains(&server.addr().to_string()), "{reason}");
    }
    assert!(since.elapsed() < SOON, "{:?}", since.elapsed());
    server.restart().unwrap();
    let back = open_circuits(&mut circuits, 0).await;
    assert!(back < SOON, "{back:?}");
    assert_eq!(sum(&link, &add(1, 1)).await, Ok(1), "it forgot its data");
}

/// However many callers there are, a dead server is knocked at by one of them at a time.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_crowd_makes_one_attempt() {
    let server = started(Engine::Redis, &[]);
    let link = opened(&format!("{}?connections=3", server.url()), ADD).await;
    let before = connections(&server);
    for round in 1..=3 {
        let killed = ["CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"];
        server.command(&killed).unwrap();
        let calls = (0..200).map(|_| {
            let link = link.clone();
            tokio::spawn(async move { sum(&link, &add(1, 1)).await })
        });
        for call in futures_util::future::join_all(calls).await {
            assert!(call.unwrap().is_ok());
        }
        assert_eq!(connections(&server) - before, 3 * round);
    }
}

fn connections(server: &Server) -> u64 {
    let stats = server.info("stats").unwrap();
    stats["total_connections_received"].parse().unwrap()
}

/// Those who wait when a server falls silent wait for one deadline, those who come after them not at all.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_silent_server_costs_one_deadline() {
    let server = started(Engine::Redis, &[]);
    let link = opened(&server.url(), ADD).await;
    let mut circuits = link.open_circuits();
    server.pause().unwrap();
    let since = Instant::now();
    let calls: Vec<_> = (0..64).map(|_| add(1, 1)).collect();
    let waiting = futures_util::future::join_all(calls.iter().map(|call| sum(&link, call)));
    for answer in waiting.await {
        let reason = is_down(answer);
        assert!(reason.contains("no answer within 250ms"), "{reason}");
    }
    assert!(since.elapsed() >= TIMEOUT);
    assert!(since.elapsed() < SOON, "{:?}", since.elapsed());
    let since = Instant::now();
    for _ in 0..100 {
        is_down(sum(&link, &add(1, 1)).await);
    }
    assert!(since.elapsed() < SOON, "{:?}", since.elapsed());
    server.resume().unwrap();
    let back = open_circuits(&mut circuits, 0).await;
    assert!(back < SOON, "{back:?}");
    assert!(sum(&link, &add(1, 0)).await.is_ok());
}

/// A command that takes too long opens the circuit until it is over, and no longer.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_command_opens_the_circuit_for_its_own_time() {
    let server = started(Engine::Redis, &[]);
    let link = opened(&format!("{}?timeout=1s", server.url()), ADD).await;
    let mut circuits = link.open_circuits();
    let before = connections(&server);
    server.command(&["CLIENT", "PAUSE", "1200", "ALL"]).unwrap();
    is_down(sum(&link, &add(1, 1)).await);
    open_circuits(&mut circuits, 0).await;
    assert!(sum(&link, &add(1, 1)).await.is_ok());
    assert_eq!(connections(&server), before, "the connections are the same");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_script_that_fails_is_refused_and_opens_no_circuit() {
    let server = started(Engine::Valkey, &[]);
    let link = opened(&server.url(), "return redis.call('INCR', KEYS[1], 'x')").await;
    for _ in 0..3 {
        let reason = is_refused(link.call(&add(1, 1)).await);
        assert!(reason.contains("rong number of args"), "{reason}");
        assert!(reason.len() < 300, "{reason}");
    }
    assert_eq!(*link.open_circuits().borrow(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_server_refuses() {
    for engine in Engine::ALL {
        let server = started(engine, &[]);
        let link = opened(&server.url(), ADD).await;
        server
            .command(&["CONFIG", "SET", "maxmemory", "1"])
            .unwrap();
        let reason = is_refused(sum(&link, &add(1, 1)).await);
        assert!(reason.contains("OOM"), "{reason}");
        server
            .command(&["CONFIG", "SET", "maxmemory", "0"])
            .unwrap();
        assert!(sum(&link, &add(1, 1)).await.is_ok());
    }
}

/// A server that is busy with another's script takes no calls until that is stopped.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_busy_server_is_down_until_it_is_free() {
    let server = started(Engine::Redis, &["busy-reply-threshold 20"]);
    let link = opened(&server.url(), ADD).await;
    let mut circuits = link.open_circuits();
    let mut other = server.connect().unwrap();
    let endless = std::thread::spawn(move || {
        let mut command = redis::cmd("EVAL");
        let _ = command.arg("while true do end").arg(0).exec(&mut other);
    });
    open_circuits_by_calling(&link).await;
    let mut reason = is_down(sum(&link, &add(1, 1)).await);
    while !reason.contains("BUSY") {
        reason = is_down(sum(&link, &add(1, 1)).await);
        tokio::task::yield_now().await;
    }
    server.command(&["SCRIPT", "KILL"]).unwrap();
    open_circuits(&mut circuits, 0).await;
    assert!(sum(&link, &add(1, 1)).await.is_ok());
    endless.join().unwrap();
}

async fn open_circuits_by_calling(link: &Link) {
    while sum(link, &add(1, 1)).await.is_ok() {}
}

/// A server that became a replica is out of service until it is none, and its connections are made anew.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_is_down_until_it_is_promoted() {
    for engine in Engine::ALL {
        let server = started(engine, &[]);
        let link = opened(&server.url(), ADD).await;
        let mut circuits = link.open_circuits();
        server.command(&["REPLICAOF", "127.0.0.1", "1"]).unwrap();
        let reason = is_down(sum(&link, &add(1, 1)).await);
        assert!(reason.contains("READONLY"), "{reason}");
        open_circuits(&mut circuits, 1).await;
        server.command(&["REPLICAOF", "NO", "ONE"]).unwrap();
        let back = open_circuits(&mut circuits, 0).await;
        assert!(back < SOON, "{back:?}");
        assert!(sum(&link, &add(1, 1)).await.is_ok());
    }
}

/// Without enough replicas nothing is written, and it may be sent again; the server is well, so its circuit stays closed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn too_few_replicas_are_not_the_servers_fault() {
    let server = started(Engine::Redis, &[]);
    let link = opened(&server.url(), ADD).await;
    let set = |count: &str| {
        server
            .command(&["CONFIG", "SET", "min-replicas-to-write", count])
            .unwrap();
    };
    set("1");
    let reason = is_down(sum(&link, &add(1, 1)).await);
    assert!(reason.contains("NOREPLICAS"), "{reason}");
    assert_eq!(*link.open_circuits().borrow(), 0);
    set("0");
    assert_eq!(sum(&link, &add(1, 1)).await, Ok(1));
}
