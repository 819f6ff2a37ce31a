//! A process whose own share is what a demand lacks: it is given back, and whoever asks meanwhile is not denied for it.
use super::cut_off::{STILL, hold, left, policy, run, start};
use crate::redis::simulation::engine::Engine;
use crate::redis::simulation::network::Network;
use crate::redis::store::RedisStore;
use crate::store::{Reserve, SettledBy, Store, WaitsFor};
use std::sync::Arc;
use std::time::Duration;
use tallygate_core::{Amounts, Decision, Metric, ReservationId, StoreDown};
use tokio::time::sleep;

/// All tokens that there are.
const ALL: u64 = 100_000;

/// What is asked for at once.
const MUCH: u64 = 1_000;

/// What is free beside the share: too little for one demand.
const FREE: u64 = 500;

/// Asks for tokens that any process may settle: no share is for such.
async fn reserve(store: &RedisStore, tokens: u64) -> Option<ReservationId> {
    let asked = store.reserve(Reserve {
        subject: &[("user", "ada")],
        demand: Amounts::ZERO.with(Metric::TOKENS, tokens),
        ttl: Duration::from_secs(3600),
        max_wait: Duration::ZERO,
        idempotency_key: None,
        waits_for: WaitsFor::Anything,
        settled_by: SettledBy::AnyNode,
    });
    match asked.await {
        Ok(Decision::Admit(admission)) => Some(admission.id),
        Ok(Decision::Deny(_)) => None,
        other => panic!("{other:?}"),
    }
}

/// A process with a share for several demands, and beside that next to nothing free.
async fn scarce() -> (Arc<Network>, Arc<RedisStore>) {
    let policy = policy(StoreDown::Closed);
    let network = Network::new(Engine::start(), 1, (STILL, &policy));
    let (store, _) = start(&network, &policy).await;
    while left(&store) < 4 * MUCH {
        if let Some(id) = hold(&store, MUCH) {
            store.cancel(id).await.expect("it is open");
        }
        sleep(Duration::from_millis(1)).await;
    }
    // Until it has grown as much as is wanted.
    sleep(Duration::from_millis(50)).await;
    let accounts = store.accounts(&[("user", "ada")]);
    let node = store.shared().desk().node.name;
    let share = network.with(|inner| {
        let lease = inner.truth.ground.lease(&accounts[0].key, node, 0);
        lease.expect("the script keeps it").amounts[0]
    });
    let rest = reserve(&store, ALL - share - FREE).await;
    assert!(rest.is_some(), "there is room");
    assert!(left(&store) >= 4 * MUCH, "the share stands");
    (network, store)
}

/// Both do not fit at first. One has the share given back, the other finds it on its way.
async fn two_at_once() {
    let (_network, store) = scarce().await;
    let (one, other) = tokio::join!(reserve(&store, MUCH), reserve(&store, MUCH));
    assert!(one.is_some() && other.is_some(), "{one:?}, {other:?}");
}

#[test]
fn a_share_on_its_way_back_denies_nobody() {
    run(two_at_once());
}

/// Others want the share while a demand is on its way to the store, and it is reported before the answer is there.
async fn recalled_meanwhile() {
    let (network, store) = scarce().await;
    network.with(|inner| inner.late = Duration::from_millis(5));
    let asking = tokio::spawn({
        let store = store.clone();
        async move { reserve(&store, MUCH).await }
    });
    sleep(Duration::from_millis(1)).await;
    let key = store.accounts(&[("user", "ada")])[0].key.clone();
    let shared = store.shared();
    shared.leases.recall(&key, shared.now());
    assert!(asking.await.expect("it is answered").is_some());
}

#[test]
fn a_share_that_is_recalled_meanwhile_denies_nobody() {
    run(recalled_meanwhile());
}
