//! What the random cases come to: a property over cases in which nothing happens shows nothing.
use crate::strategy::{Kind, any_cases, config};
use crate::world::{Seen, World};
use proptest::strategy::{Strategy, ValueTree};
use proptest::test_runner::{TestRng, TestRunner};

#[test]
fn cases_come_to_every_outcome() {
    let (rng, settings) = (TestRng::deterministic_rng(Default::default()), config(1));
    let mut runner = TestRunner::new_with_rng(settings, rng);
    for kind in [
        Kind::Sound,
        Kind::Overrun,
        Kind::Crowded,
        Kind::Waiting,
        Kind::Repeats,
    ] {
        let mut sum = Seen::default();
        for _ in 0..40 {
            let case = any_cases(kind)
                .new_tree(&mut runner)
                .expect("a case")
                .current();
            sum.add(&World::run(&case).seen);
        }
        eprintln!("{kind:?}: {sum:?}");
    }
}
