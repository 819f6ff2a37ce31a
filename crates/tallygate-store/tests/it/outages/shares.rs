//! Limits that are spent from shares while the server is away.
use super::fleet::{
    self, admitted, ask, durable, policy, quota, three, tokens, until_delivered, until_up, used,
};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;
use tallygate_core::{Decision, StoreDown};
use tallygate_sim::servers::Engine;
use tallygate_store::{RedisStore, Reserve, SettledBy, Settlement, Store, WaitsFor};
use tokio::task::JoinHandle;

/// What all callers together did.
#[derive(Default)]
struct Tally {
    admitted: AtomicU64,
    denied: AtomicU64,
    failed: AtomicU64,
    /// Set when callers are to go.
    over: AtomicBool,
}

impl Tally {
    fn admitted(&self) -> u64 {
        self.admitted.load(Ordering::SeqCst)
    }
}

/// A caller that reserves and settles what it reserved, again and again.
fn caller(store: &Arc<RedisStore>, tally: &Arc<Tally>, amount: u64) -> JoinHandle<()> {
    let (store, tally) = (store.clone(), tally.clone());
    tokio::spawn(async move {
        let ours = Reserve {
            waits_for: WaitsFor::Anything,
            settled_by: SettledBy::ThisNode,
            ..ask(amount)
        };
        while !tally.over.load(Ordering::SeqCst) {
            let count = match store.reserve(ours).await {
                Ok(Decision::Admit(admission)) => {
                    let used = Settlement::Exact(tokens(amount));
                    let _ = store.settle(admission.id, used).await;
                    tally.admitted.fetch_add(amount, Ordering::SeqCst);
                    continue_soon().await;
                    continue;
                }
                Ok(_) => &tally.denied,
                Err(_) => &tally.failed,
            };
            count.fetch_add(1, Ordering::SeqCst);
            continue_soon().await;
        }
    })
}

async fn continue_soon() {
    tokio::time::sleep(Duration::from_millis(2)).await; // tidy: sleeps because callers come at a pace
}

async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let seen = async {
        while !holds() {
            continue_soon().await;
        }
    };
    let seen = tokio::time::timeout(Duration::from_secs(90), seen).await;
    seen.unwrap_or_else(|_| panic!("{what} in time"));
}

/// Waits until so many more calls found no store.
async fn refused(tally: &Tally, more: u64) {
    let enough = tally.failed.load(Ordering::SeqCst) + more;
    until("refusals", || tally.failed.load(Ordering::SeqCst) > enough).await;
}

/// Three processes with leases, a server that is away for some seconds: more is admitted meanwhile, and never more
/// than the limit in all.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn shares_hold_the_limit_over_an_outage() {
    const LIMIT: u64 = 60_000;
    let server = durable(Engine::Redis);
    let stores = three(&server, &policy([quota("q", LIMIT, StoreDown::Share)])).await;
    let tally = Arc::new(Tally::default());
    let callers: Vec<_> = (0..9)
        .map(|at| caller(&stores[at % 3], &tally, 3))
        .collect();
    until("leases", || {
        stores.iter().all(|store| store.leases().accounts > 0)
    })
    .await;
    server.kill();
    until("an outage", || {
        // Not all: one whose share was spent when the server died has none.
        stores.iter().any(|store| store.outage().alone > 0)
    })
    .await;
    let before = tally.admitted();
    until("the end of the shares", || {
        tally.denied.load(Ordering::SeqCst) > 50
    })
    .await;
    let alone = tally.admitted() - before;
    assert!(alone > 0, "something was leased before");
    assert!(tally.admitted() <= LIMIT);
    server.restart().expect("it comes back");
    for store in &stores {
        until_up(store, true).await;
    }
    let back = tally.admitted();
    until("more", || tally.admitted() > back + 300).await;
    tally.over.store(true, Ordering::SeqCst);
    for caller in callers {
        caller.await.expect("it ends");
    }
    eprintln!(
        "{before} before, {alone} alone, {} in all",
        tally.admitted()
    );
    for store in &stores {
        until_delivered(store).await;
        store.close().await;
    }
    let counted = used(&stores[0]).await;
    assert!(counted >= tally.admitted(), "{counted} are counted");
    assert!(counted <= LIMIT, "{counted} are counted");
}

