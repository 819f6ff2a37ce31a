//! Every bound, at its edge.
use crate::op::{Bid, Op};
use crate::runner::Runner;
use crate::setup::{Form, LimitSpec, RuleSpec, SUBJECTS, amounts, policy};
use tallygate_core::{
    Amounts, Ask, Bounds, Decision, EndError, Entry, ExtendError, Extended, FullError, Ledger,
    MAX_AMOUNT, MAX_EXTENSIONS, MAX_REFILL, MAX_RULES, MAX_WINDOW, Metric, Metrics, Mode, Policy,
    PolicyError, ReservationId, Rule, Shape, Span, StoreDown, Time, Used,
};

/// One rule, a counter a user.
fn per_user(amount: u64) -> Vec<RuleSpec> {
    vec![RuleSpec {
        number: 0,
        per: &["user"],
        tier: None,
        limits: vec![LimitSpec {
            metric: Metric::TOKENS,
            amount,
            form: Form::Bucket {
                every: 60_000_000_000,
                burst: amount,
            },
        }],
        mode: Mode::Enforce,
    }]
}

const NOW: Time = Time::from_secs(1_000_000);

fn ledger(amount: u64, bounds: Bounds) -> Ledger {
    let mut ledger = Ledger::new(&policy(&per_user(amount)), bounds, [1, 2]);
    ledger.advance(NOW);
    ledger
}

fn reserve(ledger: &mut Ledger, who: usize, tokens: u64) -> Result<ReservationId, FullError> {
    let keys = ledger.resolve(&SUBJECTS[who]);
    let ask = Ask {
        keys: &keys,
        demand: &amounts([0, tokens, 0]),
        ttl: Span::from_secs(60),
        idempotency: None,
    };
    match ledger.reserve(&ask, NOW)? {
        Decision::Admit(admission) => Ok(admission.id),
        refused => panic!("{refused:?}"),
    }
}

fn nothing() -> Used {
    Used::Exactly(Amounts::ZERO)
}

#[test]
fn counters_past_the_bound_are_refused() {
    let bounds = Bounds {
        counters: 2,
        ..Bounds::default()
    };
    let mut ledger = ledger(100, bounds);
    reserve(&mut ledger, 0, 1).expect("the first counter");
    reserve(&mut ledger, 1, 1).expect("the second counter");
    assert_eq!(reserve(&mut ledger, 2, 1), Err(FullError::Counters(2)));
    reserve(&mut ledger, 0, 1).expect("a counter that is there already");
    let keys = ledger.resolve(&SUBJECTS[2]);
    let spent = ledger.spend(&keys, &amounts([0, 1, 0]), NOW);
    assert_eq!(spent, Err(FullError::Counters(2)));
    let later = NOW.plus(Span::from_secs(3600));
    (0..64).for_each(|_| {
        ledger.sweep(later);
    });
    assert_eq!(ledger.counters(), 0);
    reserve(&mut ledger, 2, 1).expect("idle counters have made room");
}

#[test]
fn reservations_past_the_bound_are_refused() {
    let bounds = Bounds {
        reservations: 2,
        ..Bounds::default()
    };
    let mut ledger = ledger(100, bounds);
    let first = reserve(&mut ledger, 0, 1).expect("the first");
    reserve(&mut ledger, 0, 1).expect("the second");
    assert_eq!(reserve(&mut ledger, 1, 1), Err(FullError::Reservations(2)));
    let keys = ledger.resolve(&SUBJECTS[0]);
    assert_eq!(
        ledger.peek(&keys, NOW)[0].used,
        2,
        "a refusal takes nothing"
    );
    ledger.settle(first, nothing(), NOW).expect("it is open");
    reserve(&mut ledger, 1, 1).expect("there is room again");
}

