//! G1, G2, G3 and G5: counters stand where the oracle says, whatever happens.
use crate::strategy::{Kind, any_cases, config};
use crate::world::World;
use proptest::prelude::*;

proptest! {
    #![proptest_config(config(80))]

    /// Nobody uses more than was held: then the log keeps every promise over every span of time.
    #[test]
    fn nothing_is_admitted_past_a_limit(case in any_cases(Kind::Sound)) {
        let world = World::run(&case);
        world.book.check_promises();
    }

    /// With overruns and extensions each counter still stands where it would had the truth been known.
    #[test]
    fn settled_stands_as_if_known(case in any_cases(Kind::Overrun)) {
        World::run(&case);
    }

    /// The same with many reservations open at once.
    #[test]
    fn crowded_stands_as_if_known(case in any_cases(Kind::Crowded)) {
        World::run(&case);
    }
}
