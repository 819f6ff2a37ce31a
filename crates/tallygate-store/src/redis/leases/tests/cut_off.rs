//! A process that is cut off right after a report, and whose clock runs slower than the server's by all that is allowed for.
use crate::redis::leases::Regime;
use crate::redis::leases::moment::micros;
use crate::redis::options::RedisOptions;
use crate::redis::simulation::engine::Engine;
use crate::redis::simulation::network::{Network, Weather};
use crate::redis::store::RedisStore;
use crate::store::{Reserve, SettledBy, Store, WaitsFor};
use futures_util::FutureExt;
use std::sync::Arc;
use std::time::Duration;
use tallygate_core::{
    Amounts, Decision, Extended, Metric, Metrics, Mode, Policy, ReservationId, Rule, Shape, Span,
    StoreDown,
};
use tokio::time::{advance, sleep};

const SUBJECT: [(&str, &str); 1] = [("user", "ada")];

pub(super) const STILL: Weather = Weather {
    lost: 0,
    delay: 0,
    stall: 0,
};

/// How long the answer to a report takes, while its request takes no time: the life of a share counts from the sending.
const LATE: Duration = Duration::from_millis(60);

pub(super) fn policy(store_down: StoreDown) -> Policy {
    let every = Span::from_secs(60);
    let rule = Rule {
        name: "own".to_owned(),
        when: Vec::new(),
        per: vec!["user".to_owned()],
        limits: vec![(Metric::TOKENS, 100_000, Shape::Sliding { every })],
        mode: Mode::Enforce,
        store_down,
    };
    Policy::new(vec![rule], Metrics::default()).unwrap()
}

/// Holds tokens, if the process can by itself.
pub(super) fn hold(store: &RedisStore, tokens: u64) -> Option<ReservationId> {
    let asked = store.reserve(Reserve {
        subject: &SUBJECT,
        demand: Amounts::ZERO.with(Metric::TOKENS, tokens),
        ttl: Duration::from_secs(3600),
        max_wait: Duration::ZERO,
        idempotency_key: None,
        waits_for: WaitsFor::Anything,
        settled_by: SettledBy::ThisNode,
    });
    match asked.now_or_never() {
        Some(Ok(Decision::Admit(admission))) => Some(admission.id),
        _ => None,
    }
}

fn give_back(store: &RedisStore, id: ReservationId) {
    let cancelled = store.cancel(id).now_or_never();
    assert!(matches!(cancelled, Some(Ok(_))), "{cancelled:?}");
}

/// Whether the process admits a token by itself; it is given back.
fn admits(store: &RedisStore) -> bool {
    let held = hold(store, 1);
    held.inspect(|id| give_back(store, *id)).is_some()
}

/// What is left of the share.
pub(super) fn left(store: &RedisStore) -> u64 {
    match store.regimes(&SUBJECT)[0].1 {
        Regime::Leased { left, .. } => left,
        Regime::Exact => 0,
    }
}

/// A process, and its seat.
pub(super) async fn start(network: &Arc<Network>, policy: &Policy) -> (Arc<RedisStore>, usize) {
    let (seat, wire) = network.wire();
    let options = RedisOptions::parse("redis://simulated").expect("the URL is one");
    let store = RedisStore::over(wire, &options, policy).await;
    let store = store.expect("no folder is asked for");
    let accounts = store.accounts(&SUBJECT);
    network.with(|inner| inner.truth.know(&accounts));
    (store, seat)
}

/// Asks until there is a share.
async fn ask_for_a_share(store: &RedisStore) {
    while !admits(store) {
        sleep(Duration::from_millis(1)).await;
    }
}

/// Asks until there is a share, and cuts the process off at once; answers when the server ends the share, by its clock.
async fn cut_off_with_a_share(network: &Arc<Network>, policy: &Policy) -> (Arc<RedisStore>, u64) {
    let (store, seat) = start(network, policy).await;
    let accounts = store.accounts(&SUBJECT);
    network.with(|inner| inner.late = LATE);
    ask_for_a_share(&store).await;
    network.cut(seat, Duration::from_secs(3600));
    let node = store.shared().desk().node.name;
    let till = network.with(|inner| {
        let lease = inner.truth.ground.lease(&accounts[0].key, node, 0);
        lease.expect("the script keeps it").till
    });
    (store, till)
}

