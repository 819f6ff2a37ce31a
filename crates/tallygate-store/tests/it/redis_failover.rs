//! A primary that dies under load, and the replica that Sentinels make primary in its place.
use crate::failover::{self, Death};
use crate::live::{Load, admitted, call, denied, hour, layered, open, taken, until, used};
use crate::support::{ask, policy, tokens};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tallygate_core::{Decision, Metric, Policy, Shape};
use tallygate_sim::servers::{Engine, Sentinels};
use tallygate_store::{RedisStore, Reserve, Store};
use tokio::runtime::Runtime;

/// Some hundred calls: reached after the death.
const LIMIT: u64 = 4000;

const T: &[(&str, &str)] = &[("user", "u0"), ("tenant", "t")];

async fn two(set: &Sentinels, prefix: &str, policy: &Policy) -> [Arc<RedisStore>; 2] {
    let url = format!(
        "{}?prefix={prefix}&timeout=1s&connect_timeout=20s",
        set.url()
    );
    [open(&url, policy).await, open(&url, policy).await]
}

/// Waits until the replica keeps up with the primary; answers until when it surely has heard all.
fn keeps_up(set: &Sentinels) -> Instant {
    let [primary, replica] = [set.primary(), set.replica()].map(|one| one.expect("a server"));
    failover::keeps_up(primary, replica)
}

/// Kills the primary, whose replica has `heard` all until then, and waits until the replica is one.
fn kill(set: &Sentinels, heard: Instant) -> Death {
    let primary = set.primary().expect("a primary");
    failover::kill(primary, heard, || {
        let other = set.wait_for_another_than(primary, Duration::from_secs(30));
        other.expect("another takes over");
    })
}

#[test]
fn a_primary_dies_under_load() {
    for engine in Engine::ALL {
        let set = Sentinels::start(engine, &[]).expect("a set");
        Runtime::new().expect("a runtime").block_on(async {
            let stores = two(&set, "load", &layered(1 << 40, 1 << 40, LIMIT)).await;
            let (load, tasks) = Load::begin(&stores, 6);
            load.admits(100).await;
            let death = tokio::task::block_in_place(|| kill(&set, keeps_up(&set)));
            load.is_denied().await;
            let told = load.stop(tasks).await;
            failover::went_on(&told, &death);
            until("free slots", async || {
                taken(&*stores[0], T)
                    .await
                    .iter()
                    .all(|(_, slots)| *slots == 0)
            })
            .await;
            let [(all, _), (tenant, _), _] = taken(&*stores[1], T).await;
            assert_eq!(all, tenant, "one call charges both or none");
            failover::kept_count(&told, &death, (told.charged.iter().sum(), all));
            failover::kept_limit(&told, &death, LIMIT);
        });
    }
}

/// Keeps the replica from hearing anything more: it is sent away, and cannot come in again.
fn deafen(set: &Sentinels) {
    let primary = set.primary().expect("a primary");
    for words in [
        &["CONFIG", "SET", "requirepass", "unknown to the replica"][..],
        &["CLIENT", "KILL", "TYPE", "replica"],
    ] {
        primary.command(words).expect("done");
    }
}

#[test]
fn what_the_replica_had_not_heard_is_admitted_once_more_and_no_more() {
    let set = Sentinels::start(Engine::Redis, &[]).expect("a set");
    Runtime::new().expect("a runtime").block_on(async {
        let stores = two(&set, "lag", &layered(1 << 40, 1 << 40, LIMIT)).await;
        let (load, tasks) = Load::begin(&stores, 6);
        load.admits(100).await;
        let heard = tokio::task::block_in_place(|| {
            let heard = keeps_up(&set);
            deafen(&set);
            heard
        });
        load.admits(150).await;
        let death = tokio::task::block_in_place(|| kill(&set, heard));
        load.is_denied().await;
        let told = load.stop(tasks).await;
        failover::went_on(&told, &death);
        let over = failover::kept_limit(&told, &death, LIMIT);
        assert!(over > 0, "nothing was lost: the test shows nothing");
        assert!(told.unknown > 0, "open reservations were lost");
    });
}

const ALICE: &[(&str, &str)] = &[("user", "alice")];

