//! Limits that are `open` or `share`: processes and servers out of reach for long, and what is decided meanwhile.
use super::scene::{Habit, Scene, Words};
use super::{all_hold, logs_of};

const fn scene(words: Words, habit: Habit) -> Scene {
    Scene { habit, words }
}

// Nobody dies and no share ends, so that nothing is charged but what was used, all of it once.

#[test]
fn what_was_spent_of_shares_alone_is_charged_once() {
    let came = all_hold(1001..1003, scene(Words::Share, Habit::Away));
    assert_eq!(came.overshoot.most, 0);
    assert!(came.is_enough(came.alone, 30), "{came:?}");
    assert!(came.is_enough(came.kept, 10), "{came:?}");
}

#[test]
fn what_an_open_limit_lets_pass_is_counted_by_nobody_and_all_else_once() {
    let came = all_hold(1100..1102, scene(Words::Open, Habit::Away));
    assert_eq!(came.overshoot.most, 0);
    assert!(came.is_enough(came.uncounted, 100), "{came:?}");
    assert!(came.is_enough(came.kept, 10), "{came:?}");
}

#[test]
fn who_is_open_beside_who_shares_lets_pass_what_that_has() {
    let came = all_hold(1200..1202, scene(Words::Mixed, Habit::Away));
    assert_eq!(came.overshoot.most, 0);
    assert!(came.is_enough(came.alone, 30), "{came:?}");
    assert_eq!(came.uncounted, 0);
}

// Longer than shares live, with deaths and clocks that run apart.

#[test]
fn shares_alone_exceed_no_limit_however_long_the_store_is_away() {
    let came = all_hold(1301..1303, scene(Words::Share, Habit::Rough));
    assert_eq!(came.overshoot.most, 0);
    assert!(came.is_enough(came.alone, 30), "{came:?}");
}

#[test]
fn open_limits_hold_again_for_whoever_has_found_the_store() {
    let came = all_hold(1400..1402, scene(Words::Open, Habit::Rough));
    assert_eq!(came.overshoot.most, 0);
    assert!(came.is_enough(came.uncounted, 100), "{came:?}");
}

#[test]
fn replicas_that_take_over_lose_shares_by_no_more_than_they_had_not_heard() {
    for words in [Words::Share, Words::Open] {
        let came = all_hold(1500..1502, scene(words, Habit::Failover));
        let worst = came.overshoot;
        eprintln!("{} too much of {} that were lost", worst.most, worst.lost);
        assert!(worst.most <= worst.lost);
    }
}

#[test]
fn a_seed_of_an_outage_gives_the_same_log() {
    for words in [Words::Share, Words::Open] {
        let [first, second] = logs_of(6, scene(words, Habit::Away));
        assert!(first.len() > 200, "{} lines", first.len());
        assert_eq!(first, second);
    }
}