/// The server's clock gains `drift` millionths on the process's, for which a share lives for `life` microseconds.
async fn refuses_in_time(engine: Engine, store_down: StoreDown, (life, drift): (u64, i64)) {
    let policy = policy(store_down);
    let network = Network::new(engine, 1, (STILL, &policy));
    network.with(|inner| (inner.drift, inner.fine) = (drift, 1));
    let clock = || network.with(|inner| inner.look_at_clock().shown);
    let (store, till) = cut_off_with_a_share(&network, &policy).await;
    let begun = till - life;
    assert!(clock() - begun < 2 * micros(LATE), "it was the first");
    // A share of which nothing is wanted is given back.
    while clock() + 20_000 < till {
        assert!(admits(&store), "{} us before its end", till - clock());
        sleep(Duration::from_millis(5)).await;
    }
    advance(Duration::from_micros((till - clock()) * 15 / 16 - 50)).await;
    while clock() + 50 < till {
        advance(Duration::from_micros(1)).await;
    }
    let (mut admitted, mut ended) = (0, 0);
    for _ in 0..100 {
        let has_ended = clock() >= till;
        let is_admitted = admits(&store);
        assert!(
            !(has_ended && is_admitted),
            "a share that the script has ended is spent"
        );
        admitted += u64::from(is_admitted);
        ended += u64::from(has_ended);
        advance(Duration::from_micros(1)).await;
    }
    assert!((10..=50).contains(&admitted), "{admitted} admitted");
    assert!(ended >= 50, "{ended} after its end");
}

pub(super) fn run(test: impl Future<Output = ()>) {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    let runtime = builder.enable_time().start_paused(true).build().unwrap();
    runtime.block_on(test);
}

// A process stops 50 ms and a 64th of the share's life early: that is what the server's clock gains meanwhile.

#[test]
fn a_share_is_not_spent_past_its_end() {
    let numbers = (2_000_000, 42_345);
    run(refuses_in_time(Engine::start(), StoreDown::Closed, numbers));
}

#[test]
fn a_share_that_stands_is_not_spent_past_its_end() {
    let numbers = (30_000_000, 17_595);
    run(refuses_in_time(Engine::start(), StoreDown::Share, numbers));
}

/// A process is cut off when a reservation was just extended by more than was left, and given back.
async fn outlives_an_extension(engine: Engine) {
    let policy = policy(StoreDown::Share);
    let network = Network::new(engine, 1, (STILL, &policy));
    let (store, seat) = start(&network, &policy).await;
    ask_for_a_share(&store).await;
    let held = hold(&store, 1).expect("there is room");
    let more = Amounts::ZERO.with(Metric::TOKENS, left(&store) + 10);
    let extended = store.extend(held, more, None).await;
    let is_granted = matches!(extended, Ok(Extended::Granted { .. }));
    assert!(is_granted, "{extended:?}");
    network.cut(seat, Duration::from_secs(3600));
    give_back(&store, held);
    // A share of which nothing is wanted is given back.
    for seconds in 0..29 {
        assert!(admits(&store), "it has ended after {seconds} s");
        sleep(Duration::from_secs(1)).await;
    }
    sleep(Duration::from_secs(1)).await;
    assert!(!admits(&store), "it does not end");
}

#[test]
fn an_extension_cuts_no_share_short() {
    run(outlives_an_extension(Engine::start()));
}

/// A process is cut off with a reservation open until its lease has ended, and has another when it is back.
async fn refunds_nothing_of_an_ended_lease(engine: Engine) {
    let policy = policy(StoreDown::Closed);
    let network = Network::new(engine, 1, (STILL, &policy));
    let (store, seat) = start(&network, &policy).await;
    ask_for_a_share(&store).await;
    let before = hold(&store, 3).expect("there is room");
    network.cut(seat, Duration::from_millis(2500));
    sleep(Duration::from_millis(2600)).await;
    assert!(hold(&store, 1).is_none());
    ask_for_a_share(&store).await;
    let after = hold(&store, 5).expect("there is room");
    let rest = left(&store);
    // What it held was charged with the lease.
    give_back(&store, before);
    assert_eq!(left(&store), rest);
    give_back(&store, after);
    assert_eq!(left(&store), rest + 5);
}

#[test]
fn what_an_ended_lease_held_is_not_left_of_the_next() {
    run(refunds_nothing_of_an_ended_lease(Engine::start()));
}
