//! The limits that the parts are measured on.

use std::time::Duration;

use tallygate_core::{Metric, Metrics, Mode, Policy, Rule, Shape, StoreDown};

use super::Outcome;

/// A bucket that refills in `every`.
pub(super) fn bucket(every: Duration) -> Shape {
    Shape::Bucket {
        every: every.into(),
        burst: None,
        strict: false,
    }
}

/// One rule of these limits, counted apart by these labels.
pub(super) fn policy(per: &[&str], limits: Vec<(Metric, u64, Shape)>) -> Outcome<Policy> {
    let rule = Rule {
        name: "bench".to_owned(),
        when: Vec::new(),
        per: per.iter().map(|label| (*label).to_owned()).collect(),
        limits,
        mode: Mode::Enforce,
        store_down: StoreDown::Closed,
    };
    Ok(Policy::new(vec![rule], Metrics::default())?)
}

/// Requests of [`plenty_a_user`] a minute.
pub(super) const REQUESTS: u64 = 6_000;

/// Tokens of [`plenty_a_user`] a minute.
pub(super) const TOKENS: u64 = 10_000_000;

/// Requests and tokens of each user, more than anybody here uses.
pub(super) fn plenty_a_user() -> Outcome<Policy> {
    let minute = || bucket(Duration::from_secs(60));
    policy(
        &["user"],
        vec![
            (Metric::REQUESTS, REQUESTS, minute()),
            (Metric::TOKENS, TOKENS, minute()),
        ],
    )
}
