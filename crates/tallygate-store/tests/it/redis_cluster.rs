//! Demands whose counters lie in several slots of a Cluster, by themselves and while the Cluster changes.
mod deaths;
mod hostile;
mod shifts;

use crate::live::{admitted, call, denied, layered, open, taken, until, used};
use crate::support::ask;
use std::sync::Arc;
use std::time::Duration;
use tallygate_core::{Amounts, Extended, Metric, Outcome, Policy, Replay};
use tallygate_sim::servers::{Cluster, Engine, Server};
use tallygate_store::{RedisStore, Reserve, SettleError, Store};
use tokio::runtime::Runtime;

const ALICE: &[(&str, &str)] = &[("user", "alice"), ("tenant", "t")];
const BOB: &[(&str, &str)] = &[("user", "bob"), ("tenant", "t")];

/// Two processes' stores on one Cluster, under a prefix of their own.
struct Two<'c> {
    cluster: &'c Cluster,
    prefix: &'static str,
    one: Arc<RedisStore>,
    two: Arc<RedisStore>,
}

impl<'c> Two<'c> {
    async fn open(cluster: &'c Cluster, prefix: &'static str, policy: &Policy) -> Self {
        let url = url(cluster, prefix);
        Self {
            cluster,
            prefix,
            one: open(&url, policy).await,
            two: open(&url, policy).await,
        }
    }

    /// What is taken by all, the tenant and the user, as both see it.
    async fn taken(&self, subject: &[(&str, &str)]) -> [(u64, u64); 3] {
        let seen = taken(&*self.one, subject).await;
        assert_eq!(seen, taken(&*self.two, subject).await);
        seen
    }

    /// The keys of this kind, and where they are; those of a node that is paused are left out.
    fn keys(&self, kind: u8) -> Vec<(Vec<u8>, &'c Server)> {
        let primaries = self.cluster.primaries().expect("an answer");
        let mut found = Vec::new();
        for node in primaries {
            let pattern = format!("{}:*", self.prefix);
            let keys: Vec<Vec<u8>> = node.ask(&["KEYS", &pattern]).expect("keys");
            found.extend(keys.into_iter().map(|key| (key, node)));
        }
        let at = self.prefix.len() + ":{01234567}".len();
        found.retain(|(key, _)| key.get(at) == Some(&kind));
        found
    }
}

fn url(cluster: &Cluster, prefix: &str) -> String {
    format!(
        "{}?prefix={prefix}&timeout=2s&connect_timeout=20s",
        cluster.url()
    )
}

/// The same policy for all: a user's thousand, a tenant's thousand, a hundred for all.
fn hundred() -> Policy {
    layered(1000, 1000, 100)
}

#[test]
fn demands_of_several_slots() {
    let cluster = Cluster::start(Engine::Valkey, 3, 3, &[]).expect("a cluster forms");
    let runtime = Runtime::new().expect("a runtime");
    runtime.block_on(async {
        tokio::join!(
            a_later_denial_gives_the_earlier_back(&cluster),
            ends_and_extensions_reach_every_slot(&cluster),
            an_extension_denied_by_one_slot_is_denied_by_all(&cluster),
            extensions_that_race_end_in_all_slots_or_none(&cluster),
            a_name_is_one_reservation(&cluster),
            who_leaves_holds_nothing(&cluster),
            hostile::no_text_collides_or_leaves_its_slot(&cluster),
        )
    });
    drop(runtime);
    a_crash_in_between_is_cleaned_by_the_deadline(&cluster);
    a_namesake_goes_on_where_a_crash_left_off(&cluster);
}

async fn a_later_denial_gives_the_earlier_back(cluster: &Cluster) {
    let two = Two::open(cluster, "denied", &hundred()).await;
    admitted(two.one.reserve(ask(ALICE, call(60))).await);
    let before = two.taken(ALICE).await;
    assert_eq!(before, [(60, 1); 3]);
    let keys = two.keys(b'a').len();
    for store in [&two.one, &two.two] {
        let denial = denied(store.reserve(ask(BOB, call(60))).await);
        let blockers: Vec<&str> = denial
            .blocked_by
            .iter()
            .map(|one| &*one.limit.name)
            .collect();
        assert_eq!(blockers, ["all"]);
    }
    assert_eq!(two.taken(ALICE).await, before);
    assert_eq!(two.taken(BOB).await, [(60, 1), (60, 1), (0, 0)]);
    assert_eq!(two.keys(b'r').len(), 3, "records of Alice's alone");
    // Bob's may stand with nothing in it until its window has passed.
    assert!(two.keys(b'a').len() <= keys + 1);
    assert_eq!(two.keys(b'g').len(), 3, "slots of Alice's alone");
    // What was given back can be had.
    admitted(two.two.reserve(ask(BOB, call(40))).await);
}