#[test]
fn callers_past_the_bound_are_refused() {
    let bounds = Bounds {
        waiters: 2,
        ..Bounds::default()
    };
    let mut ledger = ledger(100, bounds);
    reserve(&mut ledger, 0, 100).expect("all of it");
    let keys = ledger.resolve(&SUBJECTS[0]);
    let ask = Ask {
        keys: &keys,
        demand: &amounts([0, 10, 0]),
        ttl: Span::from_secs(60),
        idempotency: None,
    };
    let until = NOW.plus(Span::from_secs(60));
    let first = ledger.wait(&ask, until, NOW).expect("the first in line");
    ledger.wait(&ask, until, NOW).expect("the second in line");
    assert_eq!(ledger.wait(&ask, until, NOW), Err(FullError::Waiters(2)));
    let Entry::Waiting(ticket) = first else {
        panic!("{first:?}");
    };
    ledger.leave(ticket, NOW);
    ledger.wait(&ask, until, NOW).expect("there is room again");
}

#[test]
fn receipts_past_the_bound_are_forgotten() {
    let bounds = Bounds {
        receipts: 2,
        ..Bounds::default()
    };
    let mut ledger = ledger(100, bounds);
    let ids: Vec<_> = (0..3)
        .map(|_| reserve(&mut ledger, 0, 1).expect("room"))
        .collect();
    for id in &ids {
        ledger.settle(*id, nothing(), NOW).expect("it is open");
    }
    assert_eq!(
        ledger.settle(ids[0], nothing(), NOW),
        Err(EndError::Unknown)
    );
    assert!(ledger.settle(ids[1], nothing(), NOW).is_ok());
    assert!(ledger.settle(ids[2], nothing(), NOW).is_ok());
}

#[test]
fn receipts_past_their_time_are_forgotten() {
    let bounds = Bounds {
        receipt_ttl: Span::from_secs(10),
        ..Bounds::default()
    };
    let mut ledger = ledger(100, bounds);
    let old = reserve(&mut ledger, 0, 1).expect("room");
    let new = reserve(&mut ledger, 0, 1).expect("room");
    ledger.settle(old, nothing(), NOW).expect("it is open");
    let later = NOW.plus(Span::from_secs(10));
    ledger.settle(new, nothing(), later).expect("it is open");
    assert_eq!(ledger.settle(old, nothing(), later), Err(EndError::Unknown));
    assert!(ledger.settle(new, nothing(), later).is_ok());
}

#[test]
fn extensions_past_the_bound_are_refused() {
    let mut ledger = ledger(1_000, Bounds::default());
    let id = reserve(&mut ledger, 0, 1).expect("room");
    let more = amounts([0, 1, 0]);
    for _ in 0..MAX_EXTENSIONS {
        let extended = ledger.extend(id, &more, None, NOW);
        assert!(matches!(extended, Ok(Extended::Granted { .. })));
    }
    assert_eq!(
        ledger.extend(id, &more, None, NOW),
        Err(ExtendError::TooOften)
    );
    // The deadline may be moved as often as one likes.
    let moved = ledger.extend(id, &Amounts::ZERO, Some(Span::from_secs(9)), NOW);
    assert!(matches!(moved, Ok(Extended::Granted { .. })));
    let keys = ledger.resolve(&SUBJECTS[0]);
    ledger.settle(id, nothing(), NOW).expect("it is open");
    assert_eq!(
        ledger.peek(&keys, NOW)[0].used,
        0,
        "all parts are given back"
    );
}

/// The greatest amounts pass through without loss, and what is above them is refused.
#[test]
fn the_largest_amounts_count_exactly() {
    let mut ledger = ledger(MAX_AMOUNT, Bounds::default());
    let keys = ledger.resolve(&SUBJECTS[0]);
    reserve(&mut ledger, 0, MAX_AMOUNT - 1).expect("one is left");
    assert_eq!(ledger.peek(&keys, NOW)[0].remaining, 1);
    reserve(&mut ledger, 0, 1).expect("the last one");
    assert_eq!(ledger.peek(&keys, NOW)[0].used, MAX_AMOUNT);
}

