//! The conformance suite on the memory store, and on stores that it must find out.
use crate::fronts::{Flaw, Fronts};
use crate::lasting::Lasting;
use crate::support::{Memory, RealTime, block_on};
use parking_lot::Mutex;
use std::time::Duration;
use tallygate_store::Durability;
use tallygate_store::conformance::{Case, Failure, Outcome, cases, run_all};

#[test]
fn the_memory_store_conforms() {
    let report = block_on(run_all(&Memory));
    assert_eq!(report.failed().next(), None, "\n{report}");
    let private = |name: &str| name.starts_with("handles::");
    assert!(report.skipped().all(private), "\n{report}");
}

/// A folder changes nothing but that its counters outlive a crash.
#[test]
fn a_store_on_a_folder_conforms() {
    for durability in [Durability::Relaxed, Durability::Sync] {
        let report = block_on(run_all(&Lasting(durability)));
        assert_eq!(report.failed().next(), None, "{durability:?}\n{report}");
        let mut skipped = report.skipped();
        assert!(
            skipped.all(|name| name.contains("handle")),
            "{durability:?}\n{report}"
        );
        let passed = |name: &str| !report.skipped().any(|skipped| skipped == name);
        assert!(passed("handles::a_restart_loses_nothing_settled"));
    }
}

/// The suite leans on nothing of the memory store's own: neither on its being ready at once nor on threads.
#[test]
fn a_store_that_is_never_ready_at_once_conforms() {
    let report = block_on(run_all(&Fronts(Flaw::None)));
    assert_eq!(report.failed().next(), None, "\n{report}");
    assert_eq!(report.skipped().next(), None, "\n{report}");
}

/// Every flaw is found by the case that is made for it, and for what is wrong.
#[test]
fn the_suite_finds_flaws_out() {
    for (flaw, name, wrong) in FLAWS {
        let known = cases().into_iter().find(|case| case.name == *name);
        match block_on(known.unwrap().run(&Fronts(*flaw))) {
            Outcome::Failed(failure) => {
                let said = failure.to_string();
                assert!(said.contains(wrong), "{name} says of {flaw:?}: {said}");
            }
            other => panic!("{name} does not find {flaw:?}: {other:?}"),
        }
    }
}

