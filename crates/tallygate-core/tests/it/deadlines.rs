//! G5: nothing leaks.
use crate::op::{Bid, Op};
use crate::runner::{Answer, Runner};
use crate::setup::{Form, LimitSpec, RuleSpec};
use crate::strategy::{Kind, any_cases, config};
use proptest::prelude::*;
use tallygate_core::{EndError, Metric, Mode, Outcome, Span};

/// Longer than any debt of a case takes to refill.
const AGES: Span = Span::from_secs(300 * 365 * 86_400);

proptest! {
    #![proptest_config(config(80))]

    /// Whatever was done, in the end no reservation, no caller, no event and no counter is left.
    #[test]
    fn nothing_is_left(
        case in prop_oneof![any_cases(Kind::Waiting), any_cases(Kind::Repeats), any_cases(Kind::Crowded)]
    ) {
        let mut runner = Runner::after(&case.rules, &case.ops);
        runner.pass_to(runner.now.plus(AGES));
        runner.sweep();
        let ledger = &mut runner.ledger;
        prop_assert_eq!((ledger.open(), ledger.waiting()), (0, 0));
        prop_assert_eq!(ledger.next_event(), None);
        prop_assert_eq!(ledger.counters(), 0);
    }

    /// A reservation that nobody settles stands until its deadline, and not at it.
    #[test]
    fn ended_at_the_deadline(ttl in 1..1_000_000_000u64, tokens in 1..50u64) {
        let limit = |metric, amount, form| LimitSpec { metric, amount, form };
        let rules = [RuleSpec {
            number: 0,
            per: &[],
            tier: None,
            limits: vec![
                limit(Metric::CONCURRENCY, 1, Form::Gauge),
                limit(Metric::TOKENS, 50, Form::Sliding { every: 10_000_000_000 }),
            ],
            mode: Mode::Enforce,
        }];
        let mut runner = Runner::new(&rules);
        let bid = Bid { who: 0, demand: [1, tokens, 1], ttl, key: None };
        runner.apply(&Op::Reserve(bid));
        runner.apply(&Op::Pass(ttl - 1));
        prop_assert_eq!(runner.ledger.open(), 1);
        prop_assert_eq!(used(&mut runner), [1, tokens]);
        runner.apply(&Op::Pass(1));
        prop_assert_eq!(runner.ledger.open(), 0);
        prop_assert_eq!(used(&mut runner), [0, tokens]);
        let Answer::Ended(Err(EndError::Ended(stands))) = runner.apply(&Op::Cancel(0)) else {
            panic!("it was cancelled after its deadline");
        };
        prop_assert_eq!(stands.outcome, Outcome::Expired);
    }
}

fn used(runner: &mut Runner) -> [u64; 2] {
    let standings = runner.peek(0);
    [standings[0].used, standings[1].used]
}
