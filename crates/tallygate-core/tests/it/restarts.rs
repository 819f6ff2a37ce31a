//! G9: a ledger made of a save and the records since goes on as if nothing had happened.
use crate::op::{Bid, Case, Op, Use};
use crate::runner::{Answer, Call, Runner, saved};
use crate::setup::{Form, LimitSpec, RuleSpec, SUBJECTS};
use crate::strategy::{Kind, any_cases, config};
use crate::world::World;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;
use tallygate_core::{Amounts, Calendar, Decision, Entry, Metric, Mode, Span, Time};

proptest! {
    #![proptest_config(config(80))]

    /// The oracle, which knows of no restart, finds every counter, decision and end as it would have been.
    #[test]
    fn a_restart_changes_nothing(case in any_cases(Kind::Restarts)) {
        World::run(&case);
    }

    /// The same of names and exact answers, rules that come and go included.
    #[test]
    fn a_reborn_ledger_answers_the_same(
        case in any_cases(Kind::Everything),
        cuts in any::<[Index; 2]>(),
    ) {
        check_reborn(&case, cuts)?;
    }

    /// The same with so many reservations open that ended ones are still told apart.
    #[test]
    fn a_reborn_crowd_answers_the_same(case in crowds(), cuts in any::<[Index; 2]>()) {
        check_reborn(&case, cuts)?;
    }

    /// Keeping a journal changes nothing.
    #[test]
    fn a_journal_is_not_noticed(case in any_cases(Kind::Everything)) {
        let mut plain = Runner::new(&case.rules);
        let mut kept = Runner::new(&case.rules);
        kept.save();
        for op in &case.ops {
            prop_assert_eq!(plain.apply(op), kept.apply(op));
            prop_assert_eq!(plain.peek_all(), kept.peek_all());
        }
        prop_assert_eq!(saved(&plain.ledger), saved(&kept.ledger));
    }
}

/// Of two ledgers, one goes on and one is made anew: they answer the same.
fn check_reborn(case: &Case, cuts: [Index; 2]) -> Result<(), TestCaseError> {
    let (mut old, rest) = saved_and_stopped(case, cuts);
    let mut new = Runner::new(&case.rules);
    new.made.clone_from(&old.made);
    new.now = old.now;
    new.go_on_with(old.reborn());
    if !has_calendar(&case.rules) {
        prop_assert_eq!(saved(&old.ledger), saved(&new.ledger));
    }
    old.calls.clear();
    old.tickets.clear();
    for op in rest {
        prop_assert_eq!(nameless(old.apply(op)), nameless(new.apply(op)), "{:?}", op);
        prop_assert_eq!(old.peek_all(), new.peek_all(), "after {:?}", op);
        prop_assert_eq!(
            old.ledger.next_event(),
            new.ledger.next_event(),
            "after {:?}",
            op
        );
        prop_assert_eq!(
            old.ledger.counters(),
            new.ledger.counters(),
            "after {:?}",
            op
        );
    }
    for runner in [&mut old, &mut new] {
        runner.pass_to(runner.now.plus(Span::from_secs(40 * 86_400)));
    }
    prop_assert_eq!(old.peek_all(), new.peek_all());
    prop_assert_eq!(heard(&old), heard(&new));
    Ok(())
}

/// A runner that was saved at one of the cuts and stopped at the other, with nobody in line; what it has not done yet.
fn saved_and_stopped(case: &Case, cuts: [Index; 2]) -> (Runner, &[Op]) {
    let [save, stop] = cuts.map(|cut| cut.index(case.ops.len() + 1));
    let (save, stop) = (save.min(stop), save.max(stop));
    let mut runner = Runner::after(&case.rules, &case.ops[..save]);
    runner.save();
    for op in &case.ops[save..stop] {
        runner.apply(op);
        // Who looks is not recorded and must make no difference.
        runner.peek_all();
    }
    for nth in 0..runner.tickets.len() {
        runner.apply(&Op::Leave(nth));
    }
    catch_up(&mut runner);
    (runner, &case.ops[stop..])
}

