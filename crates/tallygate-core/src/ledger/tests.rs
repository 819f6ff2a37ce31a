use super::*;
use crate::metric::{Metric, Metrics};
use crate::policy::Rule;
use crate::shape::{Mode, Shape, StoreDown};

/// Two limits a user, one for all: their counters are kept by rule.
fn policy() -> Policy {
    let bucket = |amount| Shape::Bucket {
        every: Span::from_secs(60),
        burst: Some(amount),
        strict: false,
    };
    let rule = |name: &str, per: &[&str], limits| Rule {
        name: name.to_owned(),
        when: Vec::new(),
        per: per.iter().map(|label| (*label).to_owned()).collect(),
        limits,
        mode: Mode::Enforce,
        store_down: StoreDown::default(),
    };
    let rules = vec![
        rule("all", &[], vec![(Metric::TOKENS, 1_000, bucket(1_000))]),
        rule(
            "user",
            &["user"],
            vec![
                (Metric::TOKENS, 400, bucket(400)),
                (Metric::CONCURRENCY, 3, Shape::Concurrency),
            ],
        ),
    ];
    Policy::new(rules, Metrics::default()).expect("it can be")
}

fn ledger() -> Ledger {
    let mut ledger = Ledger::new(&policy(), Bounds::default(), [1, 2]);
    ledger.advance(Time::from_secs(1_000));
    ledger
}

fn wait(ledger: &mut Ledger, user: usize, tokens: u64) -> Entry {
    let keys = ledger.resolve(&[("user", &user.to_string())]);
    let ask = Ask {
        keys: &keys,
        demand: &Amounts::call(tokens, 0),
        ttl: Span::from_secs(7),
        idempotency: None,
    };
    let until = ledger.now.plus(Span::from_secs(11));
    ledger.wait(&ask, until, ledger.now).expect("no bound")
}

fn moving(ledger: &mut Ledger) -> usize {
    let slots = ledger.slots.iter_mut().flatten();
    let accounts = slots.flat_map(|slot| slot.accounts.iter_mut());
    accounts
        .filter(|account| account.motion().is_some())
        .count()
}

/// An account that nothing is open on and nobody waits for keeps no more than its counters.
#[test]
fn accounts_come_to_rest() {
    let mut ledger = ledger();
    for round in 0..400u64 {
        let user = usize::try_from(round % 7).expect("small");
        wait(&mut ledger, user, 20 + round * 13 % 300);
        let step = Span::from_millis(round * 37 % 900);
        ledger.advance(ledger.now.plus(step));
        assert!(ledger.agenda.is_empty(), "served before the operation ends");
    }
    assert!(moving(&mut ledger) > 0);
    let answered = ledger.take_answers().len();
    assert!(answered > 50, "only {answered} waited in line");
    while let Some(next) = ledger.next_event() {
        ledger.advance(next);
    }
    assert_eq!((ledger.open(), ledger.waiting()), (0, 0));
    assert_eq!(moving(&mut ledger), 0);
}

/// A deadline that is moved again and again leaves no event each time.
#[test]
fn events_stay_in_proportion() {
    let mut ledger = ledger();
    let Entry::Decided(Decision::Admit(admission)) = wait(&mut ledger, 0, 10) else {
        panic!("it fits");
    };
    for _ in 0..10_000 {
        let beat = ledger.now.plus(Span::from_millis(1));
        let ttl = Some(Span::from_secs(600));
        let moved = ledger.extend(admission.id, &Amounts::ZERO, ttl, beat);
        assert!(moved.is_ok());
    }
    let mut events = 0;
    while ledger.timers.first().is_some() {
        ledger.timers.pop();
        events += 1;
    }
    assert!(events < 2_000, "{events} events for one reservation");
}

/// Reservations are named by what nobody can guess, and never twice.
#[test]
fn names_differ_by_seed_and_number() {
    let mut seen = std::collections::HashSet::new();
    for seed in 0..8 {
        let mut ledger = Ledger::new(&policy(), Bounds::default(), [seed, 2]);
        ledger.advance(Time::from_secs(1_000));
        for user in 0..50 {
            let Entry::Decided(Decision::Admit(admission)) = wait(&mut ledger, user, 1) else {
                panic!("it fits");
            };
            assert!(seen.insert(admission.id.bits()));
            ledger.cancel(admission.id, ledger.now).expect("it is open");
        }
    }
}
