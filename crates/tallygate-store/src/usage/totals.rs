//! Sums over records.

use super::record::Used;

/// Sums over records: calls, tokens and micro-dollars. Every sum saturates.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Totals {
    /// Records.
    pub calls: u64,
    /// Those that a limit let through.
    pub admitted: u64,
    /// Those that a limit denied, for now or for good.
    pub denied: u64,
    /// Those served by another model than the one asked for.
    pub downgraded: u64,
    /// What was used.
    pub used: Used,
    /// What it cost, where there is a price.
    pub cost: u64,
    /// Calls that used tokens and have no price, and those of which nobody could say what they used: what they cost is in no sum.
    pub unpriced: u64,
    /// What governance saved.
    pub savings: Savings,
    /// Time waited in line, in milliseconds.
    pub waited_ms: u64,
    /// From sending to the answers' ends, in milliseconds.
    pub latency_ms: u64,
}

/// What governance saved, each by its formula over the records.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Savings {
    /// Tokens that denied calls asked for: Σ held of those denied for now. What can never fit is not among them: nobody could
    /// have had it.
    pub refused_tokens: u64,
    /// What they would have been charged for at most: Σ held cost of the same.
    pub refused_cost: u64,
    /// What downgrading saved: Σ (cost on the model asked for − cost) of those served by another. Below zero where the
    /// other was dearer.
    pub downgraded_cost: i64,
    /// Tokens held and given back: Σ max(held − used, 0) of those let through.
    pub refunded_tokens: u64,
    /// The same of costs: Σ max(held cost − cost, 0).
    pub refunded_cost: u64,
    /// Tokens used beyond what was held, which is no saving: Σ max(used − held, 0).
    pub overrun_tokens: u64,
}

impl Totals {
    /// Adds others to these.
    pub fn add(&mut self, other: &Self) {
        let (used, more) = (&mut self.used, &other.used);
        let (savings, saved) = (&mut self.savings, &other.savings);
        for (sum, one) in [
            (&mut self.calls, other.calls),
            (&mut self.admitted, other.admitted),
            (&mut self.denied, other.denied),
            (&mut self.downgraded, other.downgraded),
            (&mut used.input, more.input),
            (&mut used.cached_input, more.cached_input),
            (&mut used.cache_write, more.cache_write),
            (&mut used.output, more.output),
            (&mut used.reasoning, more.reasoning),
            (&mut self.cost, other.cost),
            (&mut self.unpriced, other.unpriced),
            (&mut savings.refused_tokens, saved.refused_tokens),
            (&mut savings.refused_cost, saved.refused_cost),
            (&mut savings.refunded_tokens, saved.refunded_tokens),
            (&mut savings.refunded_cost, saved.refunded_cost),
            (&mut savings.overrun_tokens, saved.overrun_tokens),
            (&mut self.waited_ms, other.waited_ms),
            (&mut self.latency_ms, other.latency_ms),
        ] {
            *sum = sum.saturating_add(one);
        }
        savings.downgraded_cost = savings
            .downgraded_cost
            .saturating_add(saved.downgraded_cost);
    }
}
