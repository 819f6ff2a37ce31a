//! Idle counters are dropped, and nobody can tell.
use crate::support::{ask, bucket, pass, policy, rule, tokens, virtual_store};
use std::time::Duration;
use tallygate_core::{Amounts, Calendar, Decision, Metric, Metrics, Policy, Shape};
use tallygate_store::{MemoryStore, Reserve, Settlement, Store};

const HOUR: Duration = Duration::from_secs(3600);

/// As many calls as look at every counter of a policy of one rule.
fn sweep_all(store: &MemoryStore) -> usize {
    (0..64).map(|_| store.sweep()).sum()
}

fn user(number: usize) -> String {
    format!("user-{number}")
}

#[test]
fn counters_at_rest_are_dropped() {
    let store = virtual_store(&policy(&[(Metric::TOKENS, 100, bucket(HOUR))]));
    for number in 0..1000 {
        let spent = if number < 500 { 50 } else { 100 };
        let refusal = store.spend(&[("user", &user(number))], &tokens(spent));
        assert_eq!(refusal, Ok(None));
    }
    assert_eq!(sweep_all(&store), 0, "nothing is at rest yet");
    pass(&store, HOUR / 2);
    assert_eq!(sweep_all(&store), 500);
    assert_eq!(store.stats().counters, 500);
    assert_eq!(store.peek_now(&[("user", "user-500")])[0].used, 50);
    pass(&store, HOUR / 2);
    assert_eq!(sweep_all(&store), 500);
    assert_eq!(store.stats().counters, 0);
}

#[test]
fn counters_in_use_are_kept() {
    let limits = [
        (Metric::TOKENS, 100, bucket(HOUR)),
        (Metric::CONCURRENCY, 1, Shape::Concurrency),
    ];
    let store = virtual_store(&policy(&limits));
    let subject = [("user", "alice")];
    let slot = Amounts::ZERO.with(Metric::CONCURRENCY, 1);
    let Ok(Decision::Admit(held)) = store.try_reserve(&ask(&subject, slot)) else {
        panic!("the slot is free");
    };
    assert_eq!(sweep_all(&store), 0);
    assert_eq!(store.peek_now(&subject)[1].used, 1);
    store.settle_now(held.id, Settlement::Exact(slot)).unwrap();
    assert_eq!(sweep_all(&store), 1);
}

/// A bucket that is full again under an open reservation can still be charged for it.
#[test]
fn counters_that_may_be_charged_later_are_kept() {
    let store = virtual_store(&policy(&[(Metric::TOKENS, 100, bucket(HOUR))]));
    let subject = [("user", "alice")];
    let Ok(Decision::Admit(held)) = store.try_reserve(&Reserve {
        ttl: HOUR * 10,
        ..ask(&subject, tokens(10))
    }) else {
        panic!("the bucket is full");
    };
    pass(&store, HOUR);
    assert_eq!(sweep_all(&store), 0);
    let used = Settlement::Exact(tokens(300));
    assert!(store.settle_now(held.id, used).is_ok());
    assert_eq!(store.peek_now(&subject)[0].used, 200);
}

/// A small generator: the same seed, the same run.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % sides
    }
}

fn every_shape() -> Policy {
    let sliding = Shape::Sliding {
        every: Duration::from_secs(7).into(),
    };
    let minute = Shape::Fixed {
        window: Calendar::Minute,
        timezone: jiff::tz::TimeZone::UTC,
    };
    let limits = [
        (Metric::TOKENS, 90, bucket(Duration::from_secs(11))),
        (Metric::REQUESTS, 5, sliding),
        (Metric::COST, 500, minute),
        (Metric::CONCURRENCY, 3, Shape::Concurrency),
    ];
    let own = rule("own", &["user"], &limits);
    let all = rule("all", &[], &limits[..1]);
    Policy::new(vec![own, all], Metrics::default()).expect("the policy of a test is valid")
}

/// One store is swept after every step and one never; both say the same, ids apart.
#[test]
fn a_swept_store_answers_as_one_never_swept() {
    let (swept, kept) = (virtual_store(&every_shape()), virtual_store(&every_shape()));
    let mut dice = Dice(17);
    let mut open = Vec::new();
    let mut gone = 0;
    for _ in 0..6000 {
        match dice.roll(10) {
            0..5 => {
                let name = user(dice.roll(6) as usize);
                let subject = [("user", name.as_str())];
                let demand = Amounts::call(dice.roll(40), 0).with(Metric::COST, dice.roll(200));
                let ask = ask(&subject, demand);
                let pair = [&swept, &kept].map(|store| store.try_reserve(&ask).unwrap());
                assert_eq!(without_id(&pair[0]), without_id(&pair[1]));
                if let [Decision::Admit(a), Decision::Admit(b)] = pair {
                    open.push((a.id, b.id, demand));
                }
            }
            5..8 if !open.is_empty() => {
                let at = dice.roll(open.len() as u64) as usize;
                let (a, b, demand) = open.swap_remove(at);
                let used = demand.with(Metric::TOKENS, dice.roll(80));
                let a = swept.settle_now(a, Settlement::Exact(used));
                let b = kept.settle_now(b, Settlement::Exact(used));
                assert_eq!(a, b);
            }
            _ => {
                let length = Duration::from_millis(dice.roll(4000));
                pass(&swept, length);
                pass(&kept, length);
            }
        }
        gone += (0..4).map(|_| swept.sweep()).sum::<usize>();
    }
    assert!(gone > 100, "only {gone} counters were dropped");
    assert!(swept.now() == kept.now());
}

/// A decision but for the name of its reservation.
fn without_id(decision: &Decision) -> Decision {
    match decision {
        Decision::Admit(admission) => {
            let mut admission = admission.clone();
            admission.id = tallygate_core::ReservationId::from_bits(0);
            Decision::Admit(admission)
        }
        refusal => refusal.clone(),
    }
}
