//! The form of models.dev: providers by id, each with its models by id and their `cost` in dollars for a million tokens.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::value::RawValue;

use super::{Draft, Drafts, Kinds, dollars};

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

pub(super) fn read(text: &[u8], drafts: &mut Drafts) -> serde_json::Result<()> {
    let providers: BTreeMap<String, Provider<'_>> = serde_json::from_slice(text)?;
    for maker in MAKERS {
        if let Some(provider) = providers.get(maker) {
            add_all(provider, "", drafts);
        }
    }
    for (id, provider) in &providers {
        if !MAKERS.contains(&id.as_str()) {
            add_all(provider, &format!("{id}/"), drafts);
        }
    }
    Ok(())
}

fn add_all(provider: &Provider<'_>, prefix: &str, drafts: &mut Drafts) {
    for (id, model) in &provider.models {
        let draft = model.cost.as_ref().map(Cost::draft).unwrap_or_default();
        drafts.add(&format!("{prefix}{id}"), &draft);
    }
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
    fn draft(&self) -> Draft {
        let mut draft = Draft {
            base: self.kinds(),
            other: self.output_audio.is_some(),
            ..Draft::default()
        };
        if let Some(long) = &self.context_over_200k {
            draft.above.insert(LONG, long.kinds());
        }
        for set in &self.tiers {
            if let Some(length) = &set.tier {
                draft.above.insert(length.size, set.kinds());
            }
        }
        draft
    }

    fn kinds(&self) -> Kinds {
        let rate = |raw: Option<&RawValue>| raw.and_then(dollars);
        Kinds {
            input: rate(self.input),
            cached_input: rate(self.cache_read),
            cache_write: rate(self.cache_write),
            output: rate(self.output),
            reasoning: rate(self.reasoning),
        }
    }
}
