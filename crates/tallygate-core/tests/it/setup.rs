//! Policies and subjects as plain numbers, from which the engine's rules and the oracle's accounts are both made.
use jiff::tz::TimeZone;
use tallygate_core::{
    Amounts, Calendar, Metric, Metrics, Mode, Policy, Rule, Shape, Span, StoreDown, Time,
};

/// Labels of a caller.
pub(crate) type Subject = [(&'static str, &'static str); 3];

/// Whoever asks: two of one tenant, two of one tier.
pub(crate) const SUBJECTS: [Subject; 3] = [
    [("tenant", "acme"), ("user", "ann"), ("tier", "free")],
    [("tenant", "acme"), ("user", "bob"), ("tier", "pro")],
    [("tenant", "blue"), ("user", "cyd"), ("tier", "free")],
];

/// The metrics that cases speak of.
pub(crate) const METRICS: [Metric; 3] = [Metric::REQUESTS, Metric::TOKENS, Metric::CONCURRENCY];

/// 2023-11-15 00:00 UTC less 500 ns, so that a case soon crosses the edge of a second, a minute, an hour and a day.
pub(crate) const START: Time = Time::from_nanos(1_700_006_400_000_000_000 - 500);

/// How a limit refills.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    Bucket { every: u64, burst: u64 },
    Strict { every: u64, burst: u64 },
    Sliding { every: u64 },
    Fixed(Calendar),
    Gauge,
}

/// One limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct LimitSpec {
    pub(crate) metric: Metric,
    pub(crate) amount: u64,
    pub(crate) form: Form,
}

impl LimitSpec {
    /// The most that can be taken at once.
    pub(crate) fn largest(&self) -> u64 {
        match self.form {
            Form::Bucket { burst, .. } | Form::Strict { burst, .. } => burst,
            _ => self.amount,
        }
    }

    fn shape(&self) -> Shape {
        match self.form {
            Form::Bucket { every, burst } => Shape::Bucket {
                every: Span::from_nanos(every),
                burst: Some(burst),
                strict: false,
            },
            Form::Strict { every, burst } => Shape::Bucket {
                every: Span::from_nanos(every),
                burst: Some(burst),
                strict: true,
            },
            Form::Sliding { every } => Shape::Sliding {
                every: Span::from_nanos(every),
            },
            Form::Fixed(window) => Shape::Fixed {
                window,
                timezone: TimeZone::UTC,
            },
            Form::Gauge => Shape::Concurrency,
        }
    }
}

/// One rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RuleSpec {
    /// Makes its name.
    pub(crate) number: usize,
    pub(crate) per: &'static [&'static str],
    /// The tier it is for; none: everybody.
    pub(crate) tier: Option<&'static str>,
    pub(crate) limits: Vec<LimitSpec>,
    pub(crate) mode: Mode,
}

impl RuleSpec {
    pub(crate) fn applies(&self, subject: &Subject) -> bool {
        self.tier.is_none_or(|tier| value(subject, "tier") == tier)
    }

    /// Tells its account for this subject from others.
    pub(crate) fn account(&self, subject: &Subject) -> String {
        let values: Vec<&str> = self.per.iter().map(|label| value(subject, label)).collect();
        format!("{:?}", values)
    }

    fn rule(&self) -> Rule {
        Rule {
            name: format!("rule-{}", self.number),
            when: self
                .tier
                .map(|tier| ("tier".to_owned(), vec![tier.to_owned()]))
                .into_iter()
                .collect(),
            per: self.per.iter().map(|label| (*label).to_owned()).collect(),
            limits: self
                .limits
                .iter()
                .map(|limit| (limit.metric, limit.amount, limit.shape()))
                .collect(),
            mode: self.mode,
            store_down: StoreDown::default(),
        }
    }
}

/// The least that may flow out of a bucket in this time: the engine's time ends in 2554, and no overrun of a case may
/// take so long to refill.
pub(crate) fn least_drain(every: u64) -> u64 {
    every / 200_000_000_000 + 1
}

/// The policy of these rules.
pub(crate) fn policy(rules: &[RuleSpec]) -> Policy {
    let rules = rules.iter().map(RuleSpec::rule).collect();
    Policy::new(rules, Metrics::default()).expect("the case's policy is valid")
}

/// The policy of the rules `after`, made of that of `before`: what follows the first rule that came or went is put in anew.
pub(crate) fn amended(policy: &Policy, before: &[RuleSpec], after: &[RuleSpec]) -> Policy {
    let pairs = before.iter().zip(after);
    let common = pairs
        .take_while(|(before, after)| before.number == after.number)
        .count();
    let gone: Vec<String> = before[common..]
        .iter()
        .map(|rule| rule.rule().name)
        .collect();
    let changed = |(at, rule): &(usize, &RuleSpec)| *at >= common || before[*at] != **rule;
    let put = after.iter().enumerate().filter(changed);
    let put = put.map(|(_, rule)| rule.rule()).collect();
    let amended = policy.amended(put, &gone, Metrics::default());
    amended.expect("the case's policy is valid")
}

/// Amounts of [`METRICS`], in their order.
pub(crate) fn amounts(of: [u64; 3]) -> Amounts {
    let pairs = METRICS.into_iter().zip(of);
    pairs.fold(Amounts::ZERO, |sum, (metric, amount)| {
        sum.with(metric, amount)
    })
}

fn value(subject: &Subject, label: &str) -> &'static str {
    let found = subject.iter().find(|(name, _)| *name == label);
    found.map_or("", |(_, value)| value)
}
