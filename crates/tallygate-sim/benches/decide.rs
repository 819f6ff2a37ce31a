//! One decision in process, beside governor's: `cargo xtask bench decide [--json] [--memory]`.
//!
//! governor checks its limiters one after another, so a later denial leaves the earlier ones spent; it is the
//! anchor all the same, being the fastest limiter in wide use.
#![expect(
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a bench, not an API"
)]
mod lap;

use governor::clock::DefaultClock;
use governor::state::keyed::DashMapStateStore;
use governor::{Quota, RateLimiter};
use lap::{Contestant, Figure, Numbers, race};
use std::hint::black_box;
use std::num::NonZeroU32;
use std::time::Instant;
use tallygate_core::{
    Amounts, Bounds, Keys, Ledger, Metric, Metrics, Mode, Policy, Rule, Shape, Span, StoreDown,
    Time,
};

/// Decisions a round.
const OPS: usize = 1_000_000;
const START: u64 = 1_800_000_000_000_000_000;

type Keyed = RateLimiter<u64, DashMapStateStore<u64>, DefaultClock>;

fn main() {
    if std::env::args().any(|argument| argument == "--memory") {
        return memory();
    }
    let mut figures = Vec::new();
    for (name, subjects) in [("1k", 1_000), ("1M", 1_000_000)] {
        figures.extend(one_subject(name, subjects));
        figures.extend(four_scopes(name, subjects));
    }
    lap::print(&figures);
}

/// Two limits (requests and tokens) of one subject, keys resolved.
fn one_subject(name: &str, subjects: u64) -> Vec<Figure> {
    let order = order(subjects);
    let mut ledger = ledger(&["user"]);
    let users: Vec<String> = (0..subjects).map(|user| format!("user-{user}")).collect();
    let keys: Vec<Keys> = order
        .iter()
        .map(|user| ledger.resolve(&[("user", &users[*user as usize])]))
        .collect();
    let mut given = self::ledger(&["user"]);
    let given_keys: Vec<Keys> = order
        .iter()
        .map(|user| given.resolve(&[("user", &users[*user as usize])]))
        .collect();
    let (requests, tokens) = (keyed(1_000_000), keyed(1_000_000_000));
    let clock = Instant::now();
    let mut now = START;
    race(
        &format!("decide, 2 limits, {name} subjects"),
        vec![
            Contestant {
                name: "tallygate (time given)",
                ops: OPS as u64,
                run: Box::new(|| {
                    now += 1_000_000;
                    spend_all(&mut given, &given_keys, || Time::from_nanos(now));
                }),
            },
            Contestant {
                name: "tallygate (clock read)",
                ops: OPS as u64,
                run: Box::new(|| {
                    spend_all(&mut ledger, &keys, || {
                        Time::from_nanos(START + clock.elapsed().as_nanos() as u64)
                    });
                }),
            },
            Contestant {
                name: "governor, 2 limiters",
                ops: OPS as u64,
                run: Box::new(|| {
                    for user in &order {
                        black_box(check(&requests, &tokens, *user));
                    }
                }),
            },
        ],
    )
}

/// Requests and tokens of user, tenant, model and everybody.
fn four_scopes(name: &str, subjects: u64) -> Vec<Figure> {
    let order = order(subjects);
    let mut ledger = ledger(&["user", "tenant", "model", ""]);
    let key = |user: u64| {
        let (user, tenant, model) = (
            format!("user-{user}"),
            format!("tenant-{}", user % 100),
            format!("model-{}", user % 10),
        );
        ledger.resolve(&[("user", &user), ("tenant", &tenant), ("model", &model)])
    };
    let keys: Vec<Keys> = order.iter().map(|user| key(*user)).collect();
    let limiters: Vec<(Keyed, Keyed)> = (0..4)
        .map(|_| (keyed(1_000_000_000), keyed(4_000_000_000)))
        .collect();
    let mut now = START;
    race(
        &format!("decide, 4 scopes x 2 limits, {name} users"),
        vec![
            Contestant {
                name: "tallygate (time given)",
                ops: OPS as u64,
                run: Box::new(|| {
                    now += 1_000_000;
                    spend_all(&mut ledger, &keys, || Time::from_nanos(now));
                }),
            },
            Contestant {
                name: "governor, 8 limiters",
                ops: OPS as u64,
                run: Box::new(|| {
                    for user in &order {
                        let scopes = [*user, user % 100, user % 10, 0];
                        for ((requests, tokens), scope) in limiters.iter().zip(scopes) {
                            black_box(check(requests, tokens, scope));
                        }
                    }
                }),
            },
        ],
    )
}

