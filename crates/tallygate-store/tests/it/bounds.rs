//! Every bound of the store at its edge: refused with its own error, and nothing is lost.
use crate::support::{START, ask, bucket, pass, policy, rule, tokens};
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;
use tallygate_core::{
    Amounts, Bounds, Decision, FullError, Metric, Metrics, Outcome, Policy, Replay, ReservationId,
    Shape, Span,
};
use tallygate_store::{
    BoxFuture, Clock, MemoryOptions, MemoryStore, Reserve, SettleError, Settlement, Store,
    StoreError,
};

const ALICE: &[(&str, &str)] = &[("user", "alice")];
const BOB: &[(&str, &str)] = &[("user", "bob")];
const CAROL: &[(&str, &str)] = &[("user", "carol")];
const HOUR: Duration = Duration::from_secs(3600);

fn bounded(policy: &Policy, bounds: Bounds) -> Arc<MemoryStore> {
    let clock = Clock::manual(START);
    MemoryStore::new(policy, MemoryOptions { bounds, clock })
}

fn hundred_an_hour() -> Policy {
    policy(&[(Metric::TOKENS, 100, bucket(HOUR))])
}

fn one_slot() -> Policy {
    policy(&[(Metric::CONCURRENCY, 1, Shape::Concurrency)])
}

fn slot() -> Amounts {
    Amounts::ZERO.with(Metric::CONCURRENCY, 1)
}

#[track_caller]
fn admitted(answer: Result<Decision, StoreError>) -> ReservationId {
    match answer {
        Ok(Decision::Admit(admission)) => admission.id,
        other => panic!("an admission expected: {other:?}"),
    }
}

/// Polls a caller in line once.
fn poll(
    future: &mut BoxFuture<'_, Result<Decision, StoreError>>,
) -> Poll<Result<Decision, StoreError>> {
    let mut context = Context::from_waker(Waker::noop());
    future.as_mut().poll(&mut context)
}

#[test]
fn counters_are_bounded() {
    let bounds = Bounds {
        counters: 2,
        ..Bounds::default()
    };
    let store = bounded(&hundred_an_hour(), bounds);
    let held = admitted(store.try_reserve(&ask(ALICE, tokens(60))));
    store.spend(BOB, &tokens(100)).unwrap();
    let full = StoreError::Full(FullError::Counters(2));
    let before = store.stats();
    assert_eq!(store.try_reserve(&ask(CAROL, tokens(1))), Err(full.clone()));
    assert_eq!(store.spend(CAROL, &tokens(1)), Err(full.clone()));
    assert_eq!(
        full.to_string(),
        "no room for another counter: 2 are in use"
    );
    assert_eq!(store.stats(), before);
    // Those who have one go on as if nothing were the matter.
    assert_eq!(store.peek_now(CAROL)[0].used, 0);
    store
        .settle_now(held, Settlement::Exact(tokens(10)))
        .unwrap();
    admitted(store.try_reserve(&ask(ALICE, tokens(90))));
    // A counter that has come to rest makes room.
    pass(&store, HOUR);
    let gone: usize = (0..64).map(|_| store.sweep()).sum();
    assert_eq!(gone, 2);
    admitted(store.try_reserve(&ask(CAROL, tokens(1))));
}

/// A demand that needs two counters where there is room for one takes none.
#[test]
fn a_demand_that_needs_one_counter_too_many_takes_none() {
    let limit = [(Metric::TOKENS, 100, bucket(HOUR))];
    let rules = vec![rule("user", &["user"], &limit), rule("all", &[], &limit)];
    let bounds = Bounds {
        counters: 3,
        ..Bounds::default()
    };
    let policy = Policy::new(rules, Metrics::default()).unwrap();
    let store = bounded(&policy, bounds);
    admitted(store.try_reserve(&ask(ALICE, tokens(10))));
    admitted(store.try_reserve(&ask(BOB, tokens(10))));
    let full = StoreError::Full(FullError::Counters(3));
    assert_eq!(store.try_reserve(&ask(CAROL, tokens(10))), Err(full));
    assert_eq!(store.peek_now(CAROL)[1].used, 20);
    assert_eq!(store.stats().reservations, 2);
}

#[test]
fn reservations_are_bounded() {
    let bounds = Bounds {
        reservations: 2,
        ..Bounds::default()
    };
    let store = bounded(&hundred_an_hour(), bounds);
    let first = admitted(store.try_reserve(&ask(ALICE, tokens(10))));
    admitted(store.try_reserve(&ask(ALICE, tokens(10))));
    let full = StoreError::Full(FullError::Reservations(2));
    assert_eq!(
        store.try_reserve(&ask(ALICE, tokens(10))),
        Err(full.clone())
    );
    assert_eq!(
        full.to_string(),
        "no room for another reservation: 2 are open"
    );
    assert_eq!(store.peek_now(ALICE)[0].used, 20);
    // What holds nothing needs no room, and what ends makes some.
    assert_eq!(store.spend(ALICE, &tokens(5)), Ok(None));
    store.cancel_now(first).unwrap();
    admitted(store.try_reserve(&ask(ALICE, tokens(10))));
    assert_eq!(store.peek_now(ALICE)[0].used, 25);
}

