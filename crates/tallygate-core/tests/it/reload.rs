//! A change of the policy.
use crate::strategy::{Kind, any_cases, config};
use crate::world::World;
use proptest::prelude::*;

proptest! {
    #![proptest_config(config(80))]

    /// Amounts change while reservations are open: what was used stays used, what is settled later as well.
    #[test]
    fn changed_amounts_keep_what_was_used(case in any_cases(Kind::Reload)) {
        World::run(&case);
    }
}