#[test]
fn deadlines_and_patience_end_with_time() {
    let rules = per_user(10);
    let mut runner = Runner::new(&rules);
    let bid = Bid {
        who: 0,
        demand: [0, 10, 0],
        ttl: u64::MAX,
        key: None,
    };
    runner.apply(&Op::Reserve(bid));
    let patience = u64::MAX;
    runner.apply(&Op::Wait { bid, patience });
    runner.apply(&Op::Pass(60_000_000_000));
    assert_eq!((runner.ledger.open(), runner.calls.len()), (2, 1));
}

fn limited(amount: u64, shape: Shape) -> Result<Policy, PolicyError> {
    let metric = match shape {
        Shape::Concurrency => Metric::CONCURRENCY,
        _ => Metric::TOKENS,
    };
    let rule = Rule {
        name: "one".to_owned(),
        when: Vec::new(),
        per: Vec::new(),
        limits: vec![(metric, amount, shape)],
        mode: Mode::Enforce,
        store_down: StoreDown::default(),
    };
    Policy::new(vec![rule], Metrics::default())
}

fn bucket(every: Span, burst: Option<u64>) -> Shape {
    Shape::Bucket {
        every,
        burst,
        strict: false,
    }
}

#[test]
fn amounts_and_windows_of_a_rule_have_edges() {
    let minute = Span::from_secs(60);
    assert!(limited(1, bucket(minute, None)).is_ok());
    assert!(limited(MAX_AMOUNT, bucket(minute, None)).is_ok());
    for amount in [0, MAX_AMOUNT + 1] {
        let refused = limited(amount, bucket(minute, None));
        assert!(matches!(refused, Err(PolicyError::Amount { .. })));
    }
    for every in [Span::from_nanos(1), MAX_WINDOW] {
        assert!(limited(1, bucket(every, None)).is_ok());
        assert!(limited(1, Shape::Sliding { every }).is_ok());
    }
    let longer = Span::from_nanos(MAX_WINDOW.as_nanos() + 1);
    for every in [Span::ZERO, longer] {
        let refused = limited(1, bucket(every, None));
        assert!(matches!(refused, Err(PolicyError::Window { .. })));
        let refused = limited(1, Shape::Sliding { every });
        assert!(matches!(refused, Err(PolicyError::Window { .. })));
    }
}

/// A bucket that took centuries to refill could not be told from a full one: its level lies past the end of time.
#[test]
fn a_burst_refills_within_a_century() {
    let day = Span::from_secs(86_400);
    let days = MAX_REFILL.as_nanos() / day.as_nanos();
    assert!(limited(1, bucket(day, Some(days))).is_ok());
    for burst in [0, days + 1, MAX_AMOUNT, MAX_AMOUNT + 1] {
        let refused = limited(1, bucket(day, Some(burst)));
        assert!(matches!(refused, Err(PolicyError::Burst { .. })), "{burst}");
    }
    let strict = |burst| Shape::Bucket {
        every: MAX_WINDOW,
        burst: Some(burst),
        strict: true,
    };
    assert!(limited(1000, strict(900)).is_ok());
    assert!(
        limited(1000, strict(999)).is_err(),
        "one a year, a burst of 999"
    );
    assert!(limited(1000, strict(1000)).is_err(), "no rate is left");
}

#[test]
fn a_policy_has_a_bound() {
    let rules = |count: usize| {
        let rule = |number: usize| Rule {
            name: number.to_string(),
            when: Vec::new(),
            per: Vec::new(),
            limits: vec![(Metric::CONCURRENCY, 1, Shape::Concurrency)],
            mode: Mode::Enforce,
            store_down: StoreDown::default(),
        };
        (0..count).map(rule).collect()
    };
    assert!(Policy::new(rules(MAX_RULES), Metrics::default()).is_ok());
    let refused = Policy::new(rules(MAX_RULES + 1), Metrics::default());
    assert!(matches!(refused, Err(PolicyError::TooMany(_))));
}
