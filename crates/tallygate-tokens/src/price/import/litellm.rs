//! The form of LiteLLM: models by name, their costs in dollars for one token.

use std::collections::BTreeMap;

use serde_json::value::RawValue;

use super::super::decimal;
use super::{Draft, Drafts, Kinds};

/// An entry that explains the file.
const SAMPLE: &str = "sample_spec";

/// What stands between a kind's name and the thousands of tokens above which a price holds.
const ABOVE: &str = "_above_";

pub(super) fn read(text: &[u8], drafts: &mut Drafts) -> serde_json::Result<()> {
    let models: BTreeMap<String, BTreeMap<String, &RawValue>> = serde_json::from_slice(text)?;
    for (name, fields) in models.iter().filter(|(name, _)| *name != SAMPLE) {
        drafts.add(name, &draft(fields));
    }
    Ok(())
}

fn draft(fields: &BTreeMap<String, &RawValue>) -> Draft {
    let mut draft = Draft::default();
    for (key, raw) in fields {
        let rate = decimal::scaled(raw.get().trim_matches('"'), 12);
        match key.split_once(ABOVE) {
            None => set(&mut draft.base, key, rate),
            Some((kind, tokens)) => {
                if let Some(tokens) = thousands(tokens) {
                    set(draft.above.entry(tokens).or_default(), kind, rate);
                }
            }
        }
        draft.other |= OTHERWISE.contains(&key.as_str()) && rate.is_some_and(|rate| rate > 0);
    }
    draft
        .above
        .retain(|_, kinds| kinds.input.or(kinds.output).is_some());
    draft
}

/// Prices of what is no text; a model that has one of them is not sold by tokens of text alone.
const OTHERWISE: [&str; 3] = [
    "output_cost_per_audio_token",
    "output_cost_per_image_token",
    "output_cost_per_second",
];

fn set(kinds: &mut Kinds, key: &str, rate: Option<u64>) {
    match key {
        "input_cost_per_token" => kinds.input = rate,
        "cache_read_input_token_cost" => kinds.cached_input = rate,
        "cache_creation_input_token_cost" => kinds.cache_write = rate,
        "output_cost_per_token" => kinds.output = rate,
        "output_cost_per_reasoning_token" => kinds.reasoning = rate,
        _ => {}
    }
}

/// `200k_tokens`.
fn thousands(text: &str) -> Option<u64> {
    let number: u64 = text.strip_suffix("k_tokens")?.parse().ok()?;
    number.checked_mul(1_000)
}
