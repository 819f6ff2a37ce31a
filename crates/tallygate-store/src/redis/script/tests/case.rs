//! A case: rules, and what is done under them.
use super::draw::Draw;
use std::fmt;
use tallygate_core::{Amounts, Metric, Rule, Time};

/// Labels of a caller.
pub(super) type Subject = [(&'static str, &'static str); 3];

/// Whoever asks: two of one tenant, two of one tier.
pub(super) const SUBJECTS: [Subject; 3] = [
    [("tenant", "acme"), ("user", "ann"), ("tier", "free")],
    [("tenant", "acme"), ("user", "bob"), ("tier", "pro")],
    [("tenant", "blue"), ("user", "cyd"), ("tier", "free")],
];

/// The metrics that cases speak of.
pub(super) const METRICS: [Metric; 4] = [
    Metric::REQUESTS,
    Metric::TOKENS,
    Metric::COST,
    Metric::CONCURRENCY,
];

/// Rules and what is done under them.
#[derive(Clone)]
pub(super) struct Case {
    pub(super) start: Time,
    pub(super) rules: Vec<Rule>,
    pub(super) ops: Vec<Op>,
}

/// One step.
#[derive(Clone)]
pub(super) enum Op {
    /// So many microseconds pass.
    Pass(u64),
    /// Time passes to an instant, and so many microseconds more or less.
    Until(Instant, i64),
    Reserve(Bid),
    /// The number of a reservation, and what it used.
    Settle(usize, Use),
    Cancel(usize),
    Withdraw(usize),
    Extend(usize, Amounts, Option<u64>),
    /// An extension that is taken back at once.
    Undone(usize, Amounts),
    Look(usize),
    /// The last message is sent once more.
    Resend,
    /// All amounts become so many per cent of what they were first.
    Reload(u64),
    /// Many in one call.
    Batch(Vec<Self>),
}

/// An instant that something was said about.
#[derive(Debug, Clone, Copy)]
pub(super) enum Instant {
    /// When the last denial may be asked again.
    Retry,
    /// The deadline of a reservation.
    Deadline(usize),
    /// When a standing is fresh again.
    Reset(usize),
}

/// What is asked for.
#[derive(Clone)]
pub(super) struct Bid {
    pub(super) who: usize,
    pub(super) demand: Amounts,
    /// In microseconds.
    pub(super) ttl: u64,
    pub(super) key: Option<u64>,
}

/// What was used.
#[derive(Debug, Clone, Copy)]
pub(super) enum Use {
    /// So many thousandths of what is held.
    Share(u64),
    Exactly(Amounts),
    /// What is not zero is stated.
    Stated(Amounts),
    AtLeast(Amounts),
}

impl Case {
    /// Another case.
    pub(super) fn random(draw: &mut Draw, length: usize) -> Self {
        let scale = draw.scale();
        let rules = draw.rules(scale);
        let typical = METRICS.map(|metric| {
            let limits = rules.iter().flat_map(|rule| &rule.limits);
            let amounts = limits
                .filter(|limit| limit.0 == metric)
                .map(|limit| limit.1);
            amounts.min().unwrap_or(1)
        });
        let ops = (0..length).map(|_| draw.op(scale, &typical)).collect();
        Self {
            start: draw.start(),
            rules,
            ops,
        }
    }
}

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "from {} us", self.start.as_nanos() / 1000)?;
        for rule in &self.rules {
            writeln!(
                f,
                "{} when {:?} per {:?} {:?}",
                rule.name, rule.when, rule.per, rule.mode
            )?;
            for (metric, amount, shape) in &rule.limits {
                writeln!(f, "    #{} {amount} {shape:?}", metric.index())?;
            }
        }
        for op in &self.ops {
            writeln!(f, "{op:?}")?;
        }
        Ok(())
    }
}

impl fmt::Debug for Op {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Pass(micros) => write!(f, "pass {micros}"),
            Self::Until(instant, more) => write!(f, "until {instant:?} {more:+}"),
            Self::Reserve(bid) => {
                let Bid { who, ttl, key, .. } = bid;
                write!(f, "reserve by {who} {} ttl {ttl} ", shown(&bid.demand))?;
                write!(f, "key {key:?}")
            }
            Self::Settle(nth, Use::Share(share)) => write!(f, "settle {nth} at {share}/1000"),
            Self::Settle(nth, Use::Exactly(used)) => write!(f, "settle {nth} {}", shown(used)),
            Self::Settle(nth, Use::Stated(used)) => write!(f, "state {nth} {}", shown(used)),
            Self::Settle(nth, Use::AtLeast(used)) => write!(f, "at least {nth} {}", shown(used)),
            Self::Cancel(nth) => write!(f, "cancel {nth}"),
            Self::Withdraw(nth) => write!(f, "withdraw {nth}"),
            Self::Extend(nth, more, ttl) => write!(f, "extend {nth} {} ttl {ttl:?}", shown(more)),
            Self::Undone(nth, more) => write!(f, "extend and retract {nth} {}", shown(more)),
            Self::Look(nth) => write!(f, "look {nth}"),
            Self::Resend => write!(f, "resend"),
            Self::Reload(percent) => write!(f, "reload {percent}%"),
            Self::Batch(ops) => write!(f, "batch {ops:?}"),
        }
    }
}

fn shown(amounts: &Amounts) -> String {
    let pairs: Vec<String> = amounts
        .iter()
        .map(|(metric, amount)| format!("#{}={amount}", metric.index()))
        .collect();
    format!("[{}]", pairs.join(" "))
}
