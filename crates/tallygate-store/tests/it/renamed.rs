//! Metrics of the user's own whose names stand in another order, at another process or after a restart.
use crate::support::{ask, bucket, open_redis, rule, tokens};
use std::sync::Arc;
use std::time::Duration;
use tallygate_core::{Amounts, Decision, Metric, Metrics, Policy};
use tallygate_sim::servers::{Engine, Server};
use tallygate_store::{Settlement, Store, StoreError};

const ALICE: &[(&str, &str)] = &[("user", "alice")];

/// A rule for each name, and the names' metrics.
fn policy(names: &[&str]) -> Policy {
    let metrics = Metrics::with_custom(names).expect("names that are free");
    let slow = || bucket(Duration::from_secs(366 * 86_400));
    let rules = names.iter().map(|name| {
        let metric = metrics.find(name).expect("a name");
        rule(&format!("{name}-year"), &["user"], &[(metric, 100, slow())])
    });
    Policy::new(rules.collect(), metrics.clone()).expect("a policy")
}

fn metric(policy: &Policy, name: &str) -> Metric {
    policy.metrics().find(name).expect("a name")
}

async fn used(store: &dyn Store) -> Vec<(String, u64)> {
    let standings = store.peek(ALICE).await.expect("the server is there");
    let used = standings.into_iter();
    let named = used.map(|one| (one.limit.metric_name.to_string(), one.used));
    named.collect()
}

fn known(of: &[(&str, u64)]) -> Vec<(String, u64)> {
    let owned = of.iter().map(|(name, used)| ((*name).to_owned(), *used));
    owned.collect()
}

/// What another process reserved is settled where it is counted, and its receipt told by the names that whoever asks has.
#[tokio::test]
async fn a_process_that_names_metrics_in_another_order_settles_the_right_ones() {
    let server = Server::start(Engine::Valkey, &[]).expect("valkey-server starts");
    let (here, there) = (
        policy(&["images", "minutes"]),
        policy(&["minutes", "images"]),
    );
    let first = open_redis(&server, &here).await;
    let demand = Amounts::ZERO
        .with(metric(&here, "images"), 7)
        .with(metric(&here, "minutes"), 20);
    let held = first.reserve(ask(ALICE, demand)).await.expect("an answer");
    let id = match held {
        Decision::Admit(admission) => admission.id,
        refused => panic!("there is room: {refused:?}"),
    };
    let second = open_redis(&server, &there).await;
    let said = Amounts::ZERO
        .with(metric(&there, "images"), 3)
        .with(metric(&there, "minutes"), 4);
    let receipt = second.settle(id, Settlement::Exact(said)).await;
    let receipt = receipt.expect("it is open");
    assert_eq!(receipt.charged, said);
    let left = Amounts::ZERO
        .with(metric(&there, "images"), 4)
        .with(metric(&there, "minutes"), 16);
    assert_eq!(receipt.returned, left);
    let both = [("minutes", 4), ("images", 3)];
    assert_eq!(used(&*second).await, known(&both));
    let again = first.settle(id, Settlement::Exact(tokens(0))).await;
    let again = again.expect("a repeat").charged;
    let said = |name| again.get(metric(&here, name));
    assert_eq!((said("images"), said("minutes")), (3, 4));
}

/// While a store is open its metrics keep their places: whoever has a reservation open states amounts by them.
#[tokio::test]
async fn an_open_store_takes_more_metrics_and_no_others() {
    let server = Server::start(Engine::Valkey, &[]).expect("valkey-server starts");
    let store = open_redis(&server, &policy(&["images", "minutes"])).await;
    for names in [&["minutes", "images"][..], &["images"], &[]] {
        let refused = store.replace_policy(Arc::new(policy(names)));
        assert_eq!(refused, Err(StoreError::Metrics), "{names:?}");
    }
    let more = policy(&["images", "minutes", "pages"]);
    assert_eq!(store.replace_policy(Arc::new(more)), Ok(()));
    assert_eq!(used(&*store).await.len(), 3);
}
