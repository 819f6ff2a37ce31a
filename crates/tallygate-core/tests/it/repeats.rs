//! G4: what is repeated or raced takes effect once, and the loser learns what stands.
use crate::strategy::{Kind, any_cases, config};
use crate::world::World;
use proptest::prelude::*;

proptest! {
    #![proptest_config(config(80))]

    /// Reserving under a key, settling, cancelling and extending, all again and again, and forged ids.
    #[test]
    fn each_takes_effect_once(case in any_cases(Kind::Repeats)) {
        World::run(&case);
    }
}
