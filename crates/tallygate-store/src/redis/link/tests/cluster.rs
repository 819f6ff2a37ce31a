//! A Cluster: slots that move, and primaries that die.
use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tallygate_sim::servers::{Cluster, Engine, Server, ServerError};

use super::super::Route;
use super::super::slot;
use super::*;

fn formed(engine: Engine, replicas: usize) -> Cluster {
    Cluster::start(engine, 3, replicas, &[]).unwrap_or_else(|error| panic!("{error}"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_find_the_servers_of_their_slots() {
    for engine in Engine::ALL {
        let cluster = formed(engine, 0);
        let link = opened(&cluster.url(), ADD).await;
        assert!(link.is_cluster());
        let mut asked = BTreeSet::new();
        for tag in 0..100 {
            let key = format!("{{{tag:08x}}}");
            let slot = cluster.slot_of(&key).unwrap();
            assert_eq!(link.route(tag), Route::Slot(slot));
            asked.insert(cluster.owner_of(slot).unwrap().port());
            assert_eq!(sum(&link, &add(tag, 2)).await, Ok(2));
        }
        assert_eq!(asked.len(), 3, "all servers were asked");
        for node in cluster.nodes() {
            node.command(&["SCRIPT", "FLUSH"]).unwrap();
        }
        for tag in 0..100 {
            assert_eq!(sum(&link, &add(tag, 2)).await, Ok(4));
        }
        assert_eq!(link.ping().await, Ok(()));
    }
}

/// No call is lost, doubled or refused while its slot moves there and back. Now and then the two servers send callers
/// to each other for longer than a call may take: nothing was done then, and the same call may be sent again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn slots_move_under_load() {
    let cluster = formed(Engine::Valkey, 0);
    let link = opened(&cluster.url(), ADD).await;
    let tag = 7;
    let slot = slot::of_tag(tag);
    let done = Arc::new(AtomicBool::new(false));
    let load = {
        let (link, done) = (link.clone(), done.clone());
        tokio::spawn(async move {
            let mut last = 0;
            while !done.load(Ordering::Relaxed) {
                last += 1;
                let mut answer = sum(&link, &add(tag, 1)).await;
                while matches!(&answer, Err(down) if down.to_string().contains("is being moved")) {
                    answer = sum(&link, &add(tag, 1)).await;
                }
                assert_eq!(answer, Ok(last));
            }
            last
        })
    };
    for _ in 0..10 {
        let from = cluster.owner_of(slot).unwrap().port();
        let others = cluster.primaries().unwrap();
        let to = others.iter().find(|node| node.port() != from).unwrap();
        tokio::task::block_in_place(|| {
            cluster.migrate_slot(slot, to).unwrap();
            // Two moves in a breath meet in the nodes' gossip, and the slot may be nobody's.
            cluster.wait_until_well(Duration::from_secs(20)).unwrap();
        });
    }
    done.store(true, Ordering::Relaxed);
    let last = load.await.unwrap();
    assert!(last > 100, "only {last} calls went out");
    assert_eq!(sum(&link, &add(tag, 0)).await, Ok(last));
}

/// While a slot is between two servers, calls for keys that are already there are asked for there.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slot_between_two_servers_answers() {
    let cluster = formed(Engine::Redis, 0);
    let link = opened(&cluster.url(), ADD).await;
    let tag = 9;
    assert_eq!(sum(&link, &add(tag, 1)).await, Ok(1));
    let slot = slot::of_tag(tag);
    let from = cluster.owner_of(slot).unwrap().port();
    let others = cluster.primaries().unwrap();
    let to = others.iter().find(|node| node.port() != from).unwrap();
    let migration = cluster.begin_migration(slot, to).unwrap();
    assert_eq!(sum(&link, &add(tag, 1)).await, Ok(2));
    migration.move_keys().unwrap();
    for expected in 3..6 {
        assert_eq!(sum(&link, &add(tag, 1)).await, Ok(expected));
    }
    let both = "return {redis.call('INCR', KEYS[1]), redis.call('INCR', KEYS[2])}";
    let link_to_both = opened(&cluster.url(), both).await;
    let mut call = add(tag, 1);
    call.keys.push(format!("tg:{{{tag:08x}}}new").into_bytes());
    is_down(link_to_both.call(&call).await);
    migration.finish().unwrap();
    assert_eq!(
        link_to_both.call(&call).await,
        Ok(vec![Value::Int(6), Value::Int(1)])
    );
    assert_eq!(sum(&link, &add(tag, 1)).await, Ok(7));
}

/// A dead primary's slots are back soon after its replica has taken over.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_takes_over_from_a_dead_primary() {
    for engine in Engine::ALL {
        takes_over(engine, killed).await;
    }
}

/// So are those of one that hangs: nothing closes its connections.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_takes_over_from_a_silent_primary() {
    takes_over(Engine::Valkey, Server::pause).await;
}

async fn takes_over(engine: Engine, fell: impl Fn(&Server) -> Result<(), ServerError>) {
    let cluster = Arc::new(formed(engine, 3));
    let link = opened(&cluster.url(), ADD).await;
    let mut circuits = link.open_circuits();
    for tag in 0..60 {
        assert_eq!(sum(&link, &add(tag, 1)).await, Ok(1));
    }
    fell(cluster.primaries().unwrap()[1]).unwrap();
    let waiting = cluster.clone();
    let well = move || {
        waiting.wait_until_well(Duration::from_secs(30)).unwrap();
    };
    let ordeal = endure(&link, 0..60, well).await;
    ordeal.was_short(&format!("failover of a Cluster of {engine}"));
    open_circuits(&mut circuits, 0).await;
    assert_eq!(link.ping().await, Ok(()));
}
