//! How much output to hold before a call is made.

use serde::{Deserialize, Serialize};

use crate::call::Call;
use crate::dialect::Endpoint;
use crate::model;

/// How the output of a call is guessed before it is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OutputEstimate {
    /// What the caller allows (`max_tokens` and its newer names), or the policy's `default_max`.
    MaxTokens,
    /// `input × per_mille / 1000`.
    Multiplier {
        /// Output tokens held per thousand input tokens.
        per_mille: u32,
    },
    /// A quantile of what calls like this one produced lately, or a multiplier until enough is
    /// known.
    Learned {
        /// The quantile asked of the [`Learner`](crate::Learner): 950 is the 95th percentile.
        quantile_per_mille: u32,
        /// The multiplier used while the learner knows too little.
        fallback_per_mille: u32,
    },
}

/// The estimator of one model, and the bounds its estimates are kept in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OutputPolicy {
    /// How to guess.
    pub estimate: OutputEstimate,
    /// The least output held a choice, unless the caller allows less.
    pub floor: u64,
    /// The most output held a choice: the model's own maximum output where it is known,
    /// [`u64::MAX`] where not.
    pub ceiling: u64,
    /// What stands for `max_tokens` when the caller names none and the estimate is `MaxTokens`.
    pub default_max: u64,
}

impl OutputPolicy {
    /// The built-in policy of a model: a multiplier (gpt-4 1.5, gpt-4o 1.2, gpt-3.5-turbo 1.0,
    /// claude-3-sonnet 1.3, all others 1.2), a floor of [`DEFAULT_FLOOR`] tokens, and the maximum
    /// output its provider documents.
    pub fn for_model(model: &str) -> Self {
        let name = model::bare(model);
        let ceiling = model::by_prefix(&MAX_OUTPUT, &name).unwrap_or(u64::MAX);
        Self {
            estimate: OutputEstimate::Multiplier {
                per_mille: model::by_prefix(&MULTIPLIERS, &name).unwrap_or(1_200),
            },
            floor: DEFAULT_FLOOR,
            ceiling,
            default_max: ceiling.min(DEFAULT_MAX),
        }
    }
}

/// What to hold for a call's output, and how it was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Estimate {
    /// Tokens to hold, over all choices.
    pub tokens: u64,
    /// What decided.
    pub method: EstimateMethod,
}

/// What decided an output estimate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EstimateMethod {
    /// The caller's own bound, or the policy's default for it.
    MaxTokens,
    /// A multiple of the input.
    Multiplier,
    /// The learned quantile.
    Learned,
    /// The endpoint has no output.
    None,
}

/// The floor of [`OutputPolicy::for_model`], in tokens: a multiple of a ten-token prompt says
/// nothing about its answer.
pub const DEFAULT_FLOOR: u64 = 64;

/// `default_max` of [`OutputPolicy::for_model`] where the model's own maximum is not smaller.
pub const DEFAULT_MAX: u64 = 4_096;

/// What legacy completions produce when the caller names no `max_tokens` (OpenAI API reference).
const COMPLETIONS_DEFAULT_MAX: u64 = 16;

/// The output to hold for a call of `input` tokens: the estimate, kept between the policy's floor
/// and ceiling, never more than the caller allows, times the number of choices.
///
/// A multiplier `m` holds `m × input` of output. Published rules say "total = m × input", which
/// would hold next to nothing for short prompts; measured on a public trace that reading is too
/// small for two thirds of chat calls.
///
/// `learned` is the learner's quantile for this class, if it knows one; only
/// [`OutputEstimate::Learned`] looks at it. Embeddings and token counts need no output.
pub fn output_estimate(
    call: &Call,
    input: u64,
    policy: &OutputPolicy,
    learned: Option<u64>,
) -> Estimate {
    if !call.endpoint().generates() {
        return Estimate {
            tokens: 0,
            method: EstimateMethod::None,
        };
    }
    let allowed = allowed(call);
    let (guess, method) = guess(input, policy, learned, allowed);
    let kept = guess.max(policy.floor).min(policy.ceiling);
    let (each, method) = match allowed {
        Some(max) if max <= kept => (max, EstimateMethod::MaxTokens),
        _ => (kept, method),
    };
    Estimate {
        tokens: each.saturating_mul(call.choices()),
        method,
    }
}

/// The most output a choice the provider will produce at the caller's word.
fn allowed(call: &Call) -> Option<u64> {
    let implied = (call.endpoint() == Endpoint::Completions).then_some(COMPLETIONS_DEFAULT_MAX);
    call.max_output().or(implied)
}

fn guess(
    input: u64,
    policy: &OutputPolicy,
    learned: Option<u64>,
    allowed: Option<u64>,
) -> (u64, EstimateMethod) {
    match (policy.estimate, learned) {
        (OutputEstimate::MaxTokens, _) => (
            allowed.unwrap_or(policy.default_max),
            EstimateMethod::MaxTokens,
        ),
        (OutputEstimate::Multiplier { per_mille }, _) => {
            (per_mille_of(input, per_mille), EstimateMethod::Multiplier)
        }
        (OutputEstimate::Learned { .. }, Some(quantile)) => (quantile, EstimateMethod::Learned),
        (
            OutputEstimate::Learned {
                fallback_per_mille, ..
            },
            None,
        ) => (
            per_mille_of(input, fallback_per_mille),
            EstimateMethod::Multiplier,
        ),
    }
}

/// `amount × per_mille / 1000`, rounded up, at most [`u64::MAX`].
pub(crate) fn per_mille_of(amount: u64, per_mille: u32) -> u64 {
    let scaled = (u128::from(amount) * u128::from(per_mille)).div_ceil(1_000);
    u64::try_from(scaled).unwrap_or(u64::MAX)
}

/// Output per thousand input tokens; the first entry that begins the name decides.
const MULTIPLIERS: [(&str, u32); 5] = [
    ("gpt-4o", 1_200),
    ("gpt-4.", 1_200),
    ("gpt-4", 1_500),
    ("gpt-3.5-turbo", 1_000),
    ("claude-3-sonnet", 1_300),
];

/// The providers' documented maximum output in tokens; the first entry that begins the name decides.
const MAX_OUTPUT: [(&str, u64); 34] = [
    ("gpt-5-chat", 16_384),
    ("gpt-5", 128_000),
    ("gpt-oss", 131_072),
    ("gpt-4.1", 32_768),
    ("gpt-4.5", 16_384),
    ("gpt-4o", 16_384),
    ("chatgpt-4o", 16_384),
    ("gpt-4-turbo", 4_096),
    ("gpt-4-32k", 32_768),
    ("gpt-4", 8_192),
    ("gpt-3.5", 4_096),
    ("gpt-35", 4_096),
    ("o1-mini", 65_536),
    ("o1-preview", 32_768),
    ("o1", 100_000),
    ("o3", 100_000),
    ("o4-mini", 100_000),
    ("claude-3-7", 128_000),
    ("claude-3.7", 128_000),
    ("claude-3-5", 8_192),
    ("claude-3.5", 8_192),
    ("claude-3-", 4_096),
    ("claude-opus-4-1", 32_000),
    ("claude-opus-4.1", 32_000),
    ("claude-opus-4-2", 32_000),
    ("claude-opus-4-0", 32_000),
    ("claude-opus-4-5", 64_000),
    ("claude-sonnet-4-6", 128_000),
    ("claude-sonnet-4", 64_000),
    ("claude-haiku-4", 64_000),
    ("claude-2", 4_096),
    ("gemini-1", 8_192),
    ("gemini-2.0", 8_192),
    ("gemini-2.5", 65_536),
];
