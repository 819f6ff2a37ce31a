//! Whose language a request speaks, which door it came through, and how well its size is known.

use serde::{Deserialize, Serialize};

/// The provider whose request and answer formats are spoken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Dialect {
    /// OpenAI and everything that imitates it (Azure, vLLM, OpenRouter, …).
    #[serde(rename = "openai")]
    OpenAi,
    /// Anthropic's Messages API.
    Anthropic,
    /// Google's Gemini API.
    Gemini,
}

impl Dialect {
    /// The name used in configuration and JSON: `openai`, `anthropic` or `gemini`.
    pub fn name(self) -> &'static str {
        match self {
            Self::OpenAi => "openai",
            Self::Anthropic => "anthropic",
            Self::Gemini => "gemini",
        }
    }
}

/// A provider's operation whose size can be known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Endpoint {
    /// OpenAI `POST /v1/chat/completions`.
    ChatCompletions,
    /// OpenAI `POST /v1/responses`.
    Responses,
    /// OpenAI `POST /v1/completions` (legacy).
    Completions,
    /// OpenAI `POST /v1/embeddings`.
    Embeddings,
    /// Anthropic `POST /v1/messages`.
    Messages,
    /// Anthropic `POST /v1/messages/count_tokens`.
    CountTokens,
    /// Gemini `POST /v1beta/models/{model}:generateContent`.
    GenerateContent,
    /// Gemini `POST /v1beta/models/{model}:streamGenerateContent`.
    StreamGenerateContent,
}

impl Endpoint {
    /// Every endpoint.
    pub const ALL: [Self; 8] = [
        Self::ChatCompletions,
        Self::Responses,
        Self::Completions,
        Self::Embeddings,
        Self::Messages,
        Self::CountTokens,
        Self::GenerateContent,
        Self::StreamGenerateContent,
    ];

    /// The dialect spoken at this endpoint.
    pub fn dialect(self) -> Dialect {
        match self {
            Self::ChatCompletions | Self::Responses | Self::Completions | Self::Embeddings => {
                Dialect::OpenAi
            }
            Self::Messages | Self::CountTokens => Dialect::Anthropic,
            Self::GenerateContent | Self::StreamGenerateContent => Dialect::Gemini,
        }
    }

    /// The name used as a label and in JSON, for example `chat_completions`.
    pub fn name(self) -> &'static str {
        match self {
            Self::ChatCompletions => "chat_completions",
            Self::Responses => "responses",
            Self::Completions => "completions",
            Self::Embeddings => "embeddings",
            Self::Messages => "messages",
            Self::CountTokens => "count_tokens",
            Self::GenerateContent => "generate_content",
            Self::StreamGenerateContent => "stream_generate_content",
        }
    }

    /// Whether an answer costs output tokens at all; embeddings and token counts have none.
    pub fn generates(self) -> bool {
        !matches!(self, Self::Embeddings | Self::CountTokens)
    }
}

/// How an input count is known, from the surest to the least sure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Method {
    /// Plain text counted with the model's own tokenizer: bit-equal.
    Exact,
    /// The model's own tokenizer plus the provider's documented framing rules.
    Framed,
    /// A guess: another tokenizer scaled, or parts whose size is not documented.
    Estimated,
    /// Some part cannot be known (an image behind a URL) and is taken at its most.
    Bound,
}

impl Method {
    /// The name used in JSON: `exact`, `framed`, `estimated` or `bound`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Exact => "exact",
            Self::Framed => "framed",
            Self::Estimated => "estimated",
            Self::Bound => "bound",
        }
    }

    /// What a sum is worth when one part is known by `self` and another by `other`: the weaker
    /// of the two, where a guess is weaker than a bound.
    pub fn and(self, other: Self) -> Self {
        let rank = |method| match method {
            Self::Exact => 0,
            Self::Framed => 1,
            Self::Bound => 2,
            Self::Estimated => 3,
        };
        if rank(self) >= rank(other) {
            self
        } else {
            other
        }
    }
}
