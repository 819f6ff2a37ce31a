use super::*;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::test_runner::RngAlgorithm;

/// Every charge ever made, with the amount now known to be right; a unit drains each instant.
#[derive(Default)]
struct Log(Vec<(i128, i128)>);

impl Log {
    /// The instant at which the bucket is full again.
    fn level(&self, now: i128) -> i128 {
        let mut level = 0;
        for (at, amount) in &self.0 {
            level = level.max(*at) + amount;
        }
        level.max(now)
    }
}

#[derive(Debug, Clone)]
enum Op {
    Pass(i128),
    Reserve(i128),
    Spend(i128),
    /// Which of those open, and what it used in truth.
    Settle(usize, i128),
}

fn ops() -> impl Strategy<Value = Op> {
    prop_oneof![
        4 => (0..30i128).prop_map(Op::Pass),
        5 => (0..40i128).prop_map(Op::Reserve),
        1 => (0..20i128).prop_map(Op::Spend),
        4 => (0..100usize, 0..60i128).prop_map(|(nth, used)| Op::Settle(nth, used)),
    ]
}

/// A history beside the log, and the level as a counter keeps it.
#[derive(Default)]
struct Pair {
    history: History,
    log: Log,
    level: i128,
    now: i128,
    seq: u64,
    /// Number, place in the log and amount of those open.
    open: Vec<(u64, usize, i128)>,
}

impl Pair {
    fn apply(&mut self, op: &Op) {
        match op {
            Op::Pass(length) => self.now += length,
            Op::Reserve(amount) => {
                self.seq += 1;
                let level = self
                    .history
                    .reserve(self.seq, *amount, self.now, self.level);
                self.open.push((self.seq, self.log.0.len(), *amount));
                self.log.0.push((self.now, *amount));
                self.level = level;
            }
            Op::Spend(amount) => {
                let beside = self.history.spend(*amount, self.now);
                self.level = beside.unwrap_or(self.level.max(self.now) + amount);
                self.log.0.push((self.now, *amount));
            }
            Op::Settle(nth, used) => {
                let Some(at) = nth.checked_rem(self.open.len()) else {
                    return;
                };
                let (seq, place, held) = self.open.remove(at);
                let level = self.history.settle(seq, used - held, self.now);
                self.level = level.expect("it is open");
                self.log.0[place].1 = *used;
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, rng_algorithm: RngAlgorithm::XorShift, ..ProptestConfig::default() })]

    /// However many are open, and in whatever order they end, the level is that of the log with the truth in it.
    #[test]
    fn the_level_is_that_of_the_whole_log(ops in vec(ops(), 0..300)) {
        let mut pair = Pair::default();
        let mut most = 0;
        for op in ops {
            pair.apply(&op);
            prop_assert_eq!(pair.level.max(pair.now), pair.log.level(pair.now));
            if pair.open.is_empty() {
                prop_assert_eq!(pair.history.epochs.len(), 0, "nothing is kept at rest");
            }
            most = most.max(pair.open.len());
            prop_assert!(pair.history.epochs.len() <= 4 * (most + 1), "bounded by what was open");
        }
    }
}
