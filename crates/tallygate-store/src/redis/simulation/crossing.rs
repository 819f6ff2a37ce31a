//! G7 where lines cross: a caller that needs two contended limits, each with a crowd of its own, over two processes.
use super::engine::Engine;
use super::network::{Network, Weather};
use super::rule;
use crate::redis::{RedisOptions, RedisStore};
use crate::store::{Reserve, SettledBy, Store, WaitsFor};
use std::sync::Arc;
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
        let mut rule = rule(label, &[], &[(Metric::TOKENS, 10, shape.clone())]);
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

/// Two lines of 20 that are never empty, 5 ms apart, and one caller who needs `tokens` of both limits.
async fn wait_of_one_who_needs_both(tokens: u64) -> Duration {
    let policy = policy();
    let still = Weather {
        lost: 0,
        delay: 1,
        stall: 1,
    };
    let network = Network::new(Engine::start(), tokens, (still, &policy));
    let mut stores = Vec::new();
    for _ in 0..2 {
        let (_, wire) = network.wire();
        let options = RedisOptions::parse("redis://simulated").expect("the URL is one");
        let store = RedisStore::over(wire, &options, &policy).await;
        stores.push(store.expect("no folder is asked for"));
    }
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
    for tokens in [1, 4, 8, 10] {
        let runtime = super::runtime();
        let waited = runtime.block_on(wait_of_one_who_needs_both(tokens));
        eprintln!("{tokens} of both: served after {waited:?}");
        let most = Duration::from_secs(3);
        assert!(waited <= most, "{tokens} of both: {waited:?}");
    }
}
