//! The wall clock is stepped: calendar windows follow it, nothing else does, and no window opens twice.
use crate::support::{START, ask, bucket, pass, policy, tokens, virtual_store};
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;
use tallygate_core::{Calendar, Decision, Metric, Shape, Time};
use tallygate_store::{MemoryStore, Reserve, Settlement, Store};

const ALICE: &[(&str, &str)] = &[("user", "alice")];
const HOUR: Duration = Duration::from_secs(3600);
const HOUR_NANOS: i64 = 3_600_000_000_000;
const SECOND_NANOS: i64 = 1_000_000_000;

fn hundred_by(window: Calendar) -> Arc<MemoryStore> {
    let shape = Shape::Fixed {
        window,
        timezone: jiff::tz::TimeZone::UTC,
    };
    virtual_store(&policy(&[(Metric::TOKENS, 100, shape)]))
}

fn step(store: &MemoryStore, nanos: i64) {
    store.clock().step_wall(nanos);
    store.tick();
}

fn used(store: &MemoryStore) -> u64 {
    store.peek_now(ALICE)[0].used
}

#[track_caller]
fn denied_until(store: &MemoryStore) -> Time {
    match store.try_reserve(&ask(ALICE, tokens(100))) {
        Ok(Decision::Deny(denial)) => denial.retry_at,
        other => panic!("a denial expected: {other:?}"),
    }
}

/// The next full hour after the start, by the store's own clock.
fn next_hour() -> Time {
    let nanos = START.as_nanos();
    Time::from_nanos(nanos.next_multiple_of(HOUR.as_nanos() as u64))
}

#[test]
fn a_step_refills_no_bucket_and_takes_from_none() {
    let store = virtual_store(&policy(&[(Metric::TOKENS, 100, bucket(HOUR))]));
    store.spend(ALICE, &tokens(60)).unwrap();
    let until = denied_until(&store);
    for nanos in [HOUR_NANOS, -5 * HOUR_NANOS, 4 * HOUR_NANOS] {
        step(&store, nanos);
        assert_eq!(used(&store), 60);
        assert_eq!(denied_until(&store), until);
    }
}

#[test]
fn a_step_forward_opens_the_next_window() {
    let store = hundred_by(Calendar::Hour);
    store.spend(ALICE, &tokens(60)).unwrap();
    let held = match store.try_reserve(&ask(ALICE, tokens(40))) {
        Ok(Decision::Admit(admission)) => admission.id,
        other => panic!("an admission expected: {other:?}"),
    };
    assert_eq!(denied_until(&store), next_hour());
    step(&store, HOUR_NANOS);
    assert_eq!(used(&store), 0);
    store.spend(ALICE, &tokens(70)).unwrap();
    // What was held in the window that has gone is not given back to this one.
    store
        .settle_now(held, Settlement::Exact(tokens(0)))
        .unwrap();
    assert_eq!(used(&store), 70);
    assert_eq!(denied_until(&store), next_hour());
}

#[test]
fn a_step_forward_wakes_those_in_line() {
    let store = hundred_by(Calendar::Hour);
    store.spend(ALICE, &tokens(100)).unwrap();
    let mut waiting = store.reserve(Reserve {
        max_wait: HOUR,
        ..ask(ALICE, tokens(50))
    });
    let mut context = Context::from_waker(Waker::noop());
    assert!(waiting.as_mut().poll(&mut context).is_pending());
    step(&store, 2 * HOUR_NANOS);
    let answer = waiting.as_mut().poll(&mut context);
    assert!(matches!(answer, Poll::Ready(Ok(Decision::Admit(_)))));
}

/// An exact wait moves with the wall.
#[test]
fn a_step_within_a_window_moves_its_end() {
    let store = hundred_by(Calendar::Hour);
    store.spend(ALICE, &tokens(100)).unwrap();
    let before = denied_until(&store);
    step(&store, 60 * SECOND_NANOS);
    let sooner = denied_until(&store);
    assert_eq!(
        Duration::from(before.since(sooner)),
        Duration::from_secs(60)
    );
    pass(
        &store,
        Duration::from(sooner.since(store.now())) - Duration::from_nanos(1),
    );
    assert_eq!(denied_until(&store), sooner);
    pass(&store, Duration::from_nanos(1));
    assert_eq!(used(&store), 0);
}

#[test]
fn a_step_back_opens_no_window_twice() {
    let store = hundred_by(Calendar::Hour);
    store.spend(ALICE, &tokens(100)).unwrap();
    pass(&store, HOUR);
    store.spend(ALICE, &tokens(90)).unwrap();
    // The wall is in the hour before again; this one's sum stands until the wall has passed it.
    step(&store, -HOUR_NANOS);
    assert_eq!(used(&store), 90);
    assert!(matches!(
        store.try_reserve(&ask(ALICE, tokens(11))),
        Ok(Decision::Deny(_))
    ));
    let until = denied_until(&store);
    pass(&store, HOUR);
    assert_eq!(used(&store), 90);
    assert_eq!(
        denied_until(&store),
        until,
        "the wait was exact from the first"
    );
    pass(
        &store,
        Duration::from(until.since(store.now())) - Duration::from_nanos(1),
    );
    assert_eq!(used(&store), 90);
    pass(&store, Duration::from_nanos(1));
    assert_eq!(used(&store), 0);
}

/// A clock that was set wrong and is set right again is followed both times.
#[test]
fn a_step_that_is_taken_back_is_followed_back() {
    let store = hundred_by(Calendar::Hour);
    store.spend(ALICE, &tokens(100)).unwrap();
    step(&store, 600 * SECOND_NANOS);
    step(&store, -600 * SECOND_NANOS);
    assert_eq!(denied_until(&store), next_hour());
}

/// Less than a millisecond is the noise of reading two clocks.
#[test]
fn a_step_of_microseconds_is_none() {
    let store = hundred_by(Calendar::Hour);
    store.spend(ALICE, &tokens(100)).unwrap();
    step(&store, 999_999);
    assert_eq!(denied_until(&store), next_hour());
    step(&store, -2 * 999_999);
    assert_eq!(denied_until(&store), next_hour());
}
