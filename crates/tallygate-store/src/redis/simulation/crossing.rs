//! G7 where lines cross: callers that need two contended limits, on one server and on two, over two processes.
use super::engine::Engine;
use super::network::{Network, Weather};
use super::rule;
use crate::redis::{RedisOptions, RedisStore};
use crate::store::{Reserve, SettledBy, Store, WaitsFor};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tallygate_core::{Amounts, Decision, Metric, Metrics, Policy, Shape, Span};
use tokio::time::{Instant, sleep};

type Subject = &'static [(&'static str, &'static str)];

const LEFT: Subject = &[("left", "yes")];
const RIGHT: Subject = &[("right", "yes")];
const BOTH: Subject = &[("left", "yes"), ("right", "yes")];

/// Ten tokens each 100 ms for every subject with the label.
fn policy() -> Policy {
    let shape = Shape::Bucket {
        every: Span::from_millis(100),
        burst: None,
        strict: false,
    };
    let rules = ["left", "right"].map(|label| {
        let mut rule = rule(label, &[label], &[(Metric::TOKENS, 10, shape.clone())]);
        rule.when = vec![(label.to_owned(), vec!["yes".to_owned()])];
        rule
    });
    Policy::new(rules.to_vec(), Metrics::default()).unwrap()
}

async fn take(store: &RedisStore, subject: Subject, tokens: u64) {
    let decision = store.reserve(Reserve {
        subject,
        demand: Amounts::ZERO.with(Metric::TOKENS, tokens),
        ttl: Duration::from_secs(3600),
        max_wait: Duration::from_secs(3600),
        idempotency_key: None,
        waits_for: WaitsFor::Anything,
        settled_by: SettledBy::AnyNode,
    });
    let decision = decision.await;
    assert!(matches!(decision, Ok(Decision::Admit(_))), "{decision:?}");
}

/// Callers that ask again as soon as they are served.
fn crowd(store: &Arc<RedisStore>, subject: Subject) {
    for _ in 0..10 {
        let store = store.clone();
        tokio::spawn(async move {
            loop {
                take(&store, subject, 1).await;
            }
        });
    }
}

/// Where the two limits are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Servers {
    One,
    Two,
}

async fn open(servers: Servers, seed: u64) -> Vec<Arc<RedisStore>> {
    let policy = policy();
    let still = Weather {
        lost: 0,
        delay: 1,
        stall: 1,
    };
    let network = Network::new(Engine::start(), seed, (still, &policy));
    network.with(|inner| inner.is_apart = servers == Servers::Two);
    let mut stores = Vec::new();
    for _ in 0..2 {
        let (_, wire) = network.wire();
        let options = RedisOptions::parse("redis://simulated").expect("the URL is one");
        let store = RedisStore::over(wire, &options, &policy).await;
        stores.push(store.expect("no folder is asked for"));
    }
    stores
}

/// Two lines of 20 that are never empty, 5 ms apart, and one caller who needs `tokens` of both limits.
async fn wait_of_one_who_needs_both(tokens: u64, servers: Servers) -> Duration {
    let stores = open(servers, tokens).await;
    stores.iter().for_each(|store| crowd(store, LEFT));
    sleep(Duration::from_millis(5)).await;
    stores.iter().for_each(|store| crowd(store, RIGHT));
    sleep(Duration::from_millis(300)).await;
    let asked = Instant::now();
    let served = tokio::time::timeout(Duration::from_secs(30), take(&stores[0], BOTH, tokens));
    served
        .await
        .unwrap_or_else(|_| panic!("{tokens} of both: not served in 30 s"));
    asked.elapsed()
}

#[test]
fn a_caller_between_two_crowded_limits_is_served() {
    for servers in [Servers::One, Servers::Two] {
        for tokens in [1, 4, 8, 10] {
            let runtime = super::runtime();
            let waited = runtime.block_on(wait_of_one_who_needs_both(tokens, servers));
            eprintln!("{servers:?}: {tokens} of both: served after {waited:?}");
            let most = Duration::from_secs(3);
            assert!(waited <= most, "{servers:?}: {tokens} of both: {waited:?}");
        }
    }
}

/// How many tokens of both limits 20 callers get in two seconds who all need both.
async fn share_of_a_crowd_that_needs_both(servers: Servers) -> u64 {
    let stores = open(servers, 20).await;
    let served = Arc::new(AtomicU64::new(0));
    for at in 0..20 {
        let (store, served) = (stores[at % 2].clone(), served.clone());
        tokio::spawn(async move {
            loop {
                take(&store, BOTH, 2).await;
                served.fetch_add(2, Ordering::Relaxed);
            }
        });
    }
    sleep(Duration::from_secs(2)).await;
    served.load(Ordering::Relaxed)
}

/// None turns back because of another that turns back, for ever.
#[test]
fn a_crowd_between_two_limits_uses_them_up() {
    for servers in [Servers::One, Servers::Two] {
        let runtime = super::runtime();
        let served = runtime.block_on(share_of_a_crowd_that_needs_both(servers));
        eprintln!("{servers:?}: {served} of 210");
        assert!(served >= 190, "{servers:?}: {served} of 210");
    }
}