/// Lets the records tell what only callers in line and looks have moved: the time, and the number of the last charge.
fn catch_up(runner: &mut Runner) {
    let (_, records) = runner.kept.as_mut().expect("it was saved");
    runner.ledger.drain_journal(records);
    let keys = runner.ledger.resolve(&SUBJECTS[0]);
    let spent = runner.ledger.spend(&keys, &Amounts::ZERO, runner.now);
    assert_eq!(spent, Ok(None), "nothing fits");
    runner.ledger.drain_journal(records);
}

/// An answer without the name of a place in line, which belongs to the process.
fn nameless(answer: Answer) -> Option<Answer> {
    match answer {
        Answer::Entered(Ok(Entry::Waiting(_))) => None,
        known => Some(known),
    }
}

/// The answers to callers in line: whom of those who came, when, and what.
fn heard(runner: &Runner) -> Vec<(Option<usize>, Time, &Decision)> {
    let place = |call: &Call| {
        runner
            .tickets
            .iter()
            .position(|known| *known == call.ticket)
    };
    let calls = runner.calls.iter();
    calls
        .map(|call| (place(call), call.at, &call.decision))
        .collect()
}

fn has_calendar(rules: &[RuleSpec]) -> bool {
    let mut limits = rules.iter().flat_map(|rule| &rule.limits);
    limits.any(|limit| matches!(limit.form, Form::Fixed(_)))
}

/// Many small reservations of one bucket, few of which end. It is full now and then, so that refunds depend on when they were made.
fn crowds() -> impl Strategy<Value = Case> {
    let rule = RuleSpec {
        number: 0,
        per: &[],
        tier: None,
        limits: vec![LimitSpec {
            metric: Metric::TOKENS,
            amount: 700,
            form: Form::Bucket {
                every: 2_000,
                burst: 1_000,
            },
        }],
        mode: Mode::Enforce,
    };
    let reserve = (0..SUBJECTS.len(), 1..=10u64).prop_map(|(who, tokens)| {
        Op::Reserve(Bid {
            who,
            demand: [0, tokens, 0],
            ttl: 1 << 40,
            key: None,
        })
    });
    let settle = (0..100usize, 0..20u64);
    let settle = settle.prop_map(|(nth, tokens)| Op::Settle(nth, Use::Exactly([0, tokens])));
    let op = prop_oneof![5 => reserve, 3 => (0..60u64).prop_map(Op::Pass), 2 => settle];
    let rules = vec![rule];
    vec(op, 150..250).prop_map(move |ops| Case {
        rules: rules.clone(),
        ops,
    })
}

/// A clock that is set back re-opens no window, whether or not anybody looked at it before: looks are not recorded.
#[test]
fn a_window_that_was_only_looked_at_is_not_opened_again() {
    let rule = RuleSpec {
        number: 0,
        per: &[],
        tier: None,
        limits: vec![LimitSpec {
            metric: Metric::TOKENS,
            amount: 10,
            form: Form::Fixed(Calendar::Day),
        }],
        mode: Mode::Enforce,
    };
    let mut runner = Runner::new(&[rule]);
    runner.save();
    let spend = Op::Spend {
        who: 0,
        demand: [0, 7, 0],
    };
    runner.apply(&spend);
    assert_eq!(runner.peek(0)[0].used, 7);
    // Midnight is 500 ns after the start.
    runner.apply(&Op::Pass(10_000));
    assert_eq!(runner.peek(0)[0].used, 0);
    runner.apply(&Op::Wall(-3_600_000_000_000));
    let ledger = runner.reborn();
    assert_eq!(runner.peek(0)[0].used, 0);
    runner.go_on_with(ledger);
    assert_eq!(runner.peek(0)[0].used, 0);
}
