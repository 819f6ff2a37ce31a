//! Random policies and operations.
use crate::op::{Bid, Case, Op, Use};
use crate::setup::{Form, LimitSpec, METRICS, RuleSpec, SUBJECTS, least_drain};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;
use proptest::test_runner::{Config, RngAlgorithm, RngSeed};
use tallygate_core::{Calendar, Metric, Mode};

/// So many cases, the same in every run: `PROPTEST_CASES` and `PROPTEST_RNG_SEED` ask for others.
pub(crate) fn config(cases: u32) -> Config {
    let asked = Config::default();
    let plain = Config {
        failure_persistence: None,
        ..Config::default()
    };
    Config {
        cases: match asked.cases {
            256 => cases,
            other => other,
        },
        rng_seed: match asked.rng_seed {
            RngSeed::Random => RngSeed::Fixed(2026),
            fixed => fixed,
        },
        // The default one takes a third of the time of the whole suite.
        rng_algorithm: RngAlgorithm::XorShift,
        max_shrink_iters: 20_000,
        ..plain
    }
}

/// The sizes of a case.
#[derive(Debug, Clone)]
pub(crate) struct Scale {
    /// Amounts of limits on tokens.
    limits: BoxedStrategy<u64>,
    /// Amounts of limits on requests and of slots.
    few: BoxedStrategy<u64>,
    /// Lengths of windows.
    windows: BoxedStrategy<u64>,
    /// Tokens asked for.
    demands: BoxedStrategy<u64>,
    /// Time that passes.
    steps: BoxedStrategy<u64>,
    /// Lifetimes and patience.
    lives: BoxedStrategy<u64>,
}

impl Scale {
    /// Nanoseconds and single tokens: edges are hit often.
    pub(crate) fn small() -> Self {
        Self {
            limits: prop_oneof![1 => 1..=10u64, 6 => 10..=50u64].boxed(),
            few: prop_oneof![4 => 2..=8u64, 1 => 1..=30u64].boxed(),
            windows: prop_oneof![1 => 1..=20u64, 4 => 20..=200u64].boxed(),
            demands: prop_oneof![1 => Just(0), 12 => 1..=10u64, 3 => 1..=30u64, 1 => 1..=60u64]
                .boxed(),
            steps: prop_oneof![8 => 0..=6u64, 3 => 0..=60u64, 1 => 0..=500u64].boxed(),
            lives: prop_oneof![1 => 0..=10u64, 6 => 0..=200u64].boxed(),
        }
    }

    /// Minutes and millions of tokens.
    pub(crate) fn real() -> Self {
        const SECOND: u64 = 1_000_000_000;
        let limits = [1000, 10_000, 100_000, 999_983, 2_000_000];
        let windows = [1, 10, 60, 3600, 86_400].map(|seconds| seconds * SECOND);
        Self {
            limits: select(limits.to_vec()).boxed(),
            few: select(vec![3, 7, 60, 1000]).boxed(),
            windows: select(windows.to_vec()).boxed(),
            demands: prop_oneof![
                2 => 1..=100u64,
                4 => 1..=1000u64,
                2 => 1..=100_000u64,
                1 => 1..=3_000_000u64,
            ]
            .boxed(),
            steps: prop_oneof![
                2 => 0..=1000u64,
                6 => 0..=SECOND,
                2 => 0..=60 * SECOND,
                1 => 0..=86_400 * SECOND,
            ]
            .boxed(),
            lives: prop_oneof![1 => 0..=SECOND, 6 => 0..=600 * SECOND].boxed(),
        }
    }
}

/// Which operations come, beside reserve, settle and the passing of time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// All that keeps each reservation within its hold.
    Sound,
    /// Overruns as well.
    Overrun,
    /// Reservations that stay open, many at once.
    Crowded,
    /// Callers in line as well.
    Waiting,
    /// Repeats under idempotency keys and of endings.
    Repeats,
    /// Changes of the policy's amounts.
    Reload,
    /// Steps of the wall clock and times told backwards.
    Clock,
    /// Callers in line while the policy's amounts and the wall clock change.
    Changing,
    /// Callers that wait long in lines that cross, and little else.
    Crossing,
    /// All of it, with saves and restarts in between.
    Restarts,
    /// The same with rules that come and go, and without restarts.
    Everything,
}

/// A policy and operations on it.
pub(crate) fn cases(scale: &Scale, kind: Kind) -> BoxedStrategy<Case> {
    let most = match kind {
        Kind::Crowded | Kind::Crossing => 120,
        _ => 90,
    };
    (rules(scale), vec(ops(scale, kind), 1..most))
        .prop_map(|(rules, ops)| Case { rules, ops })
        .boxed()
}

