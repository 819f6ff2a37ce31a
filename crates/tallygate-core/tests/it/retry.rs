//! G6: a refused demand is admitted at the instant it was told, not before; one that can never fit is told what can.
use crate::op::{Bid, Case, Op};
use crate::runner::{Answer, Runner};
use crate::setup::{METRICS, RuleSpec};
use crate::strategy::{Kind, Scale, any_cases, bid, config};
use proptest::prelude::*;
use proptest::sample::Index;
use tallygate_core::{Decision, Denial, Entry, FullError, Never, Time};

/// A case, a demand that comes after it, and its place among the case's operations.
fn asked() -> impl Strategy<Value = (Case, Bid, Index)> {
    let kinds = prop_oneof![Just(Kind::Overrun), Just(Kind::Crowded), Just(Kind::Sound)];
    let bids = prop_oneof![
        3 => bid(&Scale::small(), Kind::Overrun),
        1 => bid(&Scale::real(), Kind::Overrun),
    ];
    (kinds.prop_flat_map(any_cases), bids, any::<Index>())
}

proptest! {
    #![proptest_config(config(150))]

    /// Replayed with nothing else to come: denied a nanosecond before the instant, admitted at it, and a caller
    /// that waits is served at it.
    #[test]
    fn told_to_the_nanosecond((case, bid, place) in asked()) {
        let ops = &case.ops[..place.index(case.ops.len() + 1)];
        match ask(&mut Runner::after(&case.rules, ops), bid) {
            Decision::Deny(denial) => check_instant(&case.rules, ops, bid, &denial),
            Decision::Never(never) => check_largest(&case.rules, bid, &never),
            Decision::Admit(_) => {}
        }
    }
}

fn check_instant(rules: &[RuleSpec], ops: &[Op], bid: Bid, denial: &Denial) {
    let told = denial.retry_at;
    let mut early = Runner::after(rules, ops);
    assert!(early.now < told, "denied, yet admitted now");
    early.pass_to(Time::from_nanos(told.as_nanos() - 1));
    let before = ask(&mut early, bid);
    let Decision::Deny(again) = before else {
        panic!("admitted before {told:?}: {before:?}");
    };
    assert_eq!(
        again.retry_at, told,
        "the instant has moved though nothing came"
    );

    let mut punctual = Runner::after(rules, ops);
    punctual.pass_to(told);
    let at = ask(&mut punctual, bid);
    assert!(matches!(at, Decision::Admit(_)), "at {told:?}: {at:?}");

    check_wait(Runner::after(rules, ops), bid, told);
}

/// A wait ends at the instant, if patience lasts so long; a nanosecond less is not enough with nothing to be given back.
fn check_wait(mut runner: Runner, bid: Bid, told: Time) {
    let patience = told.as_nanos() - runner.now.as_nanos();
    let answer = runner.apply(&Op::Wait { bid, patience });
    let Answer::Entered(Ok(Entry::Waiting(ticket))) = answer else {
        panic!("a wait until {told:?} is not taken: {answer:?}");
    };
    runner.pass_to(told);
    let call = runner.calls.iter().find(|call| call.ticket == ticket);
    let call = call.expect("the wait has ended");
    assert_eq!(call.at, told);
    assert!(matches!(call.decision, Decision::Admit(_)), "{call:?}");
}

/// What is named as the largest would be admitted, were the counters fresh.
fn check_largest(rules: &[RuleSpec], mut bid: Bid, never: &Never) {
    assert!(!never.largest.is_empty() && !never.blocked_by.is_empty());
    for (metric, largest) in &never.largest {
        let at = METRICS.iter().position(|known| known == metric);
        let asked = &mut bid.demand[at.expect("a metric of the case")];
        assert!(largest < asked, "never, though {asked} <= {largest}");
        *asked = *largest;
    }
    let decision = ask(&mut Runner::new(rules), bid);
    assert!(matches!(decision, Decision::Admit(_)), "{decision:?}");
}

fn ask(runner: &mut Runner, bid: Bid) -> Decision {
    let decision: Result<Decision, FullError> = runner.reserve(bid);
    decision.expect("no bound is reached")
}
