//! Any bytes as a case, so that a fuzzer and a corpus can drive the same comparison.
use crate::op::{Bid, Case, Op, Use};
use crate::setup::{Form, LimitSpec, METRICS, RuleSpec, SUBJECTS};
use crate::world::World;
use tallygate_core::{Calendar, Metric, Mode};

/// Runs the case that `bytes` stand for against the oracle.
pub(crate) fn run(bytes: &[u8]) -> World {
    World::run(&case(bytes))
}

/// The case that `bytes` stand for; every text of bytes stands for one.
fn case(bytes: &[u8]) -> Case {
    let mut bytes = Bytes(bytes);
    let rules = (0..1 + bytes.below(3))
        .map(|number| bytes.rule(number))
        .collect();
    let mut ops = Vec::new();
    while !bytes.0.is_empty() && ops.len() < 200 {
        ops.push(bytes.op());
    }
    Case { rules, ops }
}

/// What is left of the bytes; zeros after them.
struct Bytes<'a>(&'a [u8]);

impl Bytes<'_> {
    fn byte(&mut self) -> u8 {
        match self.0.split_first() {
            Some((first, rest)) => {
                self.0 = rest;
                *first
            }
            None => 0,
        }
    }

    fn below(&mut self, bound: usize) -> usize {
        usize::from(self.byte()) % bound
    }

    fn amount(&mut self, most: u64) -> u64 {
        u64::from(self.byte()) % (most + 1)
    }

    fn rule(&mut self, number: usize) -> RuleSpec {
        let per: [&'static [&'static str]; 4] = [&[], &["tenant"], &["user"], &["tenant", "user"]];
        let which = 1 + self.below(7);
        let metrics = METRICS.into_iter().enumerate();
        let chosen = metrics.filter(|(bit, _)| which >> bit & 1 == 1);
        RuleSpec {
            number,
            per: per[self.below(4)],
            tier: (self.below(5) == 4).then_some("free"),
            mode: match self.below(7) {
                6 => Mode::Shadow,
                _ => Mode::Enforce,
            },
            limits: chosen.map(|(_, metric)| self.limit(metric)).collect(),
        }
    }

    fn limit(&mut self, metric: Metric) -> LimitSpec {
        let amount = 2 + self.amount(40);
        let every = 1 + self.amount(200);
        let form = match self.below(5) {
            _ if metric == Metric::CONCURRENCY => Form::Gauge,
            0 | 1 => Form::Bucket {
                every,
                burst: 1 + self.amount(40),
            },
            2 => Form::Strict {
                every,
                burst: 1 + self.amount(amount - 2),
            },
            3 => Form::Sliding { every },
            _ => Form::Fixed(Calendar::ALL[self.below(6)]),
        };
        LimitSpec {
            metric,
            amount,
            form,
        }
    }

    fn demand(&mut self) -> [u64; 3] {
        [self.amount(2), self.amount(15), self.amount(1)]
    }

    fn bid(&mut self) -> Bid {
        Bid {
            who: self.below(SUBJECTS.len()),
            demand: self.demand(),
            ttl: 1 + self.amount(250),
            key: match self.byte() {
                key @ 0..=3 => Some(key),
                _ => None,
            },
        }
    }

    fn op(&mut self) -> Op {
        match self.below(16) {
            0..=2 => Op::Pass(self.amount(40)),
            3..=5 => Op::Reserve(self.bid()),
            6..=8 => Op::Wait {
                bid: self.bid(),
                patience: self.amount(250),
            },
            9 => Op::Settle(self.below(8), Use::Share(self.amount(250) * 4)),
            10 => Op::Settle(
                self.below(8),
                Use::Exactly([self.amount(2), self.amount(30)]),
            ),
            11 => Op::Settle(
                self.below(8),
                Use::AtLeast([self.amount(2), self.amount(30)]),
            ),
            12 => Op::Cancel(self.below(8)),
            13 => Op::Extend {
                hold: self.below(8),
                more: self.demand(),
                ttl: match self.amount(250) {
                    0..=100 => None,
                    ttl => Some(ttl),
                },
            },
            14 => Op::Spend {
                who: self.below(SUBJECTS.len()),
                demand: self.demand(),
            },
            _ => match self.below(4) {
                0 => Op::Leave(self.below(8)),
                1 => Op::Reload(100 * (1 + self.amount(30))),
                2 => Op::Forge(self.amount(255)),
                _ => Op::Sweep,
            },
        }
    }
}
