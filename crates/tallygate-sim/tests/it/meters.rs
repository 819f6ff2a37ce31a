//! The meters and the checker against brute force.

use std::time::Duration;

use proptest::prelude::*;
use tallygate_sim::limit::{Fit, Meter};
use tallygate_sim::{At, MockLimit, MockMetric, Timeline, Use};

const EVERY: u64 = 1_000;

/// What was charged, and when.
type Charges = Vec<(u64, u64)>;

#[derive(Debug, Clone)]
struct Step {
    wait: u64,
    cost: u64,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let wait = prop_oneof![0u64..4, 0u64..400, Just(EVERY), 0u64..3_000];
    let cost = prop_oneof![0u64..4, 0u64..120, Just(100u64)];
    prop::collection::vec(
        (wait, cost).prop_map(|(wait, cost)| Step { wait, cost }),
        1..60,
    )
}

/// The envelope of a bucket: no span `[s, now]` may hold more than the burst and its refill.
fn bucket_fits(charges: &Charges, limit: &MockLimit, (now, cost): (u64, u64)) -> bool {
    let capacity = u128::from(limit.capacity()) * u128::from(EVERY);
    let starts = charges.iter().map(|charge| charge.0).chain([now]);
    starts.into_iter().all(|start| {
        let inside = charges
            .iter()
            .filter(|charge| charge.0 >= start)
            .map(|charge| charge.1)
            .sum::<u64>()
            + cost;
        u128::from(inside) * u128::from(EVERY)
            <= capacity + u128::from(now - start) * u128::from(limit.amount)
    })
}

/// What a log promises: no more than the amount in `(now - every, now]`.
fn log_fits(charges: &Charges, limit: &MockLimit, (now, cost): (u64, u64)) -> bool {
    let inside = charges
        .iter()
        .filter(|charge| charge.0 + EVERY > now)
        .map(|charge| charge.1)
        .sum::<u64>();
    inside + cost <= limit.amount
}

type Rule = fn(&Charges, &MockLimit, (u64, u64)) -> bool;

/// Runs the steps; whatever the meter says must be what the rule says, to the nanosecond.
fn follow(limit: &MockLimit, rule: Rule, steps: &[Step]) -> Result<(), TestCaseError> {
    let mut now = 5;
    let mut meter = Meter::new(limit, At::from_nanos(now));
    let mut charges = Charges::new();
    for step in steps {
        now += step.wait;
        let fit = meter.fit(At::from_nanos(now), step.cost);
        prop_assert_eq!(
            fit == Fit::Now,
            rule(&charges, limit, (now, step.cost)),
            "{} at {}",
            step.cost,
            now
        );
        match fit {
            Fit::Now => {
                meter.charge(At::from_nanos(now), step.cost);
                charges.push((now, step.cost));
            }
            Fit::After(wait) => {
                let at = now + u64::try_from(wait.as_nanos()).unwrap();
                prop_assert!(
                    rule(&charges, limit, (at, step.cost)),
                    "denied at the promised instant"
                );
                prop_assert!(
                    !rule(&charges, limit, (at - 1, step.cost)),
                    "admitted before it"
                );
            }
            Fit::Never => prop_assert!(step.cost > limit.capacity()),
        }
        let left = meter.remaining(At::from_nanos(now));
        prop_assert!(rule(&charges, limit, (now, left)));
        prop_assert!(!rule(&charges, limit, (now, left + 1)));
    }
    let reset = meter.reset(At::from_nanos(now));
    prop_assert_eq!(
        meter.remaining(At::from_nanos(now).plus(reset)),
        limit.capacity()
    );
    Ok(())
}

fn limit() -> MockLimit {
    MockLimit::per_minute(MockMetric::Tokens, 100).every(Duration::from_nanos(EVERY))
}

proptest! {
    #[test]
    fn a_bucket_keeps_its_envelope_and_nothing_more(steps in steps(), burst in 1u64..250) {
        follow(&limit().burst(burst), bucket_fits, &steps)?;
    }

    #[test]
    fn a_log_keeps_every_span_and_nothing_more(steps in steps()) {
        follow(&limit().sliding(), log_fits, &steps)?;
    }

    #[test]
    fn debt_is_repaid_before_anything_fits(debt in 1u64..1_000) {
        for limit in [limit(), limit().sliding()] {
            let start = At::from_nanos(7);
            let mut meter = Meter::new(&limit, start);
            meter.charge(start, 100 + debt);
            prop_assert_eq!(meter.remaining(start), 0);
            let Fit::After(wait) = meter.fit(start, 1) else { return Err(TestCaseError::fail("fits in debt")) };
            prop_assert_ne!(meter.fit(start.plus(wait - Duration::from_nanos(1)), 1), Fit::Now);
            prop_assert_eq!(meter.fit(start.plus(wait), 1), Fit::Now);
        }
    }

    #[test]
    fn the_checker_finds_the_worst_span(
        events in prop::collection::vec((0u64..50, 0u64..9, 0u64..9), 1..80),
        window in 1u64..200,
    ) {
        let mut timeline = Timeline::new();
        let (mut now, mut all) = (0, Vec::new());
        for (wait, input, late) in events {
            now += wait;
            let number = timeline.push(At::from_nanos(now), Use::call(input));
            timeline.add(number, Use::output(late));
            all.push((now, input + late));
        }
        let span = |end: u64| all.iter().filter(move |event| event.0 <= end && event.0 + window > end);
        let tokens = all.iter().map(|event| span(event.0).map(|event| event.1).sum::<u64>()).max().unwrap();
        let requests = all.iter().map(|event| span(event.0).count() as u64).max().unwrap();
        let worst = timeline.worst(Duration::from_nanos(window));
        prop_assert_eq!((worst.tokens, worst.requests), (tokens, requests));
        prop_assert!(timeline.is_exact());
    }
}

#[test]
fn a_timeline_past_its_bound_overstates_and_never_understates() {
    let mut timeline = Timeline::new();
    let pushes = tallygate_sim::timeline::MAX_ENTRIES as u64 * 2 + 5;
    for number in 0..pushes {
        timeline.push(At::from_nanos(number * 10), Use::call(1));
    }
    assert!(!timeline.is_exact());
    // 100 in each real span of 1,000 ns; four pushes share an entry by now.
    let worst = timeline.worst(Duration::from_nanos(1_000)).requests;
    assert!((100..=108).contains(&worst), "{worst}");
    assert_eq!(timeline.worst(Duration::from_secs(60)).requests, pushes);
}

#[test]
fn a_log_past_its_bound_errs_towards_refusing() {
    let pushes = (1 << 18) + 1;
    let limit = limit().sliding().every(Duration::from_secs(1));
    let limit = MockLimit {
        amount: pushes,
        ..limit
    };
    let mut meter = Meter::new(&limit, At::from_nanos(0));
    for nanos in 0..pushes {
        meter.charge(At::from_nanos(nanos), 1);
    }
    let second = Duration::from_secs(1);
    // The first two charges leave together, at the instant of the second.
    assert_eq!(
        meter.fit(At::from_nanos(pushes), 1),
        Fit::After(second + Duration::from_nanos(1) - Duration::from_nanos(pushes))
    );
    assert_eq!(meter.remaining(At::from_nanos(1).plus(second)), 2);
}