/// One slot a user, and a hundred tokens.
fn one_slot() -> Policy {
    policy(&[
        (Metric::TOKENS, 100, hour()),
        (Metric::CONCURRENCY, 1, Shape::Concurrency),
    ])
}

#[test]
fn a_caller_in_line_outlives_the_primary() {
    let set = Sentinels::start(Engine::Valkey, &[]).expect("a set");
    Runtime::new().expect("a runtime").block_on(async {
        let [one, two] = two(&set, "line", &one_slot()).await;
        let held = admitted(one.reserve(ask(ALICE, call(10))).await);
        let waiter = two.clone();
        let waiter = tokio::spawn(async move {
            let patient = Reserve {
                max_wait: Duration::from_secs(60),
                ..ask(ALICE, call(10))
            };
            (waiter.reserve(patient).await, Instant::now())
        });
        until("caller in line", async || two.stats().waiters == 1).await;
        let death = tokio::task::block_in_place(|| kill(&set, keeps_up(&set)));
        assert!(
            !waiter.is_finished(),
            "it waits for the store as for the slot"
        );
        until("settlement", async || {
            one.settle(held.id, used(3)).await.is_ok()
        })
        .await;
        let settled = Instant::now();
        let (decision, at) = waiter.await.expect("an end");
        let waited = at.saturating_duration_since(settled);
        eprintln!(
            "another primary after {:?}; the next in line was called {waited:?} after",
            death.failover
        );
        admitted(decision);
        // This handle may find the new primary later than the one that settled.
        assert!(waited < Duration::from_secs(10), "{waited:?}");
        let standings = one.peek(ALICE).await.expect("an answer");
        assert_eq!([standings[0].used, standings[1].used], [13, 1]);
    });
}

/// How often the script was called at the server that is primary now.
fn calls(set: &Sentinels) -> u64 {
    let primary = set.primary().expect("a primary");
    let stats = primary.info("commandstats").expect("an answer");
    let calls = |name: &str| -> u64 {
        let line = stats.get(name).map_or("calls=0,", String::as_str);
        let number = line.split(['=', ',']).nth(1);
        number
            .and_then(|number| number.parse().ok())
            .expect("a number")
    };
    calls("cmdstat_evalsha") + calls("cmdstat_eval")
}

/// Whether a flood of denials stays on the node.
async fn remembers(set: &Sentinels, store: &RedisStore) -> bool {
    let before = tokio::task::block_in_place(|| calls(set));
    for _ in 0..50 {
        denied(store.reserve(ask(ALICE, tokens(10))).await);
    }
    tokio::task::block_in_place(|| calls(set)) < before + 10
}

#[test]
fn denials_are_not_believed_while_nobody_could_say_otherwise() {
    let set = Sentinels::start(Engine::Redis, &[]).expect("a set");
    Runtime::new().expect("a runtime").block_on(async {
        let [one, two] = two(&set, "denials", &one_slot()).await;
        let held = admitted(one.reserve(ask(ALICE, tokens(95))).await);
        until("memory of denials", async || remembers(&set, &two).await).await;
        tokio::task::block_in_place(|| keeps_up(&set));
        let old = tokio::task::block_in_place(|| set.kill_primary().expect("a primary"));
        until("failure", async || {
            two.reserve(ask(ALICE, tokens(10))).await.is_err()
        })
        .await;
        let mut asked = 0;
        while tokio::task::block_in_place(|| set.primary().expect("an answer").port()) == old.port()
        {
            let decision = two.reserve(ask(ALICE, tokens(10))).await;
            assert!(!matches!(decision, Ok(Decision::Admit(_))), "{decision:?}");
            assert!(decision.is_err() || asked > 0, "{decision:?}");
            asked += 1;
        }
        until("the store again", async || {
            two.reserve(ask(ALICE, tokens(10))).await.is_ok()
        })
        .await;
        until("memory of denials", async || remembers(&set, &two).await).await;
        // The message that room has come up is heard again: at once, not when the memory is old.
        until("settlement", async || {
            one.settle(held.id, used(5)).await.is_ok()
        })
        .await;
        let began = Instant::now();
        until("admission", async || {
            matches!(
                two.reserve(ask(ALICE, tokens(10))).await,
                Ok(Decision::Admit(_))
            )
        })
        .await;
        eprintln!("room was heard of within {:?}", began.elapsed());
    });
}