/// Small cases mostly, real ones as well.
pub(crate) fn any_cases(kind: Kind) -> BoxedStrategy<Case> {
    prop_oneof![
        3 => cases(&Scale::small(), kind),
        1 => cases(&Scale::real(), kind),
    ]
    .boxed()
}

pub(crate) fn rules(scale: &Scale) -> BoxedStrategy<Vec<RuleSpec>> {
    let apart: [&'static [&'static str]; 4] = [&[], &["tenant"], &["user"], &["tenant", "user"]];
    let few = |scale: &Scale| limit(&scale.few, &scale.windows);
    let tokens = limit(&scale.limits, &scale.windows);
    let limits = (few(scale), tokens, few(scale), 1..8usize);
    let rule = (
        select(apart.to_vec()),
        prop_oneof![4 => Just(None), 1 => Just(Some("free"))],
        prop_oneof![6 => Just(Mode::Enforce), 1 => Just(Mode::Shadow)],
        limits,
    );
    let rule = rule.prop_map(|(per, tier, mode, (requests, tokens, gauge, which))| {
        let all = METRICS.into_iter().zip([requests, tokens, gauge]);
        let chosen = all.enumerate().filter(|(bit, _)| which >> bit & 1 == 1);
        RuleSpec {
            number: 0,
            per,
            tier,
            mode,
            limits: chosen
                .map(|(_, (metric, limit))| of(metric, limit))
                .collect(),
        }
    });
    vec(rule, 1..4)
        .prop_map(|mut rules| {
            for (number, rule) in rules.iter_mut().enumerate() {
                rule.number = number;
            }
            rules
        })
        .boxed()
}

fn of(metric: Metric, limit: LimitSpec) -> LimitSpec {
    match metric == Metric::CONCURRENCY {
        true => LimitSpec {
            metric,
            form: Form::Gauge,
            ..limit
        },
        false => LimitSpec { metric, ..limit },
    }
}

fn limit(amounts: &BoxedStrategy<u64>, windows: &BoxedStrategy<u64>) -> BoxedStrategy<LimitSpec> {
    let numbers = (amounts.clone(), amounts.clone(), windows.clone());
    let calendar = select(Calendar::ALL.to_vec());
    (numbers, calendar, 0..10u8)
        .prop_map(|((amount, other, every), calendar, form)| {
            let least = least_drain(every);
            let amount = amount.max(least);
            let form = match form {
                0..=2 => Form::Bucket {
                    every,
                    burst: amount,
                },
                3 => Form::Bucket {
                    every,
                    burst: other,
                },
                4 | 5 => Form::Strict {
                    every,
                    burst: other.min(amount.max(least + 1) - least),
                },
                6 | 7 => Form::Sliding { every },
                _ => Form::Fixed(calendar),
            };
            let strict = matches!(form, Form::Strict { .. });
            LimitSpec {
                metric: Metric::TOKENS,
                amount: if strict {
                    amount.max(least + 1)
                } else {
                    amount
                },
                form,
            }
        })
        .boxed()
}

fn demand(scale: &Scale) -> BoxedStrategy<[u64; 3]> {
    let tokens = scale.demands.clone();
    let requests = prop_oneof![1 => Just(0), 9 => Just(1), 1 => 0..=5u64];
    let slots = prop_oneof![1 => Just(0), 9 => Just(1), 1 => 0..=3u64];
    (requests, tokens, slots)
        .prop_map(|(requests, tokens, slots)| [requests, tokens, slots])
        .boxed()
}

pub(crate) fn bid(scale: &Scale, kind: Kind) -> BoxedStrategy<Bid> {
    let key = match kind {
        Kind::Repeats => prop_oneof![2 => Just(None), 3 => (0..4u8).prop_map(Some)].boxed(),
        Kind::Everything => prop_oneof![3 => Just(None), 1 => (0..4u8).prop_map(Some)].boxed(),
        Kind::Waiting | Kind::Changing | Kind::Restarts => {
            prop_oneof![8 => Just(None), 1 => (0..4u8).prop_map(Some)].boxed()
        }
        _ => Just(None).boxed(),
    };
    let ttl = match kind {
        Kind::Crowded => (1_000..2_000u64).prop_map(|ttl| ttl << 30).boxed(),
        _ => scale.lives.clone().prop_map(|ttl| ttl.max(1)).boxed(),
    };
    (0..SUBJECTS.len(), demand(scale), ttl, key)
        .prop_map(|(who, demand, ttl, key)| Bid {
            who,
            demand,
            ttl,
            key,
        })
        .boxed()
}

