//! The form of genai-prices: a list of providers with their models. A price is a number, or one with tiers by the length
//! of the input; a model has one set of prices, or several with the day or the hours from which they hold.

use std::collections::HashMap;

use serde::Deserialize;
use serde_json::value::RawValue;

use super::{Draft, Drafts, Fields, Kind, Place, PriceError, form};

/// Providers that made their models, in the order in which a name is theirs.
const MAKERS: [&str; 12] = [
    "openai",
    "anthropic",
    "google",
    "mistral",
    "deepseek",
    "x-ai",
    "cohere",
    "perplexity",
    "moonshotai",
    "zai",
    "minimax",
    "voyageai",
];

const FIELDS: Fields = Fields {
    names: [
        ("input_mtok", Kind::Input),
        ("cache_read_mtok", Kind::CachedInput),
        ("cache_write_mtok", Kind::CacheWrite),
        ("output_mtok", Kind::Output),
        ("output_reasoning_mtok", Kind::Reasoning),
    ],
    places: 6,
};

pub(super) fn read(text: &[u8], today: &str, drafts: &mut Drafts) -> Result<(), PriceError> {
    let providers: Vec<Provider<'_>> = serde_json::from_slice(text).map_err(form)?;
    let maker = |provider: &Provider<'_>| MAKERS.iter().position(|maker| *maker == provider.id);
    let mut makers: Vec<_> = providers
        .iter()
        .filter(|provider| maker(provider).is_some())
        .collect();
    makers.sort_by_key(|provider| maker(provider));
    for provider in makers {
        add_all(provider, "", today, drafts)?;
    }
    for provider in providers
        .iter()
        .filter(|provider| maker(provider).is_none())
    {
        add_all(provider, &format!("{}/", provider.id), today, drafts)?;
    }
    Ok(())
}

/// All models under their own names first: a name that another only matches is not its own.
fn add_all(
    provider: &Provider<'_>,
    prefix: &str,
    today: &str,
    drafts: &mut Drafts,
) -> Result<(), PriceError> {
    for model in &provider.models {
        drafts.add(&format!("{prefix}{}", model.id), &model.on(today)?)?;
    }
    for model in &provider.models {
        for name in model.names() {
            drafts.add(&format!("{prefix}{name}"), &model.on(today)?)?;
        }
    }
    Ok(())
}

#[derive(Deserialize)]
struct Provider<'a> {
    id: String,
    #[serde(borrow, default)]
    models: Vec<Model<'a>>,
}

#[derive(Deserialize)]
struct Model<'a> {
    id: String,
    #[serde(rename = "match", default)]
    matched: Clause,
    /// [`Keys`], or a list of [`Conditional`] ones.
    #[serde(borrow)]
    prices: &'a RawValue,
}

/// How a model is known: by names, by their beginnings, or by what they have in them.
#[derive(Deserialize, Default)]
struct Clause {
    equals: Option<String>,
    starts_with: Option<String>,
    contains: Option<String>,
    #[serde(default)]
    or: Vec<Self>,
}

type Keys<'a> = HashMap<String, &'a RawValue>;

#[derive(Deserialize)]
struct Conditional<'a> {
    constraint: Option<Constraint>,
    #[serde(borrow)]
    prices: Keys<'a>,
}

#[derive(Deserialize)]
struct Constraint {
    start_date: Option<String>,
}

#[derive(Deserialize)]
struct Tiered<'a> {
    #[serde(borrow)]
    base: &'a RawValue,
    #[serde(borrow)]
    tiers: Vec<Tier<'a>>,
}

#[derive(Deserialize)]
struct Tier<'a> {
    start: u64,
    #[serde(borrow)]
    price: &'a RawValue,
}

impl Model<'_> {
    /// The names that it is said to have. The beginning of a name is one too: what may follow is a version.
    fn names(&self) -> Vec<&str> {
        let clauses = std::iter::once(&self.matched).chain(&self.matched.or);
        let mut names = Vec::new();
        for clause in clauses {
            names.extend(clause.equals.as_deref());
            names.extend(
                clause
                    .starts_with
                    .as_deref()
                    .map(|start| start.trim_end_matches(['-', '@', '.'])),
            );
            let contained = clause
                .contains
                .as_deref()
                .filter(|part| self.id.starts_with(part));
            names.extend(contained.map(|part| part.trim_end_matches(['-', '@', '.'])));
        }
        names
    }

    /// The prices that hold on the day. Of those for some hours of it the dearest ones: it is not known when a call comes.
    fn on(&self, today: &str) -> Result<Draft, PriceError> {
        let prices = self.prices.get();
        if !prices.starts_with('[') {
            return draft(&self.id, &serde_json::from_str(prices).map_err(form)?);
        }
        let all: Vec<Conditional<'_>> = serde_json::from_str(prices).map_err(form)?;
        let mut standing = Draft::default();
        for (place, price) in all.iter().enumerate() {
            let this = draft(&self.id, &price.prices)?;
            match &price.constraint {
                None => standing = this,
                Some(Constraint {
                    start_date: Some(day),
                }) if day.as_str() > today && place > 0 => {}
                Some(Constraint {
                    start_date: Some(_),
                }) => standing = this,
                Some(Constraint { start_date: None }) => standing = dearer(standing, this),
            }
        }
        Ok(standing)
    }
}

fn dearer(one: Draft, other: Draft) -> Draft {
    let mut above = one.above;
    for (tokens, kinds) in other.above {
        let entry = above.entry(tokens).or_default();
        *entry = entry.max(&kinds);
    }
    Draft {
        base: one.base.max(&other.base),
        above,
        other: one.other || other.other,
    }
}

fn draft(model: &str, fields: &Keys<'_>) -> Result<Draft, PriceError> {
    let mut draft = Draft::default();
    for (field, raw) in fields {
        draft.other |= OTHERWISE.iter().any(|other| field.starts_with(other));
        let Some(kind) = FIELDS.kind(field) else {
            continue;
        };
        let place = Place { model, field };
        if !raw.get().starts_with('{') {
            draft.base.set(kind, FIELDS.price(&place, raw)?);
            continue;
        }
        let tiered: Tiered<'_> =
            serde_json::from_str(raw.get()).map_err(|_| place.unreadable(raw))?;
        draft.base.set(kind, FIELDS.price(&place, tiered.base)?);
        for tier in tiered.tiers {
            let above = draft.above.entry(tier.start).or_default();
            above.set(kind, FIELDS.price(&place, tier.price)?);
        }
    }
    draft
        .above
        .retain(|_, kinds| kinds.input.or(kinds.output).is_some());
    Ok(draft)
}

/// Prices of what is no text; a model that has one of them is not sold by tokens of text alone.
const OTHERWISE: [&str; 4] = [
    "output_audio",
    "output_image",
    "output_video",
    "audio_hours",
];
