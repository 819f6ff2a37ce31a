//! Which models would serve a call, in the order in which they are tried, and what each costs: what `explain` tells of a ladder.

use serde::Serialize;
use tallygate_tokens::{PerMillion, Rates};

use super::{Config, Forbidden, Priced, Rung};

/// A model that would serve.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Serving {
    /// The name it is called by.
    pub model: String,
    /// When.
    pub step: ServingStep,
    /// What it costs; `None` where that is not known.
    pub price: Option<ServingPrice>,
}

/// When a model serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum ServingStep {
    /// It is the model asked for.
    Asked,
    /// The tier does not have the model asked for.
    Instead,
    /// A quota is used up, or could never hold the call, of the models before it.
    Below,
}

/// Micro-dollars for a million tokens of each kind.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ServingPrice {
    /// What counts unless the input is longer.
    #[serde(flatten)]
    pub base: PerMillion,
    /// What counts where the input has more tokens than this.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub above: Vec<DearerLength>,
}

/// Prices of calls with more input than this.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct DearerLength {
    /// In tokens.
    pub input_tokens: u64,
    /// Micro-dollars for a million tokens.
    #[serde(flatten)]
    pub rates: PerMillion,
}

impl From<&Rates> for ServingPrice {
    fn from(rates: &Rates) -> Self {
        let above = rates.above().iter();
        let above = above.map(|(tokens, rates)| DearerLength {
            input_tokens: *tokens,
            rates: *rates,
        });
        Self {
            base: *rates.base(),
            above: above.collect(),
        }
    }
}

impl Config {
    /// The models that would serve a caller of `tier` who asks for `asked`, the best first; none where the tier has neither it nor
    /// one in its place. Which rungs a call can come down to depends on its dialect: here that is the one of the model asked
    /// for.
    #[must_use]
    pub fn servings(&self, tier: Option<&str>, asked: &str) -> Vec<Serving> {
        let (label, upstream) = self.model_label(asked);
        let dialect = upstream.map(|upstream| upstream.dialect());
        let mut rungs = self.ladder(tier, label);
        rungs.retain(|rung| rung.stands_for(asked, dialect));
        let first = match (self.permits_tier(tier, label), rungs.first()) {
            (Ok(()), _) => Serving {
                model: asked.to_owned(),
                step: ServingStep::Asked,
                price: self.serving_price(&Priced {
                    name: asked,
                    label,
                    upstream: upstream.map(|upstream| upstream.name()),
                }),
            },
            (Err(Forbidden::Model { .. }), Some(best)) => self.rung(best, ServingStep::Instead),
            (Err(_), _) => return Vec::new(),
        };
        let (tried, again) = (first.model.clone(), self.tells_downgraded(tier));
        let below = rungs.iter().map(|rung| match rung.route.model == label {
            true => Serving {
                step: ServingStep::Below,
                ..first.clone()
            },
            false => self.rung(rung, ServingStep::Below),
        });
        let below = below.filter(|serving| again || serving.model != tried);
        std::iter::once(first.clone()).chain(below).collect()
    }

    fn rung(&self, rung: &Rung<'_>, step: ServingStep) -> Serving {
        Serving {
            model: rung.name.to_owned(),
            step,
            price: self.serving_price(&Priced {
                name: rung.name,
                label: rung.route.model,
                upstream: Some(rung.route.upstream.name()),
            }),
        }
    }

    fn serving_price(&self, model: &Priced<'_>) -> Option<ServingPrice> {
        self.prices().of(model).map(|rates| (&**rates).into())
    }
}
