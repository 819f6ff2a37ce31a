//! What is counted, and how much of it.
use std::sync::Arc;

/// The largest amount of anything: 2^53, so that every amount survives a trip through JSON.
pub const MAX_AMOUNT: u64 = 1 << 53;

/// How many metrics there can be: six built in and four of the user's own.
pub const METRICS: usize = 10;

/// What a limit counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Metric(u8);

impl Metric {
    /// Calls.
    pub const REQUESTS: Self = Self(0);
    /// Tokens of the prompt, cached ones included.
    pub const INPUT_TOKENS: Self = Self(1);
    /// Tokens of the answer, reasoning included.
    pub const OUTPUT_TOKENS: Self = Self(2);
    /// Input and output tokens together.
    pub const TOKENS: Self = Self(3);
    /// Money, in micro-dollars.
    pub const COST: Self = Self(4);
    /// Calls in flight; freed when the reservation ends, whatever was used.
    pub const CONCURRENCY: Self = Self(5);

    /// The metric's position in [`Amounts`].
    #[inline]
    #[must_use]
    pub fn index(self) -> usize {
        usize::from(self.0)
    }

    /// An amount of it as people read it: money in dollars, `$2000.00`; anything else as a number.
    #[must_use]
    pub fn show(self, amount: u64) -> String {
        match self {
            Self::COST => dollars(amount),
            _ => amount.to_string(),
        }
    }

    /// All positions, built in and user-defined.
    pub fn all() -> impl Iterator<Item = Self> {
        (0u8..).take(METRICS).map(Self)
    }
}

/// Micro-dollars as dollars, without needless zeros beyond cents.
fn dollars(micros: u64) -> String {
    let whole = micros.checked_div(1_000_000).unwrap_or(0);
    let rest = micros.checked_rem(1_000_000).unwrap_or(0);
    let rest = format!("{rest:06}");
    let (cents, finer) = rest.split_at(2);
    format!("${whole}.{cents}{}", finer.trim_end_matches('0'))
}

/// The names of the metrics: the built-in ones and the user's.
#[derive(Debug, Clone)]
pub struct Metrics(Vec<Arc<str>>);

/// The names of the built-in metrics, by position.
const BUILT_IN: [&str; 6] = [
    "requests",
    "input_tokens",
    "output_tokens",
    "tokens",
    "cost",
    "concurrency",
];

impl Default for Metrics {
    fn default() -> Self {
        Self(BUILT_IN.iter().map(|name| Arc::from(*name)).collect())
    }
}

impl Metrics {
    /// The built-in metrics and the user's own, in this order.
    ///
    /// # Errors
    /// When a name is taken or there are more than [`METRICS`].
    pub fn with_custom<S: AsRef<str>>(
        names: impl IntoIterator<Item = S>,
    ) -> Result<Self, MetricError> {
        let mut metrics = Self::default();
        for name in names {
            metrics.add(name.as_ref())?;
        }
        Ok(metrics)
    }

    /// How many are built in.
    pub(crate) const BUILT_IN: usize = BUILT_IN.len();

    /// The metric of this name.
    #[must_use]
    pub fn find(&self, name: &str) -> Option<Metric> {
        let position = self.0.iter().position(|known| &**known == name)?;
        Metric::all().nth(position)
    }

    /// The name of a metric.
    #[must_use]
    pub fn name(&self, metric: Metric) -> Arc<str> {
        let unnamed = || Arc::from("unnamed");
        self.0.get(metric.index()).cloned().unwrap_or_else(unnamed)
    }

    /// All metrics with their names.
    pub fn iter(&self) -> impl Iterator<Item = (Metric, &str)> {
        Metric::all().zip(self.0.iter().map(|name| &**name))
    }

    /// A metric of `earlier` that has another place among these, or none.
    pub(crate) fn moved_from<'a>(&self, earlier: &'a Self) -> Option<&'a str> {
        let mut earlier = earlier.iter();
        let moved = earlier.find(|(metric, name)| self.find(name) != Some(*metric));
        moved.map(|(_, name)| name)
    }

    /// What becomes of amounts by these names once `next` are in force; nothing if the names are the same.
    pub(crate) fn renaming(&self, next: &Self) -> Option<Renaming> {
        if self.0 == next.0 {
            return None;
        }
        let mut kept = [None; METRICS];
        for (place, (_, name)) in kept.iter_mut().zip(self.iter()) {
            *place = next.find(name);
        }
        Some(Renaming(kept))
    }

    fn add(&mut self, name: &str) -> Result<(), MetricError> {
        if self.find(name).is_some() {
            return Err(MetricError::Taken(name.to_owned()));
        }
        if self.0.len() >= METRICS {
            return Err(MetricError::TooMany(name.to_owned()));
        }
        self.0.push(Arc::from(name));
        Ok(())
    }
}