/// To the last token: what comes back after an outage, spent to the end, is not more than there is.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_limit_is_spent_once_over_an_outage() {
    const LIMIT: u64 = 3_000;
    let server = durable(Engine::Valkey);
    let stores = three(&server, &policy([quota("q", LIMIT, StoreDown::Share)])).await;
    let tally = Arc::new(Tally::default());
    let callers: Vec<_> = (0..6)
        .map(|at| caller(&stores[at % 3], &tally, 2))
        .collect();
    until("leases", || {
        stores.iter().any(|store| store.leases().accounts > 0)
    })
    .await;
    server.kill();
    until("an outage", || tally.denied.load(Ordering::SeqCst) > 20).await;
    server.restart().expect("it comes back");
    until("the end", || {
        tally.admitted() + 2 > LIMIT || tally.denied.load(Ordering::SeqCst) > 3_000
    })
    .await;
    tally.over.store(true, Ordering::SeqCst);
    for caller in callers {
        caller.await.expect("it ends");
    }
    for store in &stores {
        until_delivered(store).await;
        store.close().await;
    }
    let counted = used(&stores[1]).await;
    eprintln!(
        "{} of {LIMIT} admitted, {counted} counted",
        tally.admitted()
    );
    assert!(tally.admitted() <= LIMIT);
    assert!(counted >= tally.admitted() && counted <= LIMIT, "{counted}");
}

/// A closed limit is leased too while it is hot. What was left of the shares when the server went is spent for as long as
/// they live and no longer, and counts as used when it is back.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_closed_limit_outlives_its_shares() {
    const LIMIT: u64 = 20_000;
    let server = durable(Engine::Redis);
    let stores = three(&server, &policy([quota("q", LIMIT, StoreDown::Closed)])).await;
    let tally = Arc::new(Tally::default());
    let callers: Vec<_> = (0..9)
        .map(|at| caller(&stores[at % 3], &tally, 3))
        .collect();
    until("leases", || {
        stores.iter().all(|store| store.leases().accounts > 0)
    })
    .await;
    server.kill();
    until("the end of the shares", || {
        stores.iter().all(|store| store.leases().accounts == 0)
    })
    .await;
    // Who was admitted before has said so when all have been refused some times.
    refused(&tally, 300).await;
    let admitted = tally.admitted();
    refused(&tally, 300).await;
    assert_eq!(tally.admitted(), admitted, "without a store");
    server.restart().expect("it comes back");
    until("the limit", || tally.denied.load(Ordering::SeqCst) > 300).await;
    tally.over.store(true, Ordering::SeqCst);
    for caller in callers {
        caller.await.expect("it ends");
    }
    for store in &stores {
        until_delivered(store).await;
        store.close().await;
    }
    let counted = used(&stores[0]).await;
    eprintln!(
        "{admitted} before the shares ended, {} of {LIMIT} admitted, {counted} counted",
        tally.admitted()
    );
    assert!(tally.admitted() > admitted, "it goes on");
    assert!(counted >= tally.admitted() && counted <= LIMIT, "{counted}");
}

/// A closed limit beside a share refuses: nobody spends the share for nothing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_closed_limit_beside_a_share_refuses() {
    let server = durable(Engine::Redis);
    let rules = [
        quota("shared", 60_000, StoreDown::Share),
        quota("budget", 60_000, StoreDown::Closed),
    ];
    let stores = three(&server, &policy(rules)).await;
    let tally = Arc::new(Tally::default());
    let warm = caller(&stores[0], &tally, 3);
    until("leases", || stores[0].leases().accounts > 0).await;
    tally.over.store(true, Ordering::SeqCst);
    warm.await.expect("it ends");
    admitted(&stores[1], ask(1)).await;
    server.kill();
    fleet::refused(&stores[1], ask(1)).await;
    assert_eq!(stores[0].outage().alone, 0);
}