fn spend_all(ledger: &mut Ledger, keys: &[Keys], mut now: impl FnMut() -> Time) {
    let demand = Amounts::ZERO
        .with(Metric::REQUESTS, 1)
        .with(Metric::TOKENS, 10);
    for key in keys {
        let refused = ledger.spend(key, &demand, now()).unwrap();
        debug_assert!(refused.is_none());
        black_box(&refused);
    }
}

fn check(requests: &Keyed, tokens: &Keyed, key: u64) -> bool {
    requests.check_key(&key).is_ok()
        && tokens
            .check_key_n(&key, NonZeroU32::new(10).unwrap())
            .is_ok_and(|fits| fits.is_ok())
}

fn keyed(a_minute: u32) -> Keyed {
    RateLimiter::dashmap(Quota::per_minute(NonZeroU32::new(a_minute).unwrap()))
}

fn ledger(scopes: &[&str]) -> Ledger {
    let bucket = || Shape::Bucket {
        every: Span::from_secs(60),
        burst: None,
        strict: false,
    };
    let rule = |label: &&str| Rule {
        name: format!("per-{label}"),
        when: Vec::new(),
        per: if label.is_empty() {
            Vec::new()
        } else {
            vec![(*label).to_owned()]
        },
        limits: vec![
            (Metric::REQUESTS, 6_000_000_000, bucket()),
            (Metric::TOKENS, 60_000_000_000, bucket()),
        ],
        mode: Mode::Enforce,
        store_down: StoreDown::Closed,
    };
    let policy = Policy::new(scopes.iter().map(rule).collect(), Metrics::default()).unwrap();
    Ledger::new(&policy, Bounds::default(), [7, 11])
}

/// Subjects in an order that a cache cannot foresee.
fn order(subjects: u64) -> Vec<u64> {
    let mut numbers = Numbers(subjects);
    (0..OPS).map(|_| numbers.below(subjects)).collect()
}

/// Resident bytes a subject with two bucket limits, ten million subjects; each contestant in a process of its own.
fn memory() {
    let myself = std::env::current_exe().unwrap();
    match std::env::args()
        .find_map(|argument| argument.strip_prefix("--memory-of=").map(str::to_owned))
    {
        Some(name) => println!("{name}: {:.1} B a subject", bytes_a_subject(&name)),
        None => {
            for name in ["tallygate", "governor"] {
                let mut child = std::process::Command::new(&myself);
                child.args(["--memory", &format!("--memory-of={name}")]);
                assert!(child.status().unwrap().success());
            }
        }
    }
}

fn bytes_a_subject(name: &str) -> f64 {
    const SUBJECTS: u64 = 10_000_000;
    let before = resident();
    let mut ledger = ledger(&["user"]);
    let demand = Amounts::ZERO
        .with(Metric::REQUESTS, 1)
        .with(Metric::TOKENS, 10);
    let (requests, tokens) = (keyed(1_000_000), keyed(1_000_000_000));
    for user in 0..SUBJECTS {
        if name == "governor" {
            black_box(check(&requests, &tokens, user));
        } else {
            let keys = ledger.resolve(&[("user", &format!("user-{user}"))]);
            black_box(
                ledger
                    .spend(&keys, &demand, Time::from_nanos(START))
                    .unwrap(),
            );
        }
    }
    (resident() - before) as f64 / SUBJECTS as f64
}

fn resident() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    statm.split(' ').nth(1).unwrap().parse::<u64>().unwrap() * 4096
}
