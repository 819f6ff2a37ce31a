//! The form of models.dev: providers by id, each with its models by id and their `cost` in dollars for a million tokens.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::value::RawValue;

use super::{Draft, Drafts, Fields, Kind, Kinds, Place, PriceError, form};

/// Providers that made their models, in the order in which a name is theirs.
const MAKERS: [&str; 12] = [
    "openai",
    "anthropic",
    "google",
    "mistral",
    "deepseek",
    "xai",
    "cohere",
    "perplexity",
    "moonshotai",
    "zai",
    "minimax",
    "alibaba",
];

/// An input above this is charged by `context_over_200k`.
const LONG: u64 = 200_000;

const FIELDS: Fields = Fields {
    names: [
        ("input", Kind::Input),
        ("cache_read", Kind::CachedInput),
        ("cache_write", Kind::CacheWrite),
        ("output", Kind::Output),
        ("reasoning", Kind::Reasoning),
    ],
    places: 6,
};

pub(super) fn read(text: &[u8], drafts: &mut Drafts) -> Result<(), PriceError> {
    let providers: BTreeMap<String, Provider<'_>> = serde_json::from_slice(text).map_err(form)?;
    for maker in MAKERS {
        if let Some(provider) = providers.get(maker) {
            add_all(provider, "", drafts)?;
        }
    }
    for (id, provider) in &providers {
        if !MAKERS.contains(&id.as_str()) {
            add_all(provider, &format!("{id}/"), drafts)?;
        }
    }
    Ok(())
}

fn add_all(provider: &Provider<'_>, prefix: &str, drafts: &mut Drafts) -> Result<(), PriceError> {
    for (id, model) in &provider.models {
        let name = format!("{prefix}{id}");
        let draft = match &model.cost {
            Some(cost) => cost.draft(&name)?,
            None => Draft::default(),
        };
        drafts.add(&name, &draft)?;
    }
    Ok(())
}

#[derive(Deserialize)]
struct Provider<'a> {
    #[serde(borrow, default)]
    models: BTreeMap<String, Model<'a>>,
}

#[derive(Deserialize)]
struct Model<'a> {
    #[serde(borrow)]
    cost: Option<Cost<'a>>,
}

#[derive(Deserialize)]
struct Cost<'a> {
    #[serde(borrow)]
    input: Option<&'a RawValue>,
    #[serde(borrow)]
    output: Option<&'a RawValue>,
    #[serde(borrow)]
    cache_read: Option<&'a RawValue>,
    #[serde(borrow)]
    cache_write: Option<&'a RawValue>,
    #[serde(borrow)]
    reasoning: Option<&'a RawValue>,
    #[serde(borrow)]
    output_audio: Option<&'a RawValue>,
    #[serde(borrow)]
    context_over_200k: Option<Box<Self>>,
    #[serde(borrow, default)]
    tiers: Vec<Self>,
    tier: Option<Length>,
}

/// The length of input above which a set of prices holds.
#[derive(Deserialize)]
struct Length {
    size: u64,
}

impl Cost<'_> {
    fn draft(&self, model: &str) -> Result<Draft, PriceError> {
        let mut draft = Draft {
            base: self.kinds(model)?,
            other: self.output_audio.is_some(),
            ..Draft::default()
        };
        if let Some(long) = &self.context_over_200k {
            draft.above.insert(LONG, long.kinds(model)?);
        }
        for set in &self.tiers {
            if let Some(length) = &set.tier {
                draft.above.insert(length.size, set.kinds(model)?);
            }
        }
        Ok(draft)
    }

    fn kinds(&self, model: &str) -> Result<Kinds, PriceError> {
        let told = [
            ("input", self.input),
            ("cache_read", self.cache_read),
            ("cache_write", self.cache_write),
            ("output", self.output),
            ("reasoning", self.reasoning),
        ];
        let mut kinds = Kinds::default();
        for (field, raw) in told {
            if let (Some(kind), Some(raw)) = (FIELDS.kind(field), raw) {
                kinds.set(kind, FIELDS.price(&Place { model, field }, raw)?);
            }
        }
        Ok(kinds)
    }
}
