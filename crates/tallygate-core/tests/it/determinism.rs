//! The same seed and the same operations give the same answers.
use crate::op::Case;
use crate::runner::{Runner, saved};
use crate::setup::{RuleSpec, SUBJECTS, amounts, policy};
use crate::strategy::{Kind, any_cases, config};
use proptest::prelude::*;
use tallygate_core::{Ask, Bounds, Entry, Ledger, Span, Time};

/// All that was answered, in words.
fn answers(case: &Case) -> Vec<String> {
    let mut runner = Runner::new(&case.rules);
    let mut said = Vec::new();
    for op in &case.ops {
        said.push(format!("{:?}", runner.apply(op)));
        said.push(format!("{:?}", runner.peek_all()));
    }
    said.push(format!("{:?}", runner.calls));
    said
}

proptest! {
    #![proptest_config(config(40))]

    #[test]
    fn the_same_again(case in any_cases(Kind::Changing)) {
        prop_assert_eq!(answers(&case), answers(&case));
    }

    /// A policy made of the one before is the one made anew: callers in line, counters and names are as they would be.
    #[test]
    fn an_amended_policy_is_no_other(case in any_cases(Kind::Everything)) {
        let mut anew = Runner::new(&case.rules);
        let mut amended = Runner::amending(&case.rules);
        for op in &case.ops {
            prop_assert_eq!(anew.apply(op), amended.apply(op), "{:?}", op);
            prop_assert_eq!(anew.peek_all(), amended.peek_all(), "after {:?}", op);
        }
        prop_assert_eq!(&anew.calls, &amended.calls);
        prop_assert_eq!(saved(&anew.ledger), saved(&amended.ledger));
    }

    /// Looking often changes nothing: whoever only looks is no part of what happens.
    #[test]
    fn looking_changes_nothing(case in any_cases(Kind::Waiting)) {
        let mut quiet = Runner::after(&case.rules, &case.ops);
        let mut watched = Runner::new(&case.rules);
        for op in &case.ops {
            watched.apply(op);
            watched.peek_all();
        }
        prop_assert_eq!(quiet.peek_all(), watched.peek_all());
        prop_assert_eq!(quiet.calls, watched.calls);
    }
}

/// Rules that go together let their callers in in the same order every time.
#[test]
fn rules_go_in_the_same_order() {
    let rule = |number: usize| RuleSpec {
        number,
        per: &[],
        tier: None,
        limits: vec![crate::setup::LimitSpec {
            metric: tallygate_core::Metric::TOKENS,
            amount: 1 + u64::try_from(number).expect("a small number"),
            form: crate::setup::Form::Bucket {
                every: 1_000_000,
                burst: 1 + u64::try_from(number).expect("a small number"),
            },
        }],
        mode: tallygate_core::Mode::Enforce,
    };
    let rules: Vec<RuleSpec> = (0..16).map(rule).collect();
    let arrivals: Vec<_> = (0..8).map(|_| order_of_release(&rules)).collect();
    assert!(
        arrivals.iter().all(|order| order.is_sorted()),
        "{arrivals:?}"
    );
}

/// The order in which callers of one rule each are let in when all rules go, by their arrival.
fn order_of_release(rules: &[RuleSpec]) -> Vec<usize> {
    let now = Time::from_secs(1);
    let mut ledger = Ledger::new(&policy(&[]), Bounds::default(), [3, 4]);
    ledger.advance(now);
    let mut tickets = Vec::new();
    for rule in rules {
        // Each caller is resolved while its rule alone is in force besides those before.
        let until = rules
            .iter()
            .position(|known| known == rule)
            .expect("it is one of them");
        ledger.replace_policy(&policy(&rules[..=until]), now);
        let keys = ledger.resolve(&SUBJECTS[0]);
        let all = amounts([0, 1, 0]);
        let ask = Ask {
            keys: &keys,
            demand: &all,
            ttl: Span::from_secs(1),
            idempotency: None,
        };
        while let Ok(Entry::Decided(_)) = ledger.wait(&ask, now, now) {
            assert!(tickets.len() <= until);
        }
        let entry = ledger.wait(&ask, now.plus(Span::from_secs(9)), now);
        if let Ok(Entry::Waiting(ticket)) = entry {
            tickets.push(ticket);
        }
    }
    ledger.take_answers();
    ledger.replace_policy(&policy(&[]), now);
    let answers = ledger.take_answers().into_iter();
    answers
        .filter_map(|(ticket, _)| tickets.iter().position(|known| *known == ticket))
        .collect()
}