fn used(scale: &Scale, kind: Kind) -> BoxedStrategy<Use> {
    let tokens = scale.demands.clone();
    let amounts = (0..=2u64, tokens).prop_map(|(requests, tokens)| [requests, tokens]);
    let within = (0..=1000u64).prop_map(Use::Share);
    let some = |of: BoxedStrategy<u64>| proptest::option::of(of);
    let stated = (some((0..=2u64).boxed()), some(scale.demands.clone()));
    let stated = stated.prop_map(|(requests, tokens)| Use::Stated([requests, tokens]));
    match kind {
        Kind::Sound => within.boxed(),
        _ => prop_oneof![
            2 => within,
            2 => amounts.clone().prop_map(Use::Exactly),
            1 => amounts.prop_map(Use::AtLeast),
            1 => stated,
        ]
        .boxed(),
    }
}

fn ops(scale: &Scale, kind: Kind) -> BoxedStrategy<Op> {
    let nth = prop_oneof![6 => 0..6usize, 1 => 0..1000usize];
    let extend = (
        nth.clone(),
        demand(scale),
        proptest::option::of(scale.lives.clone()),
    );
    let extend = extend.prop_map(|(hold, more, ttl)| Op::Extend { hold, more, ttl });
    let spend = (0..SUBJECTS.len(), demand(scale));
    let common = prop_oneof![
        6 => scale.steps.clone().prop_map(Op::Pass),
        8 => bid(scale, kind).prop_map(Op::Reserve),
        6 => (nth.clone(), used(scale, kind)).prop_map(|(hold, used)| Op::Settle(hold, used)),
        2 => nth.clone().prop_map(Op::Cancel),
        1 => spend.prop_map(|(who, demand)| Op::Spend { who, demand }),
        1 => Just(Op::Sweep),
    ];
    // Extensions are left out where every hold must be known to be enough at its own moment.
    let extended = prop_oneof![10 => common.clone(), 1 => extend.clone()];
    match kind {
        Kind::Sound => common.boxed(),
        Kind::Overrun | Kind::Crowded => extended.boxed(),
        Kind::Waiting | Kind::Changing | Kind::Restarts | Kind::Everything => {
            let wait = (bid(scale, kind), scale.lives.clone());
            let wait = wait.prop_map(|(bid, patience)| Op::Wait { bid, patience });
            let waiting = prop_oneof![10 => extended, 8 => wait, 1 => nth.prop_map(Op::Leave)];
            match kind {
                Kind::Changing => changing(waiting.boxed()),
                Kind::Restarts => {
                    let changing = changing(waiting.boxed());
                    prop_oneof![24 => changing, 2 => Just(Op::Save), 1 => Just(Op::Restart)].boxed()
                }
                Kind::Everything => {
                    let withdraw = (0..6usize).prop_map(Op::Withdraw);
                    let rules = (0..8usize).prop_map(Op::Rules);
                    let changing = changing(waiting.boxed());
                    prop_oneof![24 => changing, 2 => withdraw, 1 => rules].boxed()
                }
                _ => waiting.boxed(),
            }
        }
        Kind::Crossing => {
            let wait = (bid(scale, Kind::Crowded), 500..5_000u64);
            let wait = wait.prop_map(|(bid, patience)| Op::Wait { bid, patience });
            let settle = (nth, used(scale, Kind::Sound));
            let settle = settle.prop_map(|(hold, used)| Op::Settle(hold, used));
            let pass = scale.steps.clone().prop_map(Op::Pass);
            prop_oneof![6 => wait, 4 => pass, 1 => settle].boxed()
        }
        Kind::Repeats => {
            let forge = any::<u64>().prop_map(Op::Forge);
            let withdraw = nth.prop_map(Op::Withdraw);
            prop_oneof![10 => extended, 1 => forge, 1 => withdraw].boxed()
        }
        Kind::Reload => prop_oneof![12 => extended, 1 => reloads()].boxed(),
        Kind::Clock => {
            let back = scale.steps.clone().prop_map(Op::Back);
            let leap = scale.steps.clone().prop_map(Op::Leap);
            prop_oneof![10 => extended, 1 => steps(), 1 => back, 1 => leap].boxed()
        }
    }
}

fn changing(ops: BoxedStrategy<Op>) -> BoxedStrategy<Op> {
    prop_oneof![16 => ops, 1 => reloads(), 1 => steps()].boxed()
}

fn reloads() -> impl Strategy<Value = Op> + use<> {
    select(vec![100, 500, 900, 1000, 1500, 4000]).prop_map(Op::Reload)
}

fn steps() -> impl Strategy<Value = Op> + use<> {
    let lead = -200_000_000_000_000..200_000_000_000_000i64;
    prop_oneof![Just(0), -1000..1000i64, lead].prop_map(Op::Wall)
}