/// Where the metrics of earlier names stand now; none: they are gone.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Renaming([Option<Metric>; METRICS]);

impl Renaming {
    /// Puts each amount where its metric stands now. Of a metric that is gone nothing is left, and of one that had no name before
    /// there is nothing yet.
    pub(crate) fn apply(&self, amounts: &mut Amounts) {
        let before = std::mem::take(amounts);
        for (metric, now) in Metric::all().zip(self.0) {
            if let Some(now) = now {
                amounts.set(now, before.get(metric));
            }
        }
    }
}

/// Why a user-defined metric was not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum MetricError {
    /// The name is a built-in metric's or was given twice.
    #[error("the metric `{0}` exists already")]
    Taken(String),
    /// There is room for four metrics of the user's own.
    #[error("no room for the metric `{0}`: at most 4 user-defined metrics")]
    TooMany(String),
}

/// An amount of each metric: what is asked for (a demand) or what was used (a usage).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Amounts([u64; METRICS]);

impl Amounts {
    /// Nothing of anything.
    pub const ZERO: Self = Self([0; METRICS]);

    /// One call of this many input and output tokens: requests 1, concurrency 1, and their sum as `tokens`.
    #[must_use]
    pub fn call(input: u64, output: u64) -> Self {
        Self::ZERO
            .with(Metric::REQUESTS, 1)
            .with(Metric::CONCURRENCY, 1)
            .with_tokens(input, output)
    }

    /// The amount of one metric.
    #[inline]
    #[must_use]
    pub fn get(&self, metric: Metric) -> u64 {
        self.0.get(metric.index()).copied().unwrap_or(0)
    }

    /// Sets the amount of one metric, at most [`MAX_AMOUNT`].
    pub fn set(&mut self, metric: Metric, amount: u64) {
        if let Some(slot) = self.0.get_mut(metric.index()) {
            *slot = amount.min(MAX_AMOUNT);
        }
    }

    /// These amounts with one changed.
    #[must_use]
    pub fn with(mut self, metric: Metric, amount: u64) -> Self {
        self.set(metric, amount);
        self
    }

    /// These amounts with input, output and their sum replaced.
    #[must_use]
    pub fn with_tokens(self, input: u64, output: u64) -> Self {
        self.with(Metric::INPUT_TOKENS, input)
            .with(Metric::OUTPUT_TOKENS, output)
            .with(Metric::TOKENS, input.saturating_add(output))
    }

    /// Applies `f` to each pair of amounts.
    #[must_use]
    pub fn zip(&self, other: &Self, f: impl Fn(u64, u64) -> u64) -> Self {
        let mut out = Self::ZERO;
        for metric in Metric::all() {
            out.set(metric, f(self.get(metric), other.get(metric)));
        }
        out
    }

    /// The metrics with an amount above zero.
    pub fn iter(&self) -> impl Iterator<Item = (Metric, u64)> + '_ {
        Metric::all()
            .map(|metric| (metric, self.get(metric)))
            .filter(|(_, amount)| *amount > 0)
    }
}

/// Amounts of some metrics; the others are not spoken of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Stated([Option<u64>; METRICS]);

impl Stated {
    /// Input and output tokens and their sum.
    #[must_use]
    pub fn tokens(input: u64, output: u64) -> Self {
        let mut stated = Self::default();
        stated.set(Metric::INPUT_TOKENS, input);
        stated.set(Metric::OUTPUT_TOKENS, output);
        stated.set(Metric::TOKENS, input.saturating_add(output));
        stated
    }

    /// States the amount of one metric, at most [`MAX_AMOUNT`].
    pub fn set(&mut self, metric: Metric, amount: u64) {
        if let Some(slot) = self.0.get_mut(metric.index()) {
            *slot = Some(amount.min(MAX_AMOUNT));
        }
    }

    /// What is stated of one metric.
    #[must_use]
    pub fn get(&self, metric: Metric) -> Option<u64> {
        self.0.get(metric.index()).copied().flatten()
    }

    /// These amounts, with those of `others` for the metrics that are not spoken of.
    #[must_use]
    pub fn or(&self, others: &Amounts) -> Amounts {
        let mut amounts = *others;
        for metric in Metric::all() {
            if let Some(amount) = self.get(metric) {
                amounts.set(metric, amount);
            }
        }
        amounts
    }
}
