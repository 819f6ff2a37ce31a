//! What a call costs, as an amount beside its tokens.

use std::sync::Arc;

use tallygate_core::{Amounts, Metric};
use tallygate_tokens::{Cost, Rates, Usage};

use super::Caller;
use crate::config::{Config, Priced};
use crate::wire::ApiError;

/// What a model's tokens cost, where that is known.
#[derive(Debug, Clone, Default)]
pub(crate) struct Price(Option<Arc<Rates>>);

impl Price {
    /// The price of a model.
    pub(crate) fn of(rates: Option<&Arc<Rates>>) -> Self {
        Self(rates.cloned())
    }

    /// The price of what models count as: of the entry under `models`, where there is one of this name.
    pub(crate) fn of_label(config: &Config, label: &str) -> Self {
        let (_, upstream) = config.model_label(label);
        Self::of(config.prices().of(&Priced {
            name: label,
            label,
            upstream: upstream.map(|upstream| upstream.name()),
        }))
    }

    /// Whether it is known.
    pub(crate) fn is_known(&self) -> bool {
        self.0.is_some()
    }

    /// The cost of a usage.
    pub(crate) fn cost(&self, usage: &Usage) -> Option<Cost> {
        self.0.as_ref().map(|rates| rates.of(usage))
    }

    /// The most that so many tokens can cost.
    pub(crate) fn bound(&self, input: u64, output: u64) -> Option<Cost> {
        self.0.as_ref().map(|rates| rates.bound(input, output))
    }

    /// One call of this size, held at the most that it can cost.
    pub(crate) fn held(&self, input: u64, output: u64) -> Amounts {
        with_cost(Amounts::call(input, output), self.bound(input, output))
    }

    /// One call that used this, charged at its cost.
    pub(crate) fn charged(&self, usage: &Usage) -> Amounts {
        let call = Amounts::call(usage.input_tokens, usage.output_tokens);
        with_cost(call, self.cost(usage))
    }

    /// So many output tokens more than are `held`, with what they may cost more.
    pub(crate) fn grown(&self, held: &Amounts, output: u64) -> Amounts {
        let more = Amounts::ZERO.with_tokens(0, output);
        let whole = held.get(Metric::OUTPUT_TOKENS).saturating_add(output);
        let bound = self.bound(held.get(Metric::INPUT_TOKENS), whole);
        let held = Cost::from_micros(held.get(Metric::COST));
        with_cost(more, bound.map(|bound| bound.saturating_sub(held)))
    }
}

/// A cost that is not known counts as none: only where no limit counts money are such calls let through.
fn with_cost(amounts: Amounts, cost: Option<Cost>) -> Amounts {
    amounts.with(Metric::COST, cost.map_or(0, Cost::micros))
}

impl Caller {
    /// The price of a model.
    pub(crate) fn price(&self, model: &Priced<'_>) -> Price {
        Price::of(self.config().prices().of(model))
    }

    /// Makes sure that money is counted of a call only if its `price` is known.
    ///
    /// # Errors
    /// When it is not known and a limit that applies to `subject` counts money.
    pub(crate) fn may_count(
        &self,
        price: &Price,
        (model, subject): (&str, &[(&str, &str)]),
    ) -> Result<(), ApiError> {
        match price.is_known() || !self.config().counts_cost(subject) {
            true => Ok(()),
            false => Err(ApiError::Unpriced(model.to_owned())),
        }
    }
}
