//! The prices of one model.

use serde::Serialize;

use super::cost::Cost;
use crate::usage::Usage;

/// The dearest rate there is, in micro-dollars for a million tokens: 2^53, which is over 9,000 dollars for one token.
pub const MAX_RATE: u64 = 1 << 53;

/// Prices of the kinds of tokens, each in micro-dollars for a million of them: 2.50 dollars are `2_500_000`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct PerMillion {
    /// Input that is neither read from a cache nor written to one.
    pub input: u64,
    /// Input read from the provider's cache.
    pub cached_input: u64,
    /// Input written to the provider's cache.
    pub cache_write: u64,
    /// Output that is no reasoning.
    pub output: u64,
    /// Output spent on reasoning.
    pub reasoning: u64,
}

impl PerMillion {
    /// Input and output at these prices: cached input as input, reasoning as output.
    #[must_use]
    pub const fn new(input: u64, output: u64) -> Self {
        Self {
            input,
            cached_input: input,
            cache_write: input,
            output,
            reasoning: output,
        }
    }

    fn all(&self) -> [u64; 5] {
        [
            self.input,
            self.cached_input,
            self.cache_write,
            self.output,
            self.reasoning,
        ]
    }

    /// What `usage` costs, in millionths of a micro-dollar.
    ///
    /// Parts that are more than the whole they belong to are cut to it: written before cached.
    fn exactly(&self, usage: &Usage) -> u128 {
        let written = usage.cache_write_tokens.min(usage.input_tokens);
        let cached = usage.cached_input_tokens.min(usage.input_tokens - written);
        let fresh = usage.input_tokens - written - cached;
        let reasoning = usage.reasoning_tokens.min(usage.output_tokens);
        let written_text = usage.output_tokens - reasoning;
        let charge = |tokens: u64, rate: u64| u128::from(tokens) * u128::from(rate);
        charge(fresh, self.input)
            + charge(cached, self.cached_input)
            + charge(written, self.cache_write)
            + charge(written_text, self.output)
            + charge(reasoning, self.reasoning)
    }

    /// The most that so many tokens may cost, of whatever kinds they are.
    fn at_most(&self, input: u64, output: u64) -> u128 {
        let dearest_input = self.input.max(self.cached_input).max(self.cache_write);
        let dearest_output = self.output.max(self.reasoning);
        u128::from(input) * u128::from(dearest_input)
            + u128::from(output) * u128::from(dearest_output)
    }
}

/// What a model's tokens cost, by the length of the input where that matters.
///
/// ```
/// use tallygate_tokens::{Cost, PerMillion, Rates, Usage};
///
/// let rates = Rates::flat(PerMillion { cached_input: 1_250_000, ..PerMillion::new(2_500_000, 10_000_000) })?;
/// let usage = Usage { input_tokens: 1_000, cached_input_tokens: 400, output_tokens: 100, ..Usage::default() };
/// assert_eq!(rates.of(&usage), Cost::from_micros(600 * 5 / 2 + 400 * 5 / 4 + 100 * 10));
/// assert_eq!(rates.bound(1_000, 100), Cost::from_micros(3_500));
/// # Ok::<(), tallygate_tokens::RatesError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rates {
    base: PerMillion,
    /// Rates for inputs of more tokens than this, the thresholds rising.
    above: Box<[(u64, PerMillion)]>,
}

impl Rates {
    /// One price for every length.
    ///
    /// # Errors
    /// When a rate is above [`MAX_RATE`].
    pub fn flat(base: PerMillion) -> Result<Self, RatesError> {
        Self::tiered(base, Vec::new())
    }

    /// `base`, and other rates for inputs of more than so many tokens. All tokens of a call are charged by the rates of
    /// the highest threshold that its input exceeds, as providers do.
    ///
    /// # Errors
    /// When the thresholds do not rise, or a rate is above [`MAX_RATE`].
    pub fn tiered(base: PerMillion, above: Vec<(u64, PerMillion)>) -> Result<Self, RatesError> {
        for pair in above.windows(2) {
            if let [(before, _), (after, _)] = pair
                && after <= before
            {
                return Err(RatesError::NotRising {
                    before: *before,
                    after: *after,
                });
            }
        }
        let sets = std::iter::once(&base).chain(above.iter().map(|(_, rates)| rates));
        if let Some(rate) = sets.flat_map(PerMillion::all).find(|rate| *rate > MAX_RATE) {
            return Err(RatesError::TooDear(rate));
        }
        Ok(Self {
            base,
            above: above.into_boxed_slice(),
        })
    }

    /// What inputs below every threshold are charged by.
    #[must_use]
    pub fn base(&self) -> &PerMillion {
        &self.base
    }

    /// Rates for inputs of more tokens than these, the thresholds rising.
    #[must_use]
    pub fn above(&self) -> &[(u64, PerMillion)] {
        &self.above
    }

    /// The cost of what was used: exact to its last token, then rounded up once to a whole micro-dollar.
    #[must_use]
    pub fn of(&self, usage: &Usage) -> Cost {
        round_up(self.at(usage.input_tokens).exactly(usage))
    }

    /// The most that a call of at most so much input and output can cost: no discount for caches, input written to a
    /// cache and output spent on reasoning where those are dearer, and the dearest length of input up to this one.
    #[must_use]
    pub fn bound(&self, input: u64, output: u64) -> Cost {
        let reached = self.above.iter().filter(|(tokens, _)| *tokens < input);
        let dearest = reached
            .map(|(_, rates)| rates.at_most(input, output))
            .fold(self.base.at_most(input, output), u128::max);
        round_up(dearest)
    }

    fn at(&self, input: u64) -> &PerMillion {
        let reached = self.above.iter().rev().find(|(tokens, _)| *tokens < input);
        reached.map_or(&self.base, |(_, rates)| rates)
    }
}

/// Millionths of a micro-dollar as whole ones.
fn round_up(exact: u128) -> Cost {
    let micros = exact.div_ceil(1_000_000);
    Cost::from_micros(u64::try_from(micros).unwrap_or(u64::MAX))
}

/// Why prices are none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RatesError {
    /// Thresholds in no order would leave it open which one counts.
    #[error("the rates above {after} tokens come after those above {before}")]
    NotRising {
        /// The threshold before.
        before: u64,
        /// The one after it.
        after: u64,
    },
    /// A rate above [`MAX_RATE`].
    #[error("{0} micro-dollars for a million tokens are more than 2^53")]
    TooDear(u64),
}
