use super::*;
use crate::num;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::test_runner::RngAlgorithm;

/// Every charge: when, and how much as is now known.
type Log = Vec<(u64, u64)>;

fn lately(log: &Log, now: u64, length: u64) -> u64 {
    let counted = log.iter().filter(|(at, _)| at + length > now);
    counted.map(|(_, amount)| amount).sum()
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, rng_algorithm: RngAlgorithm::XorShift, ..ProptestConfig::default() })]

    /// At least what came within the window, at most what came within a 32nd more; known to fall exactly when it does.
    #[test]
    fn within_a_cell_of_the_log(
        every in 1..3_000u64,
        steps in vec((0..200u64, 0..20u64, proptest::option::of((0..30usize, 0..40u64))), 1..120),
    ) {
        let window = Span::from_nanos(every);
        let cell = (every / CELLS).max(1);
        let (mut ring, mut log, mut now) = (Ring::default(), Log::new(), 1_000_000u64);
        for (pace, amount, change) in steps {
            now += pace * every / 400;
            ring.charge(amount, window, Time::from_nanos(now));
            log.push((now, amount));
            if let Some((place, new)) = change
                && let Some((at, old)) = log.iter_mut().rev().nth(place)
            {
                ring.adjust(Time::from_nanos(*at), *old, new);
                *old = new;
            }
            let used = ring.used(window, Time::from_nanos(now));
            prop_assert!(lately(&log, now, every) <= used);
            prop_assert!(used <= lately(&log, now, every + cell - 1));
            let cells = num::length(ring.0.len());
            prop_assert!(cells <= 2 * CELLS + 2, "{} cells", cells);
            check_fall(&ring, window, Time::from_nanos(now));
        }
    }
}

/// What counts falls to each level at the instant that is told, not before.
fn check_fall(ring: &Ring, every: Span, now: Time) {
    let used = ring.used(every, now);
    for keep in [0, used / 3, used.saturating_sub(1), used] {
        let at = ring.falls_to(keep, every, now);
        assert!(ring.used(every, at) <= keep);
        if at > now {
            let before = Time::from_nanos(at.as_nanos() - 1);
            assert!(ring.used(every, before) > keep, "it had fallen before");
        }
    }
    let empty = ring.empty_at(every).max(now);
    assert_eq!(ring.used(every, empty), 0);
}

#[test]
fn a_burst_comes_back_exactly_one_window_later() {
    let (mut ring, every) = (Ring::default(), Span::from_secs(60));
    ring.charge(100, every, Time::from_secs(1_000));
    let last = Time::from_nanos(1_060_000_000_000 - 1);
    assert_eq!(ring.used(every, last), 100);
    assert_eq!(ring.used(every, Time::from_secs(1_060)), 0);
}
