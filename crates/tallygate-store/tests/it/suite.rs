//! The conformance suite on the memory store, and on stores that it must find out.
use crate::fronts::{Flaw, Fronts};
use crate::support::{Memory, block_on};
use tallygate_store::conformance::{Outcome, cases, run_all};

#[test]
fn the_memory_store_conforms() {
    let report = block_on(run_all(&Memory));
    assert_eq!(report.failed().next(), None, "\n{report}");
    let private = |name: &str| name.starts_with("handles::");
    assert!(report.skipped().all(private), "\n{report}");
}

/// The suite leans on nothing of the memory store's own: neither on its being ready at once nor on threads.
#[test]
fn a_store_that_is_never_ready_at_once_conforms() {
    let report = block_on(run_all(&Fronts(Flaw::None)));
    assert_eq!(report.failed().next(), None, "\n{report}");
    assert_eq!(report.skipped().next(), None, "\n{report}");
}

/// Every flaw is found by the case that is made for it.
#[test]
fn the_suite_finds_flaws_out() {
    for (flaw, name) in FLAWS {
        let known = cases().into_iter().find(|case| case.name == *name);
        let outcome = block_on(known.unwrap().run(&Fronts(*flaw)));
        let found = matches!(outcome, Outcome::Failed(_));
        assert!(found, "{name} on {flaw:?}: {outcome:?}");
    }
}

const FLAWS: &[(Flaw, &str)] = &[
    (
        Flaw::ChecksThenTakes,
        "atomic::never_over_under_concurrent_callers",
    ),
    (
        Flaw::ChecksThenTakes,
        "atomic::never_over_on_several_limits_at_once",
    ),
    (Flaw::SpendsLimitsInTurn, "atomic::a_denial_changes_nothing"),
    (
        Flaw::SpendsLimitsInTurn,
        "atomic::token_denials_burn_no_requests",
    ),
    (
        Flaw::ChargesEachSettle,
        "once::a_repeated_settle_charges_once",
    ),
    (
        Flaw::ForgetsOveruse,
        "settling::an_overrun_is_debt_until_repaid",
    ),
    (
        Flaw::ForgetsOveruse,
        "settling::an_overrun_counts_from_the_reservation",
    ),
    (
        Flaw::ChargesWhenSettling,
        "settling::a_refund_counts_from_the_reservation",
    ),
    (
        Flaw::ChargesWhenSettling,
        "settling::an_overrun_counts_from_the_reservation",
    ),
    (Flaw::ForgetsKeys, "once::an_idempotency_key_reserves_once"),
    (
        Flaw::ForgetsKeys,
        "once::a_raced_idempotency_key_reserves_once",
    ),
    (Flaw::GuessesIds, "once::a_forged_id_is_unknown"),
    (
        Flaw::NeverExpires,
        "deadlines::expiry_keeps_amounts_and_frees_slots",
    ),
    (Flaw::NeverExpires, "lines::an_expiry_wakes"),
    (
        Flaw::AlwaysSaysAMinute,
        "waits::a_wait_depends_on_the_demand",
    ),
    (Flaw::AlwaysSaysAMinute, "waits::a_bucket_says_exactly_when"),
    (Flaw::RoundsWaitsDown, "waits::a_bucket_says_exactly_when"),
    (Flaw::RoundsWaitsUp, "waits::a_bucket_says_exactly_when"),
    (
        Flaw::SaysNowForNever,
        "waits::what_can_never_fit_says_the_largest_that_can",
    ),
    (Flaw::HasNoLine, "lines::waiters_are_served_in_order"),
    (Flaw::HasNoLine, "lines::a_newcomer_queues_behind"),
    (Flaw::HasNoLine, "lines::a_large_demand_is_not_starved"),
    (
        Flaw::DoesNotWake,
        "lines::waiters_are_served_at_the_exact_instant",
    ),
    (Flaw::DoesNotWake, "lines::many_waiters_all_end"),
    (
        Flaw::KeepsThoseWhoLeft,
        "lines::a_waiter_that_leaves_holds_nothing",
    ),
    (
        Flaw::KeepsThoseWhoLeft,
        "lines::a_waiter_that_leaves_as_it_is_answered_holds_nothing",
    ),
    (
        Flaw::ActsUnpolled,
        "lines::a_future_never_polled_does_nothing",
    ),
    (Flaw::PeeksByTaking, "policies::peeking_changes_nothing"),
    (
        Flaw::StartsAnewOnReload,
        "policies::another_policy_keeps_unchanged_counters",
    ),
    (
        Flaw::StartsAnewOnReload,
        "policies::reservations_outlive_a_policy",
    ),
    (Flaw::JoinsValues, "subjects::hostile_values_are_apart"),
];
