//! Random rules and operations.
use super::case::{Bid, Instant, METRICS, Op, SUBJECTS, Use};
use jiff::tz::TimeZone;
use tallygate_core::{
    Amounts, Calendar, MAX_AMOUNT, Metric, Metrics, Mode, Policy, Rule, Shape, Span, StoreDown,
    Time,
};
use tallygate_sim::Rng;

/// A source of cases.
pub(super) struct Draw {
    pub(super) rng: Rng,
    pub(super) habit: Habit,
    /// Whether amounts that nothing could ever hold are asked for: where all rules deny them.
    huge: bool,
}

/// Which operations come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Habit {
    /// All but changes of the policy.
    Plain,
    /// Several in one call.
    Batches,
    /// Changes of the policy's amounts too.
    Reloads,
}

/// The sizes of a case.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Scale {
    /// Microseconds and single tokens: edges are hit often.
    Small,
    /// Minutes and millions of tokens.
    Real,
}

const SECOND: u64 = 1_000_000;
const HOUR: u64 = 3600 * SECOND;
const ZONES: [&str; 5] = [
    "UTC",
    "Europe/Berlin",
    "America/New_York",
    "Asia/Kolkata",
    "Australia/Lord_Howe",
];
/// Seconds: midnights, ends of months and years, changes of clocks.
const STARTS: [u64; 6] = [
    1_700_006_400,
    1_774_746_000,
    1_798_761_600,
    1_793_498_400,
    1_775_314_800,
    1_772_323_200,
];

impl Draw {
    pub(super) fn new(seed: u64, habit: Habit) -> Self {
        Self {
            rng: Rng::new(seed),
            habit,
            huge: false,
        }
    }

    pub(super) fn one<T: Clone>(&mut self, of: &[T]) -> T {
        of[self.below(of.len() as u64) as usize].clone()
    }

    pub(super) fn below(&mut self, bound: u64) -> u64 {
        self.rng.below(bound)
    }

    /// Once in so many times.
    fn once_in(&mut self, times: u64) -> bool {
        self.below(times) == 0
    }

    pub(super) fn scale(&mut self) -> Scale {
        self.one(&[Scale::Small, Scale::Small, Scale::Real])
    }

    pub(super) fn start(&mut self) -> Time {
        let edge = self.one(&STARTS) * SECOND;
        Time::from_nanos((edge - self.below(2 * SECOND)) * 1000)
    }

    pub(super) fn rules(&mut self, scale: Scale) -> Vec<Rule> {
        let count = 1 + self.below(3);
        let rules: Vec<Rule> = (0..count).map(|number| self.rule(number, scale)).collect();
        self.huge = rules.iter().all(|rule| rule.mode == Mode::Enforce);
        rules
    }

    fn rule(&mut self, number: u64, scale: Scale) -> Rule {
        let per: [&[&str]; 4] = [&[], &["tenant"], &["user"], &["tenant", "user"]];
        let per = self.one(&per);
        let when = match self.once_in(5) {
            true => vec![("tier".to_owned(), vec!["free".to_owned()])],
            false => Vec::new(),
        };
        let mut limits = Vec::new();
        while limits.is_empty() {
            for metric in METRICS {
                if self.once_in(2) {
                    limits.push(self.limit(number, metric, scale));
                }
            }
        }
        Rule {
            name: format!("rule-{number}"),
            when,
            per: per.iter().map(|label| (*label).to_owned()).collect(),
            limits,
            mode: match self.once_in(7) {
                true => Mode::Shadow,
                false => Mode::Enforce,
            },
            store_down: StoreDown::Closed,
        }
    }

    /// A limit that a policy may have.
    fn limit(&mut self, number: u64, metric: Metric, scale: Scale) -> (Metric, u64, Shape) {
        loop {
            let limit = self.any_limit(metric, scale);
            let rule = Rule {
                name: format!("rule-{number}"),
                when: Vec::new(),
                per: Vec::new(),
                limits: vec![limit.clone()],
                mode: Mode::Enforce,
                store_down: StoreDown::Closed,
            };
            if Policy::new(vec![rule], Metrics::default()).is_ok() {
                return limit;
            }
        }
    }

    fn any_limit(&mut self, metric: Metric, scale: Scale) -> (Metric, u64, Shape) {
        let amount = self.amount(metric, scale);
        if metric == Metric::CONCURRENCY {
            return (metric, amount, Shape::Concurrency);
        }
        let every = self.window(scale);
        let other = self.amount(metric, scale);
        let shape = match self.below(10) {
            0..=3 => bucket(every, None, false),
            4 => bucket(every, Some(other), false),
            5 => bucket(every, Some(other.min(amount.max(2) - 1)), true),
            6 | 7 => Shape::Sliding { every },
            _ => Shape::Fixed {
                window: self.one(&Calendar::ALL),
                timezone: TimeZone::get(self.one(&ZONES)).unwrap(),
            },
        };
        (metric, amount, shape)
    }

    fn amount(&mut self, metric: Metric, scale: Scale) -> u64 {
        let few = metric == Metric::REQUESTS || metric == Metric::CONCURRENCY;
        match (scale, few) {
            (Scale::Small, true) => 1 + self.below(8),
            (Scale::Small, false) => 5 + self.below(60),
            (Scale::Real, true) => self.one(&[3, 7, 60, 500]),
            (Scale::Real, false) => {
                self.one(&[1000, 10_007, 100_000, 999_983, 2_000_000, 40_000_000_000])
            }
        }
    }

