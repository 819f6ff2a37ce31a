//! Tables of prices in the forms of others.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::value::RawValue;

use super::decimal;
use super::rates::{PerMillion, Rates, RatesError};
use super::table::{PriceError, PriceTable};

mod genai_prices;
mod litellm;
mod models_dev;

/// Whose form a table of prices has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PriceSource {
    /// `data.json` of the package genai-prices.
    GenaiPrices,
    /// `api.json` of models.dev.
    ModelsDev,
    /// `model_prices_and_context_window.json` of LiteLLM.
    LiteLlm,
}

/// What came of an import.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Imported {
    /// The prices. A maker's models stand under their own names, those of other hosts behind the host's (`groq/…`).
    pub table: PriceTable,
    /// Models without a price for each token of text: free ones, those sold by the hour, the image or the request, and those of
    /// whose answers none is told.
    pub skipped: Vec<String>,
}

impl PriceSource {
    /// Reads `text`, which has this form, as prices of the day `today` (`2026-11-22`).
    ///
    /// # Errors
    /// When it has another form, or a price that cannot be read: a model would else be charged by what is left.
    pub fn import(self, text: &[u8], today: &str) -> Result<Imported, PriceError> {
        let mut drafts = Drafts::new(self, today);
        match self {
            Self::GenaiPrices => genai_prices::read(text, today, &mut drafts),
            Self::ModelsDev => models_dev::read(text, &mut drafts),
            Self::LiteLlm => litellm::read(text, &mut drafts),
        }?;
        Ok(drafts.finish())
    }

    /// Its name, as the command line has it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::GenaiPrices => "genai-prices",
            Self::ModelsDev => "models-dev",
            Self::LiteLlm => "litellm",
        }
    }
}

/// The tables as they are read; of two entries for a name the first one counts.
struct Drafts {
    table: PriceTable,
    skipped: Vec<String>,
}

impl Drafts {
    fn new(source: PriceSource, today: &str) -> Self {
        Self {
            table: PriceTable::new(today, &[source.name()]),
            skipped: Vec::new(),
        }
    }

    /// Notes what `name` costs. A `draft` without a price stands too, so that none is taken from a name like it.
    ///
    /// # Errors
    /// When its prices contradict each other.
    fn add(&mut self, name: &str, draft: &Draft) -> Result<(), PriceError> {
        let well_formed = !name.is_empty() && !name.contains([',', ' ', '#']);
        if !well_formed || self.table.has(name) {
            return Ok(());
        }
        let rates = draft.rates().map_err(|source| PriceError::Rates {
            model: name.to_owned(),
            source,
        })?;
        if rates.is_none() {
            self.skipped.push(name.to_owned());
        }
        self.table.insert(name, rates.map(Arc::new));
        Ok(())
    }

    fn finish(mut self) -> Imported {
        self.skipped.sort();
        Imported {
            table: self.table,
            skipped: self.skipped,
        }
    }
}

/// The rates of a model as far as a source tells them.
#[derive(Clone, Debug, Default)]
struct Draft {
    base: Kinds,
    /// By the length of input above which they hold. What one does not tell is as at the length below it.
    above: BTreeMap<u64, Kinds>,
    /// It is sold by something else too, such as the sound it makes, or by a price that is not told.
    other: bool,
}

#[derive(Clone, Copy, Debug, Default)]
struct Kinds {
    input: Option<u64>,
    cached_input: Option<u64>,
    cache_write: Option<u64>,
    output: Option<u64>,
    reasoning: Option<u64>,
}

impl Draft {
    /// `None` where no price for each token is told, or none but zero.
    fn rates(&self) -> Result<Option<Rates>, RatesError> {
        let Some(base) = self.base.rates() else {
            return Ok(None);
        };
        let free = base.input == 0 && base.output == 0;
        if free || self.other {
            return Ok(None);
        }
        let above = self.above.iter().scan(self.base, |below, (tokens, kinds)| {
            *below = kinds.or(below);
            Some((*tokens, below.rates()?))
        });
        Rates::tiered(base, above.collect()).map(Some)
    }
}

/// A kind of tokens.
#[derive(Clone, Copy, Debug)]
enum Kind {
    Input,
    CachedInput,
    CacheWrite,
    Output,
    Reasoning,
}

/// What a source calls the price of each kind.
struct Fields {
    names: [(&'static str, Kind); 5],
    /// A price times 10^this is micro-dollars for a million tokens.
    places: i32,
}

impl Fields {
    /// The kind of tokens whose price is in this field, if any.
    fn kind(&self, field: &str) -> Option<Kind> {
        let mut named = self.names.iter().filter(|(name, _)| *name == field);
        named.next().map(|(_, kind)| *kind)
    }

    /// The price that stands in a field; `None` where it says that there is none.
    ///
    /// # Errors
    /// When what stands there is no price.
    fn price(&self, place: &Place<'_>, raw: &RawValue) -> Result<Option<u64>, PriceError> {
        if raw.get() == "null" {
            return Ok(None);
        }
        let price = decimal::scaled(raw.get().trim_matches('"'), self.places);
        price.map(Some).ok_or_else(|| place.unreadable(raw))
    }
}

/// Where a price stands.
#[derive(Clone, Copy, Debug)]
struct Place<'a> {
    model: &'a str,
    field: &'a str,
}

impl Place<'_> {
    fn unreadable(&self, raw: &RawValue) -> PriceError {
        PriceError::Unreadable {
            model: self.model.to_owned(),
            field: self.field.to_owned(),
            found: raw.get().chars().take(40).collect(),
        }
    }
}

fn form(error: serde_json::Error) -> PriceError {
    PriceError::Json(error.to_string())
}

impl Kinds {
    fn set(&mut self, kind: Kind, price: Option<u64>) {
        let slot = match kind {
            Kind::Input => &mut self.input,
            Kind::CachedInput => &mut self.cached_input,
            Kind::CacheWrite => &mut self.cache_write,
            Kind::Output => &mut self.output,
            Kind::Reasoning => &mut self.reasoning,
        };
        *slot = price;
    }

    /// Output without a price is that of models that write none; should they, it is charged as input.
    fn rates(&self) -> Option<PerMillion> {
        let input = self.input?;
        let plain = PerMillion::new(input, self.output.unwrap_or(input));
        Some(PerMillion {
            cached_input: self.cached_input.unwrap_or(plain.cached_input),
            cache_write: self.cache_write.unwrap_or(plain.cache_write),
            reasoning: self.reasoning.unwrap_or(plain.reasoning),
            ..plain
        })
    }

    /// What is told here, and the rest as in `other`.
    fn or(&self, other: &Self) -> Self {
        self.merge(other, Option::or)
    }

    /// The dearer of both, kind by kind.
    fn max(&self, other: &Self) -> Self {
        self.merge(other, Option::max)
    }

    fn merge(&self, other: &Self, f: fn(Option<u64>, Option<u64>) -> Option<u64>) -> Self {
        Self {
            input: f(self.input, other.input),
            cached_input: f(self.cached_input, other.cached_input),
            cache_write: f(self.cache_write, other.cache_write),
            output: f(self.output, other.output),
            reasoning: f(self.reasoning, other.reasoning),
        }
    }
}
