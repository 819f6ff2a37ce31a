use super::*;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::test_runner::RngAlgorithm;

#[derive(Debug, Clone)]
enum Op {
    Push(i128),
    LowerLast(i128),
    Shift(usize, i128),
    Replace,
    Clear,
}

fn ops() -> impl Strategy<Value = Op> {
    let number = -50..50i128;
    prop_oneof![
        40 => number.clone().prop_map(Op::Push),
        20 => number.clone().prop_map(Op::LowerLast),
        30 => (0..100usize, number).prop_map(|(place, change)| Op::Shift(place, change)),
        1 => Just(Op::Replace),
        1 => Just(Op::Clear),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, rng_algorithm: RngAlgorithm::XorShift, ..ProptestConfig::default() })]

    /// The same as a plain list of numbers.
    #[test]
    fn a_list_with_shifted_tails(ops in vec(ops(), 0..250)) {
        let (mut infima, mut plain) = (Infima::default(), Vec::new());
        for op in ops {
            match op {
                Op::Push(number) => {
                    infima.push(number);
                    plain.push(number);
                }
                Op::LowerLast(number) => {
                    infima.lower_last(number);
                    if let Some(last) = plain.last_mut() {
                        *last = number.min(*last);
                    }
                }
                Op::Shift(place, change) => {
                    infima.shift(place, change);
                    plain.iter_mut().skip(place).for_each(|number| *number += change);
                }
                Op::Replace => infima.replace(plain.clone()),
                Op::Clear => {
                    infima.clear();
                    plain.clear();
                }
            }
            prop_assert_eq!(infima.numbers(), plain.clone());
            prop_assert_eq!(infima.least(), plain.iter().min().copied());
            prop_assert_eq!(infima.len(), plain.len());
        }
    }
}