    fn window(&mut self, scale: Scale) -> Span {
        let micros = match scale {
            Scale::Small => 20 + self.below(200),
            // The core carries the longest over to another amount in whole tokens.
            Scale::Real if self.habit == Habit::Reloads => self.one(&[1, 7, 60, 3600]) * SECOND,
            Scale::Real => self.one(&[1, 7, 60, 60, 60, 3600, 86_400, 31_622_400]) * SECOND,
        };
        // Also windows that are no whole number of microseconds.
        let nanos = match self.once_in(4) {
            true => self.below(1000),
            false => 0,
        };
        Span::from_nanos((micros * 1000 + nanos).min(tallygate_core::MAX_WINDOW.as_nanos()))
    }

    pub(super) fn op(&mut self, scale: Scale, typical: &[u64; 4]) -> Op {
        match (self.habit, self.below(100)) {
            (Habit::Reloads, 0..=5) => Op::Reload(self.one(&[33, 50, 90, 110, 200, 700, 100, 100])),
            (Habit::Batches, 0..=29) => {
                let count = 2 + self.below(8);
                Op::Batch((0..count).map(|_| self.message(scale, typical)).collect())
            }
            (_, 0..=24) => Op::Pass(self.step(scale)),
            (_, 25..=34) => {
                let nth = self.nth();
                let instant =
                    self.one(&[Instant::Retry, Instant::Deadline(nth), Instant::Reset(nth)]);
                Op::Until(instant, self.one(&[0, 0, -1, 1, 1000]))
            }
            (_, 35..=37) => Op::Resend,
            _ => self.message(scale, typical),
        }
    }

    fn message(&mut self, scale: Scale, typical: &[u64; 4]) -> Op {
        let nth = self.nth();
        match self.below(31) {
            30 => Op::Undone(nth, self.amounts(typical)),
            0..=13 => Op::Reserve(self.bid(scale, typical)),
            14..=21 => Op::Settle(nth, self.used(typical)),
            22 | 23 => Op::Cancel(nth),
            24 => Op::Withdraw(nth),
            25..=28 => {
                let more = match self.once_in(3) {
                    true => Amounts::ZERO,
                    false => self.demand(typical),
                };
                let ttl = self.once_in(2).then(|| self.life(scale));
                Op::Extend(nth, more, ttl)
            }
            _ => Op::Look(nth),
        }
    }

    fn nth(&mut self) -> usize {
        match self.once_in(7) {
            true => self.below(1000) as usize,
            false => self.below(6) as usize,
        }
    }

    fn bid(&mut self, scale: Scale, typical: &[u64; 4]) -> Bid {
        Bid {
            who: self.below(SUBJECTS.len() as u64) as usize,
            demand: self.demand(typical),
            ttl: self.life(scale),
            key: self.once_in(4).then(|| self.below(4)),
        }
    }

    fn step(&mut self, scale: Scale) -> u64 {
        match (scale, self.below(12)) {
            (_, 0) => 0,
            (Scale::Small, 1..=7) => self.below(8),
            (Scale::Small, 8..=10) => self.below(80),
            (Scale::Small, _) => self.below(2 * SECOND),
            (Scale::Real, 1 | 2) => self.below(1000),
            (Scale::Real, 3..=8) => self.below(SECOND),
            (Scale::Real, 9 | 10) => self.below(60 * SECOND),
            (Scale::Real, _) => self.below(40 * HOUR),
        }
    }

    fn life(&mut self, scale: Scale) -> u64 {
        match (scale, self.below(8)) {
            (_, 0) => self.below(3),
            (Scale::Small, 1..=6) => self.below(300),
            (Scale::Real, 1) => self.below(SECOND),
            _ => self.below(600 * SECOND),
        }
    }

    fn demand(&mut self, typical: &[u64; 4]) -> Amounts {
        let amounts = self.amounts(typical);
        match self.huge && self.once_in(100) {
            true => amounts.with(Metric::TOKENS, MAX_AMOUNT),
            false => amounts,
        }
    }

    fn amounts(&mut self, typical: &[u64; 4]) -> Amounts {
        let mut amounts = Amounts::ZERO;
        for (metric, typical) in METRICS.into_iter().zip(typical) {
            let few = metric == Metric::REQUESTS || metric == Metric::CONCURRENCY;
            let amount = match few {
                true => self.one(&[0, 1, 1, 1, 1, 1, 1, 1, 2, 3]),
                false => self.tokens(*typical),
            };
            amounts.set(metric, amount);
        }
        amounts
    }

    fn tokens(&mut self, typical: u64) -> u64 {
        match self.below(100) {
            0..=4 => 0,
            5..=19 => 1,
            20..=59 => self.below(typical / 4 + 2),
            60..=84 => self.below(typical + 1),
            85..=91 => typical,
            92..=95 => typical + 1,
            _ => self.below(3 * typical),
        }
    }

    fn used(&mut self, typical: &[u64; 4]) -> Use {
        let amounts = self.amounts(typical);
        match self.below(8) {
            0..=2 => Use::Share(self.one(&[0, 1, 300, 500, 999, 1000])),
            3 | 4 => Use::Exactly(amounts),
            5 | 6 => Use::Stated(amounts),
            _ => Use::AtLeast(amounts),
        }
    }
}

fn bucket(every: Span, burst: Option<u64>, strict: bool) -> Shape {
    Shape::Bucket {
        every,
        burst,
        strict,
    }
}
