//! Floods of denials never reach the store, and batching needs no timer.
use crate::support::{open_redis, policy, script_calls};
use std::time::Duration;
use tallygate_core::{Amounts, Calendar, Decision, Metric, Policy, Shape};
use tallygate_sim::servers::{Engine, Server};
use tallygate_store::{Reserve, SettledBy, Settlement, Store, WaitsFor};

const ALICE: &[(&str, &str)] = &[("user", "alice")];

fn quota() -> Policy {
    let month = Shape::Fixed {
        window: Calendar::Month,
        timezone: jiff::tz::TimeZone::UTC,
    };
    policy(&[(Metric::TOKENS, 100, month)])
}

fn ask(tokens: u64) -> Reserve<'static> {
    Reserve {
        subject: ALICE,
        demand: Amounts::ZERO.with(Metric::TOKENS, tokens),
        ttl: Duration::from_secs(600),
        max_wait: Duration::ZERO,
        idempotency_key: None,
        waits_for: WaitsFor::Anything,
        settled_by: SettledBy::AnyNode,
    }
}

#[tokio::test]
async fn a_flood_of_denials_is_answered_on_the_node() {
    let server = Server::start(Engine::Redis, &[]).expect("redis-server starts");
    let store = open_redis(&server, &quota()).await;
    let held = store.reserve(ask(100)).await.expect("the store answers");
    assert!(matches!(held, Decision::Admit(_)), "{held:?}");
    let before = script_calls(&server);
    let began = std::time::Instant::now();
    for tokens in (1..=50).cycle().take(2_000) {
        let denied = store.reserve(ask(tokens)).await.expect("the store answers");
        assert!(matches!(denied, Decision::Deny(_)), "{denied:?}");
    }
    // One is believed for a second.
    let turns = began.elapsed().as_secs() + 1;
    let made = script_calls(&server) - before;
    assert!(made <= turns, "{made} calls in {turns} s");
}

#[tokio::test]
async fn what_another_process_gives_back_ends_the_denials() {
    let server = Server::start(Engine::Redis, &[]).expect("redis-server starts");
    let (one, two) = (
        open_redis(&server, &quota()).await,
        open_redis(&server, &quota()).await,
    );
    let Ok(Decision::Admit(held)) = one.reserve(ask(100)).await else {
        panic!("it is admitted");
    };
    for _ in 0..10 {
        let denied = two.reserve(ask(50)).await.expect("the store answers");
        assert!(matches!(denied, Decision::Deny(_)), "{denied:?}");
    }
    let nothing = Settlement::Exact(Amounts::ZERO);
    one.settle(held.id, nothing).await.expect("it is settled");
    let began = std::time::Instant::now();
    while !matches!(two.reserve(ask(50)).await, Ok(Decision::Admit(_))) {
        assert!(began.elapsed() < Duration::from_secs(10), "still denied");
        tokio::task::yield_now().await;
    }
}

/// What queues while a call is under way goes into the next one.
#[tokio::test]
async fn a_crowd_shares_calls() {
    let server = Server::start(Engine::Redis, &[]).expect("redis-server starts");
    let month = Shape::Fixed {
        window: Calendar::Month,
        timezone: jiff::tz::TimeZone::UTC,
    };
    let store = open_redis(&server, &policy(&[(Metric::TOKENS, 1_000_000, month)])).await;
    let before = script_calls(&server);
    let crowd: Vec<_> = (0..2_000)
        .map(|_| {
            let store = store.clone();
            tokio::spawn(async move { store.reserve(ask(1)).await })
        })
        .collect();
    for caller in crowd {
        let admitted = caller.await.expect("it ends").expect("the store answers");
        assert!(matches!(admitted, Decision::Admit(_)), "{admitted:?}");
    }
    let made = script_calls(&server) - before;
    assert!(made <= 2_000 / 10, "{made} calls for 2000 callers");
    let standing = &store.peek(ALICE).await.expect("the store answers")[0];
    assert_eq!(standing.used, 2_000);
}
