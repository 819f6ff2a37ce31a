//! What the random cases come to: a property over cases in which nothing happens shows nothing.
use crate::strategy::{Kind, any_cases, config};
use crate::world::{Seen, World};
use proptest::strategy::{Strategy, ValueTree};
use proptest::test_runner::{RngAlgorithm, TestRng, TestRunner};

/// What so many cases of a kind came to.
fn seen(kind: Kind, cases: usize) -> Seen {
    let rng = TestRng::deterministic_rng(RngAlgorithm::default());
    let mut runner = TestRunner::new_with_rng(config(1), rng);
    let mut sum = Seen::default();
    for _ in 0..cases {
        let case = any_cases(kind).new_tree(&mut runner).expect("a case");
        sum.add(&World::run(&case.current()).seen);
    }
    sum
}

#[test]
fn cases_come_to_every_outcome() {
    for kind in [Kind::Sound, Kind::Overrun, Kind::Crowded, Kind::Repeats] {
        let seen = seen(kind, 15);
        assert!(seen.admitted > 60, "{kind:?}: {seen:?}");
        assert!(seen.denied > 20 && seen.never > 5, "{kind:?}: {seen:?}");
        assert!(
            seen.overruns > 5 || kind == Kind::Sound,
            "{kind:?}: {seen:?}"
        );
    }
    for kind in [Kind::Waiting, Kind::Changing] {
        let seen = seen(kind, 20);
        assert!(seen.served > 15 && seen.gave_up > 2, "{kind:?}: {seen:?}");
    }
}
