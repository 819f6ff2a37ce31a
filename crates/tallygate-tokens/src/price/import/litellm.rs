//! The form of LiteLLM: models by name, their costs in dollars for one token.

use std::collections::BTreeMap;

use serde_json::value::RawValue;

use super::{Draft, Drafts, Fields, Kind, Place, PriceError, form};

/// An entry that explains the file.
const SAMPLE: &str = "sample_spec";

/// What stands between a kind's name and the thousands of tokens above which a price holds.
const ABOVE: &str = "_above_";

const FIELDS: Fields = Fields {
    names: [
        ("input_cost_per_token", Kind::Input),
        ("cache_read_input_token_cost", Kind::CachedInput),
        ("cache_creation_input_token_cost", Kind::CacheWrite),
        ("output_cost_per_token", Kind::Output),
        ("output_cost_per_reasoning_token", Kind::Reasoning),
    ],
    places: 12,
};

pub(super) fn read(text: &[u8], drafts: &mut Drafts) -> Result<(), PriceError> {
    let models: BTreeMap<String, BTreeMap<String, &RawValue>> =
        serde_json::from_slice(text).map_err(form)?;
    for (name, fields) in models.iter().filter(|(name, _)| *name != SAMPLE) {
        drafts.add(name, &draft(name, fields)?)?;
    }
    Ok(())
}

fn draft(model: &str, fields: &BTreeMap<String, &RawValue>) -> Result<Draft, PriceError> {
    let mut draft = Draft::default();
    for (field, raw) in fields {
        let price = || FIELDS.price(&Place { model, field }, raw);
        if OTHERWISE.contains(&field.as_str()) {
            draft.other |= price()?.is_some_and(|price| price > 0);
        }
        let (name, kinds) = match field.split_once(ABOVE) {
            None => (field.as_str(), Some(&mut draft.base)),
            Some((name, tokens)) => {
                let tokens = thousands(tokens);
                (
                    name,
                    tokens.map(|tokens| draft.above.entry(tokens).or_default()),
                )
            }
        };
        if let (Some(kind), Some(kinds)) = (FIELDS.kind(name), kinds) {
            kinds.set(kind, price()?);
        }
    }
    draft
        .above
        .retain(|_, kinds| kinds.input.or(kinds.output).is_some());
    // Charged as its input, an answer of several times that price would come under every budget.
    let writes = !fields.get("mode").is_some_and(|mode| is_silent(mode));
    draft.other |= writes && draft.base.output.is_none();
    Ok(draft)
}

/// Whether models of this `mode` write nothing, so that a price of output is not to be expected.
fn is_silent(mode: &RawValue) -> bool {
    let mode = mode.get().trim_matches('"');
    ["embedding", "rerank", "moderation"].contains(&mode)
}

/// Prices of what is no text; a model that has one of them is not sold by tokens of text alone.
const OTHERWISE: [&str; 3] = [
    "output_cost_per_audio_token",
    "output_cost_per_image_token",
    "output_cost_per_second",
];

/// `200k_tokens`.
fn thousands(text: &str) -> Option<u64> {
    let number: u64 = text.strip_suffix("k_tokens")?.parse().ok()?;
    number.checked_mul(1_000)
}
