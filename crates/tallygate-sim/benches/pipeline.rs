//! Reserve and settle through the public API, labels in: `cargo xtask bench pipeline [--json]`.
#![expect(
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a bench, not an API"
)]
mod lap;

use lap::{Contestant, Figure, Numbers, race};
use std::hint::black_box;
use std::time::Duration;
use tallygate_core::{
    Amounts, Decision, Metric, Metrics, Mode, Policy, Rule, Shape, Span, StoreDown,
};
use tallygate_store::{MemoryOptions, MemoryStore, Reserve, SettledBy, Settlement, WaitsFor};

/// Pairs a round.
const OPS: usize = 200_000;

fn main() {
    let mut figures = pairs("1 user", 1, 0);
    figures.extend(pairs("10k users", 10_000, 0));
    figures.extend(pairs("10k users, 1000 rules", 10_000, 998));
    lap::print(&figures);
}

/// Three limits: requests and tokens of the upstream, tokens of the user; `others` are rules for other models and tiers.
fn pairs(name: &str, users: u64, others: usize) -> Vec<Figure> {
    let store = MemoryStore::new(&policy(others), MemoryOptions::default());
    let mut numbers = Numbers(users);
    let order: Vec<String> = (0..OPS)
        .map(|_| format!("user-{}", numbers.below(users)))
        .collect();
    race(
        &format!("reserve + settle, 3 limits, {name}"),
        vec![Contestant {
            name: "tallygate",
            ops: OPS as u64,
            run: Box::new(|| {
                for user in &order {
                    pair(&store, user);
                }
            }),
        }],
    )
}

fn pair(store: &MemoryStore, user: &str) {
    let subject = [
        ("tenant", "acme"),
        ("user", user),
        ("tier", "free"),
        ("upstream", "openai"),
        ("model", "gpt-4o"),
    ];
    let ask = Reserve {
        subject: &subject,
        demand: Amounts::call(1_200, 800),
        ttl: Duration::from_secs(600),
        max_wait: Duration::ZERO,
        idempotency_key: None,
        waits_for: WaitsFor::Anything,
        settled_by: SettledBy::AnyNode,
    };
    let Ok(Decision::Admit(admission)) = store.try_reserve(&ask) else {
        panic!("the limits are wide enough");
    };
    let used = Settlement::Exact(Amounts::call(1_180, 213));
    black_box(store.settle_now(admission.id, used).unwrap());
}

fn policy(others: usize) -> Policy {
    let bucket = || Shape::Bucket {
        every: Span::from_secs(60),
        burst: None,
        strict: false,
    };
    let rule = |name: &str, when: (&str, &str), per: &[&str], limits| Rule {
        name: name.to_owned(),
        when: vec![(when.0.to_owned(), vec![when.1.to_owned()])],
        per: per.iter().map(|label| (*label).to_owned()).collect(),
        limits,
        mode: Mode::Enforce,
        store_down: StoreDown::Closed,
    };
    let upstream = vec![
        (Metric::REQUESTS, 10_000_000_000, bucket()),
        (Metric::TOKENS, 20_000_000_000_000, bucket()),
    ];
    let user = vec![(Metric::TOKENS, 5_000_000_000_000, bucket())];
    let mut rules = vec![
        rule(
            "openai-gpt-4o",
            ("model", "gpt-4o"),
            &["upstream", "model"],
            upstream,
        ),
        rule("free-day", ("tier", "free"), &["user"], user.clone()),
    ];
    rules.extend((0..others).map(|at| {
        let label = if at % 2 == 0 { "model" } else { "tier" };
        let name = format!("{label}-{at}");
        rule(&name, (label, &name), &["user"], user.clone())
    }));
    Policy::new(rules, Metrics::default()).unwrap()
}
