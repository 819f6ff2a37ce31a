//! G9: a ledger made of a save and the records since goes on as if nothing had happened.
use crate::op::{Case, Op};
use crate::runner::{Answer, Call, Runner, saved};
use crate::setup::{Form, RuleSpec, SUBJECTS};
use crate::strategy::{Kind, any_cases, config};
use crate::world::World;
use proptest::prelude::*;
use proptest::sample::Index;
use tallygate_core::{Amounts, Decision, Entry, Span, Time};

proptest! {
    #![proptest_config(config(150))]

    /// The oracle, which knows of no restart, finds every counter, decision and end as it would have been.
    #[test]
    fn a_restart_changes_nothing(case in any_cases(Kind::Restarts)) {
        World::run(&case);
    }

    /// The same of names and exact answers, rules that come and go included: of two ledgers, one goes on and one is made anew.
    #[test]
    fn a_reborn_ledger_answers_the_same(
        case in any_cases(Kind::Everything),
        cuts in any::<[Index; 2]>(),
    ) {
        let (mut old, rest) = saved_and_stopped(&case, cuts);
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
            prop_assert_eq!(old.ledger.next_event(), new.ledger.next_event(), "after {:?}", op);
            prop_assert_eq!(old.ledger.counters(), new.ledger.counters(), "after {:?}", op);
        }
        for runner in [&mut old, &mut new] {
            runner.pass_to(runner.now.plus(Span::from_secs(40 * 86_400)));
        }
        prop_assert_eq!(old.peek_all(), new.peek_all());
        prop_assert_eq!(heard(&old), heard(&new));
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

/// A runner that was saved at one of the cuts and stopped at the other, with nobody in line; what it has not done yet.
fn saved_and_stopped(case: &Case, cuts: [Index; 2]) -> (Runner, &[Op]) {
    let [save, stop] = cuts.map(|cut| cut.index(case.ops.len() + 1));
    let (save, stop) = (save.min(stop), save.max(stop));
    let mut runner = Runner::after(&case.rules, &case.ops[..save]);
    runner.save();
    for op in &case.ops[save..stop] {
        runner.apply(op);
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
