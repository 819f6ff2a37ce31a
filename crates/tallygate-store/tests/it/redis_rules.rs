//! Callers to whom many rules apply.
use crate::support::{bucket, rule, script_calls};
use futures_util::future::join_all;
use std::sync::Arc;
use std::time::Duration;
use tallygate_core::{Admission, Amounts, Decision, Metric, Metrics, Policy};
use tallygate_sim::servers::{Engine, Server};
use tallygate_store::{RedisOptions, RedisStore, Reserve, SettledBy, Settlement, Store, WaitsFor};

/// So many rules that all count apart by user; nothing that is seen comes back while a test runs.
fn rules(count: usize) -> Policy {
    let limit = (
        Metric::REQUESTS,
        1000,
        bucket(Duration::from_secs(8000 * 3600)),
    );
    let named = |at| {
        rule(
            &format!("rule-{at}"),
            &["user"],
            std::slice::from_ref(&limit),
        )
    };
    Policy::new((0..count).map(named).collect(), Metrics::default()).expect("the rules are good")
}

/// A store that takes all the time there is: how much is decided is looked at, and not how fast.
async fn open(server: &Server, policy: &Policy) -> Arc<RedisStore> {
    let url = format!("{}?timeout=10s&deadline=30s", server.url());
    let options = RedisOptions::parse(&url).expect("the URL is one");
    let store = RedisStore::open(options, policy).await;
    store.expect("the server is there")
}

fn requests(amount: u64) -> Amounts {
    Amounts::ZERO.with(Metric::REQUESTS, amount)
}

async fn admitted(store: &RedisStore, user: &str, amount: u64) -> Admission {
    let reserve = Reserve {
        subject: &[("user", user)],
        demand: requests(amount),
        ttl: Duration::from_secs(600),
        max_wait: Duration::ZERO,
        idempotency_key: None,
        waits_for: WaitsFor::Anything,
        settled_by: SettledBy::AnyNode,
    };
    match store.reserve(reserve).await {
        Ok(Decision::Admit(admission)) => admission,
        other => panic!("not admitted: {other:?}"),
    }
}

/// What is taken of each limit of a user.
async fn used(store: &RedisStore, user: &str) -> Vec<u64> {
    let standings = store.peek(&[("user", user)]).await;
    let standings = standings.expect("the store answers");
    standings.iter().map(|standing| standing.used).collect()
}

/// What is taken of each limit of every one of them, who are alike.
async fn all_used(store: &RedisStore, users: &[String]) -> Vec<u64> {
    let mut used = join_all(users.iter().map(|user| used(store, user))).await;
    used.dedup();
    assert_eq!(used.len(), 1, "{used:?}");
    used.remove(0)
}

async fn settled(store: &RedisStore, admission: &Admission, amount: u64) {
    let used = Settlement::Exact(requests(amount));
    store.settle(admission.id, used).await.expect("it is open");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_callers_under_many_rules_are_counted_to_the_last_one() {
    const RULES: usize = 200;
    for engine in Engine::ALL {
        let server = Server::start(engine, &[]).expect("the server starts");
        let store = open(&server, &rules(RULES)).await;
        let users: Vec<String> = (0..64).map(|at| format!("user-{at}")).collect();
        let before = script_calls(&server);
        let first = join_all(users.iter().map(|user| admitted(&store, user, 10))).await;
        // Of a thousand accounts each, not all in one call that keeps the server from others.
        assert!(script_calls(&server) - before >= 12);
        join_all(users.iter().map(|user| admitted(&store, user, 7))).await;
        assert_eq!(all_used(&store, &users).await, [17; RULES], "{engine}");
        join_all(first.iter().map(|admission| settled(&store, admission, 4))).await;
        assert_eq!(all_used(&store, &users).await, [11; RULES], "{engine}");
    }
}

/// As many rules as a policy may have: more than one command names, and records past 64 KiB.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_caller_under_the_most_rules_is_counted() {
    const RULES: usize = tallygate_core::MAX_RULES;
    for engine in Engine::ALL {
        let server = Server::start(engine, &[]).expect("the server starts");
        let policy = rules(RULES);
        let (store, other) = (open(&server, &policy).await, open(&server, &policy).await);
        let admission = admitted(&store, "alice", 10).await;
        assert_eq!(used(&store, "alice").await, vec![10; RULES], "{engine}");
        // Who has not made it reads it from the store.
        settled(&other, &admission, 4).await;
        assert_eq!(used(&store, "alice").await, vec![4; RULES], "{engine}");
    }
}