async fn ends_and_extensions_reach_every_slot(cluster: &Cluster) {
    let two = Two::open(cluster, "ends", &hundred()).await;
    // Settled by a store that never saw it, after it was extended by it.
    let first = admitted(two.one.reserve(ask(ALICE, call(30))).await);
    let more = Amounts::ZERO.with(Metric::TOKENS, 20);
    let hour = Duration::from_secs(3600);
    let extended = two.two.extend(first.id, more, Some(hour)).await;
    let Ok(Extended::Granted { reserved, .. }) = extended else {
        panic!("{extended:?}");
    };
    assert_eq!(reserved.get(Metric::TOKENS), 50);
    assert_eq!(two.taken(ALICE).await, [(50, 1); 3]);
    // Settled by the first, who knows of no extension.
    let receipt = two.one.settle(first.id, used(35)).await.expect("a receipt");
    assert_eq!(receipt.returned.get(Metric::TOKENS), 15);
    assert_eq!(two.taken(ALICE).await, [(35, 0); 3]);
    assert_eq!(two.two.settle(first.id, used(35)).await, Ok(receipt));
    let second = admitted(two.one.reserve(ask(ALICE, call(30))).await);
    two.two.cancel(second.id).await.expect("a receipt");
    assert_eq!(two.taken(ALICE).await, [(35, 0); 3]);
    let late = two.one.settle(second.id, used(1)).await;
    assert!(
        matches!(&late, Err(SettleError::Standing(one)) if one.outcome == Outcome::Cancelled),
        "{late:?}"
    );
    assert_eq!(two.taken(ALICE).await, [(35, 0); 3]);
    // Over-use is charged everywhere, and a debt is said.
    let third = admitted(two.one.reserve(ask(ALICE, call(10))).await);
    let receipt = two.two.settle(third.id, used(90)).await.expect("a receipt");
    assert_eq!(receipt.debt.get(Metric::TOKENS), 25);
    assert_eq!(two.taken(ALICE).await.map(|(_, slots)| slots), [0; 3]);
    assert_eq!(taken(&*two.one, ALICE).await[2].0, 125);
}

async fn an_extension_denied_by_one_slot_is_denied_by_all(cluster: &Cluster) {
    let two = Two::open(cluster, "extended", &hundred()).await;
    let held = admitted(two.one.reserve(ask(ALICE, call(60))).await);
    let more = Amounts::ZERO.with(Metric::TOKENS, 30);
    let deadline = Some(Duration::from_secs(9000));
    for store in [&two.one, &two.two] {
        let extended = store.extend(held.id, more, deadline).await;
        match (Arc::ptr_eq(store, &two.one), extended) {
            (true, Ok(Extended::Granted { .. })) => {}
            (false, Ok(Extended::Deny(denial))) => {
                assert_eq!(&*denial.blocked_by[0].limit.name, "all");
            }
            (_, other) => panic!("{other:?}"),
        }
        assert_eq!(two.taken(ALICE).await, [(90, 1); 3]);
    }
    let never = Amounts::ZERO.with(Metric::TOKENS, 101);
    let never = two.one.extend(held.id, never, None).await;
    assert!(matches!(never, Ok(Extended::Never(_))), "{never:?}");
    two.two.settle(held.id, used(50)).await.expect("a receipt");
    assert_eq!(two.taken(ALICE).await, [(50, 0); 3]);
}

/// Each of two looks, sees room for one, and goes.
async fn extensions_that_race_end_in_all_slots_or_none(cluster: &Cluster) {
    let two = Two::open(cluster, "racing", &hundred()).await;
    for round in 0..10 {
        let alice = admitted(two.one.reserve(ask(ALICE, call(30))).await);
        let bob = admitted(two.two.reserve(ask(BOB, call(30))).await);
        let more = Amounts::ZERO.with(Metric::TOKENS, 25);
        let (one, other) = tokio::join!(
            two.one.extend(alice.id, more, None),
            two.two.extend(bob.id, more, None)
        );
        let granted =
            [&one, &other].map(|extended| matches!(extended, Ok(Extended::Granted { .. })));
        let told = |granted| if granted { 55 } else { 30 };
        let (alices, bobs) = (told(granted[0]), told(granted[1]));
        assert!(alices + bobs <= 100, "round {round}: {one:?} {other:?}");
        let [all, tenant, user] = two.taken(ALICE).await;
        assert_eq!(
            (all.0, tenant.0, user.0),
            (alices + bobs, alices + bobs, alices)
        );
        assert_eq!(two.taken(BOB).await[2].0, bobs, "round {round}");
        two.two.cancel(alice.id).await.expect("a receipt");
        two.one.cancel(bob.id).await.expect("a receipt");
        assert_eq!(two.taken(ALICE).await, [(0, 0); 3]);
    }
}

