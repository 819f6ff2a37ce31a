//! Rules, demands and subjects of the cases.
use jiff::tz::TimeZone;
use std::time::Duration;
use tallygate_core::{Amounts, Calendar, Metric, Mode, Rule, Shape, StoreDown};

/// Labels and values of a caller.
pub(super) type Subject<'a> = &'a [(&'a str, &'a str)];

pub(super) const ALICE: Subject<'static> = &[("user", "alice")];
pub(super) const BOB: Subject<'static> = &[("user", "bob")];

/// A rule for everybody that counts apart by `per`.
pub(super) fn rule(name: &str, per: &[&str], limits: &[(Metric, u64, Shape)]) -> Rule {
    Rule {
        name: name.to_owned(),
        when: Vec::new(),
        per: per.iter().map(|label| (*label).to_owned()).collect(),
        limits: limits.to_vec(),
        mode: Mode::Enforce,
        store_down: StoreDown::Closed,
    }
}

/// The one rule of most cases: tokens, by user.
pub(super) fn tokens_by_user(amount: u64, shape: Shape) -> Vec<Rule> {
    vec![rule("quota", &["user"], &[(Metric::TOKENS, amount, shape)])]
}

pub(super) fn bucket(every: Duration) -> Shape {
    Shape::Bucket {
        every: every.into(),
        burst: None,
        strict: false,
    }
}

pub(super) fn bucket_of(every: Duration, burst: u64) -> Shape {
    Shape::Bucket {
        every: every.into(),
        burst: Some(burst),
        strict: false,
    }
}

pub(super) fn strict_bucket(every: Duration, burst: u64) -> Shape {
    Shape::Bucket {
        every: every.into(),
        burst: Some(burst),
        strict: true,
    }
}

pub(super) fn sliding(every: Duration) -> Shape {
    Shape::Sliding {
        every: every.into(),
    }
}

pub(super) fn fixed(window: Calendar) -> Shape {
    Shape::Fixed {
        window,
        timezone: TimeZone::UTC,
    }
}

/// A window so long that a case never sees its end.
pub(super) fn long() -> Shape {
    fixed(Calendar::Month)
}

pub(super) fn tokens(amount: u64) -> Amounts {
    Amounts::ZERO.with(Metric::TOKENS, amount)
}

/// One request of this many tokens.
pub(super) fn request(amount: u64) -> Amounts {
    tokens(amount).with(Metric::REQUESTS, 1)
}

/// One call in flight of this many tokens.
pub(super) fn flight(amount: u64) -> Amounts {
    tokens(amount).with(Metric::CONCURRENCY, 1)
}