const FLAWS: &[(Flaw, &str, &str)] = &[
    (
        Flaw::ChecksThenTakes,
        "atomic::never_over_under_concurrent_callers",
        "admitted is 1001",
    ),
    (
        Flaw::ChecksThenTakes,
        "atomic::never_over_on_several_limits_at_once",
        "admitted is 287",
    ),
    (
        Flaw::SpendsLimitsInTurn,
        "atomic::a_denial_changes_nothing",
        "a never expected: Deny",
    ),
    (
        Flaw::SpendsLimitsInTurn,
        "atomic::token_denials_burn_no_requests",
        "\"requests\"",
    ),
    (
        Flaw::ChargesEachSettle,
        "once::a_repeated_settle_charges_once",
        "80 of `quota` is taken",
    ),
    (
        Flaw::ForgetsOveruse,
        "settling::an_overrun_is_debt_until_repaid",
        "charged is",
    ),
    (
        Flaw::ForgetsOveruse,
        "settling::an_overrun_counts_from_the_reservation",
        "0 of `quota`",
    ),
    (
        Flaw::ChargesWhenSettling,
        "settling::a_refund_counts_from_the_reservation",
        "15 of `quota`",
    ),
    (
        Flaw::ChargesWhenSettling,
        "settling::an_overrun_counts_from_the_reservation",
        "0 of `quota`",
    ),
    (
        Flaw::ForgetsKeys,
        "once::an_idempotency_key_reserves_once",
        "an admission expected: Deny",
    ),
    (
        Flaw::ForgetsKeys,
        "once::a_raced_idempotency_key_reserves_once",
        "several reservations",
    ),
    (
        Flaw::GuessesIds,
        "once::a_forged_id_is_unknown",
        "a forged id was known",
    ),
    (
        Flaw::NeverExpires,
        "deadlines::expiry_keeps_amounts_and_frees_slots",
        "the wait for the slot",
    ),
    (
        Flaw::NeverExpires,
        "lines::an_expiry_wakes",
        "no answer came",
    ),
    (
        Flaw::AlwaysSaysAMinute,
        "waits::a_wait_depends_on_the_demand",
        "60s, not 1s",
    ),
    (
        Flaw::AlwaysSaysAMinute,
        "waits::a_bucket_says_exactly_when",
        "before",
    ),
    (
        Flaw::RoundsWaitsDown,
        "waits::a_bucket_says_exactly_when",
        "the instant",
    ),
    (
        Flaw::RoundsWaitsUp,
        "waits::a_bucket_says_exactly_when",
        "before",
    ),
    (
        Flaw::SaysNowForNever,
        "waits::what_can_never_fit_says_the_largest_that_can",
        "a never expected",
    ),
    (
        Flaw::HasNoLine,
        "lines::waiters_are_served_in_order",
        "answered too early",
    ),
    (
        Flaw::HasNoLine,
        "lines::a_newcomer_queues_behind",
        "a denial expected: Admit",
    ),
    (
        Flaw::HasNoLine,
        "lines::a_large_demand_is_not_starved",
        "a denial expected: Admit",
    ),
    (
        Flaw::SitsOutQuotas,
        "lines::who_waits_for_rates_only_is_denied_by_a_quota",
        "no answer came",
    ),
    (
        Flaw::SitsOutQuotas,
        "lines::a_quota_that_fills_ends_a_wait_for_rates_only",
        "no answer came",
    ),
    (
        Flaw::DoesNotWake,
        "lines::waiters_are_served_at_the_exact_instant",
        "no answer came",
    ),
    (
        Flaw::DoesNotWake,
        "lines::many_waiters_all_end",
        "no answer came",
    ),
    (
        Flaw::KeepsThoseWhoLeft,
        "lines::a_waiter_that_leaves_holds_nothing",
        "is in line",
    ),
    (
        Flaw::KeepsThoseWhoLeft,
        "lines::a_waiter_that_leaves_as_it_is_answered_holds_nothing",
        "no answer came",
    ),
    (
        Flaw::ActsUnpolled,
        "lines::a_future_never_polled_does_nothing",
        "60 of `quota`",
    ),
    (
        Flaw::PeeksByTaking,
        "policies::peeking_changes_nothing",
        "what stands",
    ),
    (
        Flaw::StartsAnewOnReload,
        "policies::another_policy_keeps_unchanged_counters",
        "0 of `month`",
    ),
    (
        Flaw::StartsAnewOnReload,
        "policies::reservations_outlive_a_policy",
        "Unknown",
    ),
    (
        Flaw::JoinsValues,
        "subjects::hostile_values_are_apart",
        "is counted as another",
    ),
];

/// The suite holds where time is real, too: allowing for the time that passes by itself. A machine that stalls
/// in a case gets it again with longer seconds.
#[test]
fn the_suite_holds_on_a_real_clock() {
    let cases = Mutex::new(cases().into_iter());
    let failures = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..16 {
            scope.spawn(|| {
                while let Some(case) = next(&cases) {
                    if let Some(failure) = at_ever_longer_seconds(case) {
                        failures.lock().push(format!("{}: {failure}", case.name));
                    }
                }
            });
        }
    });
    assert_eq!(failures.into_inner(), Vec::<String>::new());
}

fn next(cases: &Mutex<impl Iterator<Item = Case>>) -> Option<Case> {
    cases.lock().next()
}

fn at_ever_longer_seconds(case: Case) -> Option<Failure> {
    let mut last = None;
    for millis in [40, 160, 640, 2560] {
        let harness = RealTime(Duration::from_millis(millis));
        match block_on(case.run(&harness)) {
            Outcome::Failed(failure) => {
                eprintln!("{} at {millis}ms: {failure}", case.name);
                last = Some(failure);
            }
            _ => return None,
        }
    }
    last
}
