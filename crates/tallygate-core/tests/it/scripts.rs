//! Behaviours, each a script named after it.
use crate::script::{check, folder};

macro_rules! scripts {
    ($($name:ident)*) => {
        $(
            #[test]
            fn $name() {
                check(stringify!($name));
            }
        )*

        /// A script that no test runs shows nothing.
        #[test]
        fn every_script_is_run() {
            let run = [$(stringify!($name)),*];
            let entries = std::fs::read_dir(folder()).expect("the folder is there");
            for entry in entries {
                let name = entry.expect("it can be read").file_name();
                let name = name.to_string_lossy().replace(".txt", "");
                assert!(run.contains(&name.as_str()), "no test runs {name}.txt");
            }
        }
    };
}

scripts! {
    a_bucket_of_10000_is_refilled_by_100_a_second
    a_changed_amount_keeps_what_was_used
    a_denial_changes_nothing
    a_doubled_wait_learns_of_the_first
    a_key_admitted_elsewhere_is_heard_of_in_line
    a_large_request_is_not_overtaken
    a_late_refund_to_a_full_bucket_gives_nothing
    a_lease_of_no_time_ends_at_once
    a_limit_lowered_under_a_need_says_never
    a_minute_and_a_day_at_once
    a_plain_spend_keeps_no_slot
    a_quota_of_500
    a_repeated_key_gets_the_first_reservation
    a_rule_that_comes_again_begins_anew
    a_rule_that_goes_lets_its_callers_in
    a_shadow_limit_counts_and_admits
    a_sliding_limit_holds_in_every_span
    a_stepped_wall_clock_reopens_no_window
    a_strict_bucket_holds_in_every_span
    a_wait_without_hope_is_refused_at_once
    a_window_opened_by_a_step_is_no_ones_lost_turn
    amounts_are_kept_at_the_deadline_and_slots_freed
    an_extension_is_part_of_its_reservation
    an_hour_that_a_clock_change_splits_ends
    an_idle_counter_of_an_open_reservation_is_kept
    another_users_limit_holds_nobody_up
    callers_of_a_rule_that_goes_go_by_arrival
    idling_gives_no_more_than_the_burst
    only_what_is_blocked_is_named
    outstanding_reservations_are_seen
    over_reservation_is_given_back
    patience_ends_after_a_turn_of_the_same_instant
    requests_and_tokens_each_block
    retry_is_the_real_wait
    settling_twice_charges_once
    the_largest_that_could_is_named
    token_denials_burn_no_requests
    two_windows_of_one_metric_count_apart
    use_above_the_balance_is_debt
    use_above_the_hold_belongs_to_its_window
    what_is_not_stated_is_kept
    what_nobody_was_told_of_is_withdrawn
    who_is_sent_away_is_told_what_blocks_then
    who_stands_behind_one_held_up_elsewhere_is_served
    who_waits_in_vain_is_told
    windows_are_counted_after_2038
    windows_of_the_calendar_turn_at_midnight
    windows_of_the_zone
}