/// A caller whose turn comes at the bound is told so, not to come again at once.
#[test]
fn a_waiter_at_the_bound_of_reservations_is_told() {
    let bounds = Bounds {
        reservations: 1,
        ..Bounds::default()
    };
    let store = bounded(&hundred_an_hour(), bounds);
    assert_eq!(store.spend(ALICE, &tokens(100)), Ok(None));
    let waiting = Reserve {
        max_wait: HOUR,
        ..ask(ALICE, tokens(10))
    };
    let mut future = store.reserve(waiting);
    assert!(poll(&mut future).is_pending());
    admitted(store.try_reserve(&ask(BOB, tokens(1))));
    pass(&store, HOUR / 10);
    let full = StoreError::Full(FullError::Reservations(1));
    assert_eq!(poll(&mut future), Poll::Ready(Err(full)));
    assert_eq!(store.stats().waiters, 0);
    assert_eq!(store.peek_now(ALICE)[0].used, 90);
}

#[test]
fn waiters_are_bounded() {
    let bounds = Bounds {
        waiters: 2,
        ..Bounds::default()
    };
    let store = bounded(&one_slot(), bounds);
    let held = admitted(store.try_reserve(&ask(ALICE, slot())));
    let waiting = Reserve {
        max_wait: HOUR,
        ..ask(ALICE, slot())
    };
    let mut first = store.reserve(waiting);
    let mut second = store.reserve(waiting);
    let mut third = store.reserve(waiting);
    assert!(poll(&mut first).is_pending());
    assert!(poll(&mut second).is_pending());
    let full = StoreError::Full(FullError::Waiters(2));
    assert_eq!(poll(&mut third), Poll::Ready(Err(full.clone())));
    assert_eq!(
        full.to_string(),
        "no room in the waiting line: 2 are waiting"
    );
    // Those in line keep their places, and one that leaves makes room.
    drop(first);
    let mut fourth = store.reserve(waiting);
    assert!(poll(&mut fourth).is_pending());
    store.cancel_now(held).unwrap();
    assert!(matches!(
        poll(&mut second),
        Poll::Ready(Ok(Decision::Admit(_)))
    ));
    assert!(poll(&mut fourth).is_pending());
}

/// An operation that fails at a bound still tells the callers whose turn it has found to have come.
#[test]
fn an_error_holds_up_no_answer() {
    let bounds = Bounds {
        reservations: 1,
        ..Bounds::default()
    };
    let store = bounded(&one_slot(), bounds);
    let brief = Reserve {
        ttl: Duration::from_secs(5),
        ..ask(ALICE, slot())
    };
    admitted(store.try_reserve(&brief));
    let mut in_line = store.reserve(Reserve {
        max_wait: HOUR,
        ..ask(ALICE, slot())
    });
    assert!(poll(&mut in_line).is_pending());
    // The slot expires, and the next call is the first to find that out.
    store.clock().pass(Duration::from_secs(5));
    let full = StoreError::Full(FullError::Reservations(1));
    assert_eq!(store.try_reserve(&ask(BOB, slot())), Err(full));
    let answer = poll(&mut in_line);
    assert!(matches!(answer, Poll::Ready(Ok(Decision::Admit(_)))));
}

#[test]
fn receipts_are_bounded() {
    let bounds = Bounds {
        receipts: 2,
        receipt_ttl: Span::from_secs(60),
        ..Bounds::default()
    };
    let store = bounded(&hundred_an_hour(), bounds);
    let keyed = |key| Reserve {
        idempotency_key: Some(key),
        ..ask(ALICE, tokens(10))
    };
    let ended = |key| {
        let id = admitted(store.try_reserve(&keyed(key)));
        let receipt = store.settle_now(id, Settlement::Exact(tokens(5))).unwrap();
        (id, receipt)
    };
    let [first, second, third] = ["a", "b", "c"].map(ended);
    let repeat = |id| store.settle_now(id, Settlement::Exact(tokens(10)));
    // The oldest is forgotten, with its key; the others answer as before.
    assert_eq!(repeat(first.0), Err(SettleError::Unknown));
    assert_eq!(repeat(second.0), Ok(second.1));
    assert_eq!(repeat(third.0), Ok(third.1));
    assert_eq!(replay(&store, &keyed("b")), Replay::Ended(Outcome::Settled));
    assert_eq!(replay(&store, &keyed("a")), Replay::Fresh);
    assert_eq!(store.peek_now(ALICE)[0].used, 25);
    // After its time a receipt goes at the next end.
    pass(&store, Duration::from_secs(60));
    ended("d");
    assert_eq!(repeat(third.0), Err(SettleError::Unknown));
    assert_eq!(replay(&store, &keyed("c")), Replay::Fresh);
}

fn replay(store: &MemoryStore, ask: &Reserve<'_>) -> Replay {
    match store.try_reserve(ask) {
        Ok(Decision::Admit(admission)) => admission.replay,
        other => panic!("an admission expected: {other:?}"),
    }
}

#[test]
fn extensions_are_bounded() {
    let store = bounded(&hundred_an_hour(), Bounds::default());
    let id = admitted(store.try_reserve(&ask(ALICE, Amounts::ZERO)));
    for _ in 0..tallygate_core::MAX_EXTENSIONS {
        store.extend_now(id, &slot(), None).unwrap();
    }
    let once_more = store.extend_now(id, &slot(), None);
    assert_eq!(once_more, Err(SettleError::TooOften));
    // Its deadline may still be moved, and it can still be ended.
    store.extend_now(id, &Amounts::ZERO, Some(HOUR)).unwrap();
    assert!(store.settle_now(id, Settlement::Exact(tokens(3))).is_ok());
    assert_eq!(store.peek_now(ALICE)[0].used, 3);
}
