//! Clocks that go wrong.
use crate::strategy::{Kind, any_cases, config};
use crate::world::World;
use proptest::prelude::*;

proptest! {
    #![proptest_config(config(80))]

    /// Times told backwards change nothing; a stepped wall clock re-opens no calendar window.
    #[test]
    fn a_clock_that_goes_wrong_gives_nothing_back(case in any_cases(Kind::Clock)) {
        World::run(&case);
    }
}
