//! G7: callers in line are served in order, hold nothing, and wait no longer than they must.
use crate::strategy::{Kind, Scale, any_cases, cases, config};
use crate::world::World;
use proptest::prelude::*;

proptest! {
    #![proptest_config(config(80))]

    /// No lost wake-ups, no overtaking, nobody held up by another's own limit, patience to the instant.
    #[test]
    fn served_in_order_and_at_once(case in any_cases(Kind::Waiting)) {
        World::run(&case);
    }

    /// The same in lines that cross, where a caller may keep its place in one while it stands in another.
    #[test]
    fn served_where_lines_cross(case in cases(&Scale::small(), Kind::Crossing)) {
        World::run(&case);
    }

    /// The same while limits are raised and lowered and the wall clock is stepped.
    #[test]
    fn changes_are_heard_in_line(case in any_cases(Kind::Changing)) {
        World::run(&case);
    }
}
