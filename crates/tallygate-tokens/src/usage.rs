//! What a provider says a call really used, in one form for all dialects.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::dialect::{Dialect, Endpoint};
use crate::json::Json;

/// Tokens used by a call. Input includes what came from and went into caches, output includes
/// reasoning; the other fields are parts of these two.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Usage {
    /// All input tokens.
    pub input_tokens: u64,
    /// All output tokens.
    pub output_tokens: u64,
    /// Input read from the provider's cache.
    pub cached_input_tokens: u64,
    /// Input written to the provider's cache.
    pub cache_write_tokens: u64,
    /// Output spent on reasoning.
    pub reasoning_tokens: u64,
    /// Audio, heard and spoken.
    pub audio_tokens: u64,
}

/// The usage in a whole answer.
///
/// Gemini's JSON-array streams are read too: the last element that tells usage counts. Answers to
/// token counts use nothing, whatever number they return. `None` where the body is no JSON of the
/// endpoint's kind or tells no usage.
pub fn usage_of_body(endpoint: Endpoint, body: &[u8]) -> Option<Usage> {
    if endpoint == Endpoint::CountTokens {
        let answer: CountAnswer = serde_json::from_slice(body).ok()?;
        return answer.input_tokens.is_u64().then(Usage::default);
    }
    let first = body.iter().find(|byte| !byte.is_ascii_whitespace())?;
    let usage = if *first == b'[' {
        let all: Vec<Answer<'_>> = serde_json::from_slice(body).ok()?;
        all.into_iter().rev().find_map(Answer::usage)
    } else {
        let answer: Answer<'_> = serde_json::from_slice(body).ok()?;
        answer.usage()
    };
    usage_of_json(endpoint.dialect(), &usage?)
}

/// The usage in a provider's `usage` (OpenAI, Anthropic) or `usageMetadata` (Gemini) object.
///
/// Amounts that are absent, negative or no numbers count as 0; an object without one readable
/// amount of input or output tells no usage. Anthropic's `input_tokens` excludes caches and is
/// summed up; Gemini's thoughts are added to its candidates.
pub fn usage_of_value(dialect: Dialect, usage: &Value) -> Option<Usage> {
    usage_of_json(dialect, &Json::from(usage))
}

/// [`usage_of_value`] of a borrowed document.
pub(crate) fn usage_of_json(dialect: Dialect, usage: &Json<'_>) -> Option<Usage> {
    if !MAIN_AMOUNTS.iter().any(|key| amount(usage, key).is_some()) {
        return None;
    }
    let mut told = match dialect {
        Dialect::OpenAi => openai(usage),
        Dialect::Anthropic => anthropic(usage),
        Dialect::Gemini => gemini(usage),
    };
    told.input_tokens = told.input_tokens.min(LARGEST);
    told.output_tokens = told.output_tokens.min(LARGEST);
    Some(told)
}

const MAIN_AMOUNTS: [&str; 6] = [
    "prompt_tokens",
    "completion_tokens",
    "input_tokens",
    "output_tokens",
    "promptTokenCount",
    "candidatesTokenCount",
];

/// No real call uses more; larger amounts are read as this.
const LARGEST: u64 = 1 << 53;

#[derive(Deserialize)]
struct CountAnswer {
    input_tokens: Value,
}

/// The one member of an answer that matters here; the rest is skipped without being built.
#[derive(Deserialize)]
struct Answer<'a> {
    #[serde(borrow, default)]
    usage: Option<Json<'a>>,
    #[serde(borrow, default, rename = "usageMetadata")]
    usage_metadata: Option<Json<'a>>,
}

impl<'a> Answer<'a> {
    fn usage(self) -> Option<Json<'a>> {
        self.usage.or(self.usage_metadata)
    }
}

fn openai(usage: &Json<'_>) -> Usage {
    let either = |old, new| amount(usage, old).or(amount(usage, new)).unwrap_or(0);
    let detail = |side: [&str; 2], key| {
        let parts = side.iter().find_map(|name| usage.get(name));
        parts.and_then(|parts| amount(parts, key)).unwrap_or(0)
    };
    const INPUT: [&str; 2] = ["prompt_tokens_details", "input_tokens_details"];
    const OUTPUT: [&str; 2] = ["completion_tokens_details", "output_tokens_details"];
    Usage {
        input_tokens: either("prompt_tokens", "input_tokens"),
        output_tokens: either("completion_tokens", "output_tokens"),
        cached_input_tokens: detail(INPUT, "cached_tokens"),
        cache_write_tokens: detail(INPUT, "cache_write_tokens"),
        reasoning_tokens: detail(OUTPUT, "reasoning_tokens"),
        audio_tokens: detail(INPUT, "audio_tokens") + detail(OUTPUT, "audio_tokens"),
    }
}

fn anthropic(usage: &Json<'_>) -> Usage {
    let read = |key| amount(usage, key).unwrap_or(0);
    let cached = read("cache_read_input_tokens");
    let written = read("cache_creation_input_tokens");
    Usage {
        input_tokens: read("input_tokens") + cached + written,
        output_tokens: read("output_tokens"),
        cached_input_tokens: cached,
        cache_write_tokens: written,
        ..Usage::default()
    }
}

fn gemini(usage: &Json<'_>) -> Usage {
    let read = |key| amount(usage, key).unwrap_or(0);
    let thoughts = read("thoughtsTokenCount");
    Usage {
        input_tokens: read("promptTokenCount") + read("toolUsePromptTokenCount"),
        output_tokens: read("candidatesTokenCount") + thoughts,
        cached_input_tokens: read("cachedContentTokenCount"),
        reasoning_tokens: thoughts,
        audio_tokens: audio(usage, "promptTokensDetails") + audio(usage, "candidatesTokensDetails"),
        ..Usage::default()
    }
}

/// Gemini tells modalities in a list.
fn audio(usage: &Json<'_>, details: &str) -> u64 {
    let parts = usage.items(details).iter();
    let spoken = parts.filter(|part| part.text("modality") == Some("AUDIO"));
    spoken
        .filter_map(|part| amount(part, "tokenCount"))
        .fold(0, |sum, tokens| (sum + tokens).min(LARGEST))
}

/// A number of tokens, however it is written; negative ones are read as none.
pub(crate) fn amount(object: &Json<'_>, key: &str) -> Option<u64> {
    let Json::Number(number) = object.get(key)? else {
        return None;
    };
    let tokens = match (number.as_u64(), number.as_f64()) {
        (Some(tokens), _) => tokens,
        (None, Some(tokens)) if tokens > 0.0 => tokens.ceil() as u64,
        (None, Some(_)) => 0,
        (None, None) => return None,
    };
    Some(tokens.min(LARGEST))
}
