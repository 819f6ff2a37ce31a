//! What is remembered of one call.

use std::sync::Arc;

/// The labels of a subject, by name: tenant, user, key, tier and any other; not those that say what was called.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Labels(Arc<[(String, String)]>);

impl Labels {
    /// These labels, whatever their order.
    #[must_use]
    pub fn new<'a>(labels: impl IntoIterator<Item = (&'a str, &'a str)>) -> Self {
        let own = |(name, value): (&str, &str)| (name.to_owned(), value.to_owned());
        let mut labels: Vec<_> = labels.into_iter().map(own).collect();
        labels.sort();
        Self(labels.into())
    }

    /// Names and values, in the order of the names.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (&**name, &**value))
    }

    /// The value of one label.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&str> {
        self.iter()
            .find_map(|(label, value)| (label == name).then_some(value))
    }
}

impl Default for Labels {
    fn default() -> Self {
        Self::new([])
    }
}

/// What became of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub enum Outcome {
    /// It was let through and used what the record says.
    #[default]
    Settled,
    /// It was let through and given back unused.
    Cancelled,
    /// It was let through and the provider refused it (4xx): a request, and no tokens.
    Refused,
    /// It was let through and the provider did not serve it (no connection, 429, 5xx).
    Failed,
    /// A limit denied it for now.
    Denied,
    /// A limit denied it for good: it can never fit.
    Never,
    /// It was let through and nobody said what it used until its deadline.
    Expired,
}

impl Outcome {
    /// All of them; a place in it is what a block holds.
    pub const ALL: [Self; 7] = [
        Self::Settled,
        Self::Cancelled,
        Self::Refused,
        Self::Failed,
        Self::Denied,
        Self::Never,
        Self::Expired,
    ];

    /// Its word in queries and reports.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Settled => "settled",
            Self::Cancelled => "cancelled",
            Self::Refused => "refused",
            Self::Failed => "failed",
            Self::Denied => "denied",
            Self::Never => "never",
            Self::Expired => "expired",
        }
    }

    /// Whether a limit let it through.
    #[must_use]
    pub const fn is_admitted(self) -> bool {
        !matches!(self, Self::Denied | Self::Never)
    }
}

/// How it is known what a call used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub enum Method {
    /// The provider, or whoever settled, said so.
    #[default]
    Exact,
    /// What passed was counted here.
    Counted,
    /// Nobody could say: what was held is kept as used.
    Kept,
}

impl Method {
    /// All of them; a place in it is what a block holds.
    pub const ALL: [Self; 3] = [Self::Exact, Self::Counted, Self::Kept];

    /// Its word in queries and reports.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Exact => "exact",
            Self::Counted => "counted",
            Self::Kept => "kept",
        }
    }
}

/// What was called and what came of it. Few calls differ in this, so a block holds each kind once.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct Call {
    /// The model that served it, by its configured name; empty where none was named.
    pub model: Arc<str>,
    /// The model asked for; the same unless the call was downgraded.
    pub asked: Arc<str>,
    /// The provider account; empty where none is known.
    pub upstream: Arc<str>,
    /// The limit that blocked it; empty for one that was let through.
    pub limit: Arc<str>,
    /// What became of it.
    pub outcome: Outcome,
    /// How its use is known.
    pub method: Method,
}

/// Tokens by kind. `cached_input` and `cache_write` are parts of `input`, `reasoning` is a part of `output`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Used {
    /// Input tokens, those from a cache included.
    pub input: u64,
    /// Input tokens that came from the provider's cache.
    pub cached_input: u64,
    /// Input tokens that were written to the provider's cache.
    pub cache_write: u64,
    /// Output tokens, reasoning included.
    pub output: u64,
    /// Output tokens spent on reasoning.
    pub reasoning: u64,
}

impl Used {
    /// Input and output.
    #[must_use]
    pub const fn tokens(&self) -> u64 {
        self.input.saturating_add(self.output)
    }
}

/// One call. Amounts are at most 2^53; costs are micro-dollars, `None` where there is no price.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct Record {
    /// When it was let through or denied, in milliseconds since the Unix epoch.
    pub time: u64,
    /// Who called.
    pub labels: Labels,
    /// What was called and what came of it.
    pub call: Call,
    /// What it used.
    pub used: Used,
    /// The tokens that were held for it, or asked for by one that was denied.
    pub held: u64,
    /// What its use costs.
    pub cost: Option<u64>,
    /// What was held of a budget, or asked for by one that was denied.
    pub held_cost: Option<u64>,
    /// What the same use would have cost on the model asked for.
    pub asked_cost: Option<u64>,
    /// How long it waited in line, in milliseconds.
    pub waited_ms: u64,
    /// From sending to the end of the answer, in milliseconds.
    pub latency_ms: u64,
}

/// The numbers of a record, as a block has them in columns.
pub(super) const NUMBERS: usize = 11;

/// Where in [`Record::numbers`] each stands.
pub(super) mod number {
    pub(in super::super) const INPUT: usize = 0;
    pub(in super::super) const CACHED_INPUT: usize = 1;
    pub(in super::super) const CACHE_WRITE: usize = 2;
    pub(in super::super) const OUTPUT: usize = 3;
    pub(in super::super) const REASONING: usize = 4;
    pub(in super::super) const HELD: usize = 5;
    pub(in super::super) const COST: usize = 6;
    pub(in super::super) const HELD_COST: usize = 7;
    pub(in super::super) const ASKED_COST: usize = 8;
    pub(in super::super) const WAITED: usize = 9;
    pub(in super::super) const LATENCY: usize = 10;
}

/// The cost on the model asked for is the cost.
const AS_COST: u64 = 0;
/// It has none.
const NO_COST: u64 = 1;

impl Record {
    pub(super) fn numbers(&self) -> [u64; NUMBERS] {
        let priced = |cost: Option<u64>| cost.map_or(0, |cost| cost.saturating_add(1));
        let asked_cost = match self.asked_cost {
            asked if asked == self.cost => AS_COST,
            None => NO_COST,
            Some(cost) => cost.saturating_add(2),
        };
        let used = &self.used;
        [
            used.input,
            used.cached_input,
            used.cache_write,
            used.output,
            used.reasoning,
            self.held,
            priced(self.cost),
            priced(self.held_cost),
            asked_cost,
            self.waited_ms,
            self.latency_ms,
        ]
    }

    pub(super) fn of((time, labels, call): (u64, Labels, Call), numbers: [u64; NUMBERS]) -> Self {
        let [
            input,
            cached_input,
            cache_write,
            output,
            reasoning,
            held,
            cost,
            held_cost,
            asked_cost,
            waited_ms,
            latency_ms,
        ] = numbers;
        Self {
            time,
            labels,
            call,
            used: Used {
                input,
                cached_input,
                cache_write,
                output,
                reasoning,
            },
            held,
            cost: cost_of(cost),
            held_cost: cost_of(held_cost),
            asked_cost: asked_cost_of(asked_cost, cost),
            waited_ms,
            latency_ms,
        }
    }
}

/// The cost that stands in a column.
pub(super) fn cost_of(number: u64) -> Option<u64> {
    number.checked_sub(1)
}

/// The cost on the model asked for that stands in a column beside that of the cost.
pub(super) fn asked_cost_of(number: u64, cost: u64) -> Option<u64> {
    match number {
        AS_COST => cost_of(cost),
        _ => number.checked_sub(2),
    }
}