async fn a_name_is_one_reservation(cluster: &Cluster) {
    let two = Two::open(cluster, "named", &hundred()).await;
    for round in 0..10 {
        let key = format!("key {round}");
        let named = || Reserve {
            idempotency_key: Some(&key),
            ..ask(ALICE, call(10))
        };
        let (one, other) = tokio::join!(two.one.reserve(named()), two.two.reserve(named()));
        let (one, other) = (admitted(one), admitted(other));
        assert_eq!(one.id, other.id);
        let fresh = [&one, &other].map(|admission| admission.replay == Replay::Fresh);
        assert_eq!(fresh.into_iter().filter(|fresh| *fresh).count(), 1);
        assert_eq!(two.taken(ALICE).await, [(10, 1); 3]);
        two.two.settle(one.id, used(0)).await.expect("a receipt");
        let again = admitted(two.one.reserve(named()).await);
        assert_eq!(
            (again.id, again.replay),
            (one.id, Replay::Ended(Outcome::Settled))
        );
        assert_eq!(two.taken(ALICE).await, [(0, 0); 3]);
    }
    // A denial under a name leaves no name behind.
    admitted(two.one.reserve(ask(BOB, call(60))).await);
    let named = Reserve {
        idempotency_key: Some("denied"),
        ..ask(ALICE, call(60))
    };
    denied(two.one.reserve(named).await);
    assert_eq!(two.taken(ALICE).await[2], (0, 0));
    let smaller = Reserve {
        demand: call(40),
        ..named
    };
    assert_eq!(
        admitted(two.two.reserve(smaller).await).replay,
        Replay::Fresh
    );
}

async fn who_leaves_holds_nothing(cluster: &Cluster) {
    let two = Two::open(cluster, "leaving", &hundred()).await;
    let mut left = 0;
    for step in 0..60 {
        let patience = Duration::from_micros(40 * step);
        let reserve = two.one.reserve(ask(ALICE, call(1)));
        match tokio::time::timeout(patience, reserve).await {
            Ok(decision) => {
                let id = admitted(decision).id;
                two.one.cancel(id).await.expect("a receipt");
            }
            Err(_) => left += 1,
        }
    }
    assert!(left > 5, "{left} left in between");
    until("end of what was left", async || {
        taken(&*two.two, ALICE).await == [(0, 0); 3]
    })
    .await;
}

/// A runtime with a store of its own that is cut off when it holds what is narrow and asks for what is broad.
fn crash(two: &Two<'_>, runtime: &Runtime, key: Option<&'static str>) {
    let broad = broad_node(two.cluster);
    let records = || {
        let mut keys = two.keys(b'r');
        keys.retain(|(_, node)| node.port() != broad.port());
        keys.len()
    };
    let process = Runtime::new().expect("a runtime");
    let url = url(two.cluster, two.prefix);
    let store = process.block_on(open(&url, &hundred()));
    let before = records();
    broad.pause().expect("paused");
    process.spawn(async move {
        let asked = Reserve {
            ttl: Duration::from_secs(8),
            idempotency_key: key,
            ..ask(ALICE, call(10))
        };
        store.reserve(asked).await
    });
    runtime.block_on(until("narrow hold", async || records() > before));
    process.shutdown_background();
    broad.resume().expect("resumed");
}

/// Who keeps the counters of all: those that no label tells apart.
fn broad_node(cluster: &Cluster) -> &Server {
    let hash_of_nothing = "{e3b0c442}";
    let slot = cluster.slot_of(hash_of_nothing).expect("a slot");
    cluster.owner_of(slot).expect("an owner")
}

fn a_crash_in_between_is_cleaned_by_the_deadline(cluster: &Cluster) {
    let runtime = Runtime::new().expect("a runtime");
    let two = runtime.block_on(Two::open(cluster, "crash", &hundred()));
    crash(&two, &runtime, None);
    runtime.block_on(async {
        let [_, _, user] = two.taken(ALICE).await;
        assert_eq!(user, (10, 1), "held until its deadline");
        // One of them is asked: the deadline may pass between two questions.
        until("slots", async || {
            let taken = crate::live::taken(&*two.one, ALICE).await;
            taken.iter().all(|(_, slots)| *slots == 0)
        })
        .await;
        // Nobody said what was used: what is held counts as used.
        assert_eq!(two.taken(ALICE).await[2].0, 10);
        let open = two.one.stats().reservations + two.two.stats().reservations;
        assert_eq!(open, 0);
    });
}

fn a_namesake_goes_on_where_a_crash_left_off(cluster: &Cluster) {
    let runtime = Runtime::new().expect("a runtime");
    let two = runtime.block_on(Two::open(cluster, "heir", &hundred()));
    crash(&two, &runtime, Some("heir"));
    runtime.block_on(async {
        let named = Reserve {
            idempotency_key: Some("heir"),
            ..ask(ALICE, call(10))
        };
        let heir = admitted(two.two.reserve(named).await);
        assert_eq!(heir.replay, Replay::Open);
        assert_eq!(two.taken(ALICE).await, [(10, 1); 3]);
        two.one.settle(heir.id, used(4)).await.expect("a receipt");
        assert_eq!(two.taken(ALICE).await, [(4, 0); 3]);
    });
}
