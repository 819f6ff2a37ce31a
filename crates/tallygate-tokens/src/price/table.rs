//! Prices by model.

use std::collections::{HashMap, HashSet};
use std::fmt::Write;
use std::sync::{Arc, LazyLock};

use serde::Deserialize;
use serde_json::value::RawValue;

use super::name::candidates;
use super::rates::{PerMillion, Rates, RatesError};
use super::{decimal, snapshot};

/// What models cost, as of a day.
#[derive(Clone, Debug, Default)]
pub struct PriceTable {
    date: String,
    sources: Vec<String>,
    /// Rates by lower-case name; `None` for a model that is known and not sold by tokens of text alone.
    models: HashMap<String, Option<Arc<Rates>>>,
    /// What stands before the first `/` of a name.
    hosts: HashSet<String>,
}

impl PriceTable {
    /// The prices that come with this version: a snapshot of public ones. Read on the first call, which takes
    /// 7 ms without optimisation; a price is found in less than a microsecond.
    pub fn built_in() -> &'static Self {
        static BUILT_IN: LazyLock<PriceTable> = LazyLock::new(snapshot::built_in);
        &BUILT_IN
    }

    /// A table without models, for prices of this day (`2026-11-22`) from these sources.
    #[must_use]
    pub fn new(date: &str, sources: &[&str]) -> Self {
        Self {
            date: date.to_owned(),
            sources: sources.iter().map(|source| (*source).to_owned()).collect(),
            ..Self::default()
        }
    }

    /// The day these prices were gathered, as `2026-11-22`.
    #[must_use]
    pub fn date(&self) -> &str {
        &self.date
    }

    /// Where they come from.
    #[must_use]
    pub fn sources(&self) -> &[String] {
        &self.sources
    }

    /// How many names have a price.
    #[must_use]
    pub fn len(&self) -> usize {
        self.models.values().flatten().count()
    }

    /// Whether no name has a price.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The rates of `model`: under its own name in whatever case, else without a maker's prefix (`openai/…`, `models/…`), else without the marks of a version at its end (`-2024-08-06`, `-20241022`, `@20250929`,
    /// `-latest`, `-001`, `-v1:0`). Nothing else is guessed: a fine-tuned model and a variant have prices of their own.
    #[must_use]
    pub fn find(&self, model: &str) -> Option<&Arc<Rates>> {
        self.standing(model).flatten()
    }

    /// As [`Self::find`], telling a model that is known to have no price by tokens (`Some(None)`) from an unknown one.
    #[must_use]
    pub fn standing(&self, model: &str) -> Option<Option<&Arc<Rates>>> {
        if self.models.is_empty() {
            return None;
        }
        let found = candidates(model).find_map(|name| self.models.get(&name));
        found.map(Option::as_ref)
    }

    /// As [`Self::standing`], of a model as `host` sells it: under its name behind the host's (`groq/…`).
    #[must_use]
    pub fn standing_at(&self, host: &str, model: &str) -> Option<Option<&Arc<Rates>>> {
        let has_any = self.hosts.contains(host) || self.hosts.contains(&host.to_ascii_lowercase());
        has_any.then(|| self.standing(&format!("{host}/{model}")))?
    }

    /// All names with a price, sorted.
    #[must_use]
    pub fn iter(&self) -> Vec<(&str, &Arc<Rates>)> {
        let entries = self.models.iter();
        let mut all: Vec<_> = entries
            .filter_map(|(name, rates)| Some((name.as_str(), rates.as_ref()?)))
            .collect();
        all.sort_by_key(|(name, _)| *name);
        all
    }

    /// Sets the price of a name; `None` says that it has none.
    pub fn insert(&mut self, name: &str, rates: Option<Arc<Rates>>) {
        let name = name.to_ascii_lowercase();
        if let Some((host, _)) = name.split_once('/')
            && !self.hosts.contains(host)
        {
            self.hosts.insert(host.to_owned());
        }
        self.models.insert(name, rates);
    }

    /// Whether exactly this name is there, priced or not.
    #[must_use]
    pub fn has(&self, name: &str) -> bool {
        self.models.contains_key(&name.to_ascii_lowercase())
    }

    /// Reads a `prices.json`, as [`Self::to_json`] writes it.
    ///
    /// # Errors
    /// When it is no such file, or a price in it is none; the model and the field are named.
    pub fn from_json(text: &[u8]) -> Result<Self, PriceError> {
        let file: PricesFile<'_> =
            serde_json::from_slice(text).map_err(|error| PriceError::Json(error.to_string()))?;
        let mut table = Self {
            date: file.date,
            sources: file.sources,
            ..Self::default()
        };
        for (name, entry) in &file.models {
            table.insert(name, Some(Arc::new(entry.rates(name)?)));
        }
        Ok(table)
    }

    /// These prices as a `prices.json`: dollars for a million tokens, one line a model.
    #[must_use]
    pub fn to_json(&self) -> String {
        let models: Vec<String> = self
            .iter()
            .into_iter()
            .map(|(name, rates)| format!("    {}: {}", quoted(name), json_of(rates)))
            .collect();
        let sources: Vec<String> = self.sources.iter().map(|source| quoted(source)).collect();
        format!(
            "{{\n  \"date\": {},\n  \"sources\": [{}],\n  \"models\": {{\n{}\n  }}\n}}\n",
            quoted(&self.date),
            sources.join(", "),
            models.join(",\n"),
        )
    }

    /// Adds those names of `other` for which nothing is found here.
    pub fn fill_from(&mut self, other: &Self) {
        let missing = other.models.iter();
        let missing = missing.filter(|(name, _)| self.standing(name).is_none());
        let missing: Vec<_> = missing
            .map(|(name, rates)| (name.clone(), rates.clone()))
            .collect();
        for (name, rates) in missing {
            self.insert(&name, rates);
        }
    }

    /// Keeps the names that `keep` says.
    pub fn retain(&mut self, keep: impl Fn(&str) -> bool) {
        self.models.retain(|name, _| keep(name));
    }

    pub(super) fn entries(&self) -> impl Iterator<Item = (&str, Option<&Arc<Rates>>)> {
        let entries = self.models.iter();
        entries.map(|(name, rates)| (name.as_str(), rates.as_ref()))
    }
}

fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

fn json_of(rates: &Rates) -> String {
    let mut json = format!("{{{}", kinds_of(rates.base()));
    for (place, (tokens, rates)) in rates.above().iter().enumerate() {
        let lead = if place == 0 { ", \"above\": [" } else { ", " };
        // Writing into a String cannot fail.
        let _ = write!(
            json,
            "{lead}{{\"input_tokens\": {tokens}, {}}}",
            kinds_of(rates)
        );
    }
    json + if rates.above().is_empty() { "}" } else { "]}" }
}

/// The kinds that do not follow from input and output.
fn kinds_of(rates: &PerMillion) -> String {
    let plain = PerMillion::new(rates.input, rates.output);
    let kinds = [
        ("input", rates.input, None),
        ("cached_input", rates.cached_input, Some(plain.cached_input)),
        ("cache_write", rates.cache_write, Some(plain.cache_write)),
        ("output", rates.output, None),
        ("reasoning", rates.reasoning, Some(plain.reasoning)),
    ];
    let told = kinds
        .into_iter()
        .filter(|(_, rate, usual)| Some(*rate) != *usual);
    let told = told.map(|(kind, rate, _)| format!("\"{kind}\": {}", decimal::short(rate)));
    told.collect::<Vec<_>>().join(", ")
}

/// What a `prices.json` holds.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PricesFile<'a> {
    #[serde(default)]
    date: String,
    #[serde(default)]
    sources: Vec<String>,
    #[serde(borrow)]
    models: HashMap<String, Entry<'a>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry<'a> {
    #[serde(borrow)]
    input: &'a RawValue,
    #[serde(borrow)]
    cached_input: Option<&'a RawValue>,
    #[serde(borrow)]
    cache_write: Option<&'a RawValue>,
    #[serde(borrow)]
    output: &'a RawValue,
    #[serde(borrow)]
    reasoning: Option<&'a RawValue>,
    #[serde(borrow, default)]
    above: Vec<EntryAbove<'a>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct EntryAbove<'a> {
    input_tokens: u64,
    #[serde(borrow)]
    input: &'a RawValue,
    #[serde(borrow)]
    cached_input: Option<&'a RawValue>,
    #[serde(borrow)]
    cache_write: Option<&'a RawValue>,
    #[serde(borrow)]
    output: &'a RawValue,
    #[serde(borrow)]
    reasoning: Option<&'a RawValue>,
}

impl Entry<'_> {
    fn rates(&self, model: &str) -> Result<Rates, PriceError> {
        let base = per_million(
            model,
            [
                Some(self.input),
                self.cached_input,
                self.cache_write,
                Some(self.output),
                self.reasoning,
            ],
        )?;
        let above = self.above.iter().map(|set| {
            let kinds = [
                Some(set.input),
                set.cached_input,
                set.cache_write,
                Some(set.output),
                set.reasoning,
            ];
            Ok((set.input_tokens, per_million(model, kinds)?))
        });
        let above = above.collect::<Result<Vec<_>, PriceError>>()?;
        Rates::tiered(base, above).map_err(|source| PriceError::Rates {
            model: model.to_owned(),
            source,
        })
    }
}

/// The rates that a file tells, in the order of [`KINDS`].
fn per_million(model: &str, told: [Option<&RawValue>; 5]) -> Result<PerMillion, PriceError> {
    let mut rates = [None; 5];
    for ((rate, told), kind) in rates.iter_mut().zip(told).zip(KINDS) {
        *rate = told
            .map(|told| {
                decimal::exact_micros(told.get()).ok_or_else(|| PriceError::Field {
                    model: model.to_owned(),
                    field: kind,
                    found: told.get().chars().take(40).collect(),
                })
            })
            .transpose()?;
    }
    let [input, cached_input, cache_write, output, reasoning] = rates;
    let plain = PerMillion::new(input.unwrap_or_default(), output.unwrap_or_default());
    Ok(PerMillion {
        cached_input: cached_input.unwrap_or(plain.cached_input),
        cache_write: cache_write.unwrap_or(plain.cache_write),
        reasoning: reasoning.unwrap_or(plain.reasoning),
        ..plain
    })
}

const KINDS: [&str; 5] = [
    "input",
    "cached_input",
    "cache_write",
    "output",
    "reasoning",
];

/// Why a text is no table of prices.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PriceError {
    /// Not JSON, or of another form.
    #[error("not a file of prices: {0}")]
    Json(String),
    /// A price that is none.
    #[error(
        "`{field}` of `{model}` is `{found}`, not dollars for a million tokens with up to six decimals, such as 2.5"
    )]
    Field {
        /// The model.
        model: String,
        /// The kind of tokens.
        field: &'static str,
        /// What stands there, cut to 40 characters.
        found: String,
    },
    /// A price of a source's form that is none.
    #[error("`{field}` of `{model}` is `{found}`, which is no price")]
    Unreadable {
        /// The model, as the source names it.
        model: String,
        /// The field, as the source has it.
        field: String,
        /// What stands there, cut to 40 characters.
        found: String,
    },
    /// Prices that contradict each other.
    #[error("the prices of `{model}`: {source}")]
    Rates {
        /// The model.
        model: String,
        /// What is wrong with them.
        source: RatesError,
    },
}
