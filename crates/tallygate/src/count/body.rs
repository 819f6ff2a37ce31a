//! Request bodies: which endpoint one is for, and the call in it.

use clap::ValueEnum;
use serde_json::Value;
use tallygate_tokens::{Call, Endpoint};

/// The endpoint a body is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Form {
    /// Tell by the body's fields
    Auto,
    /// OpenAI chat completions
    Chat,
    /// OpenAI responses
    Responses,
    /// OpenAI legacy completions
    Completions,
    /// OpenAI embeddings
    Embeddings,
    /// Anthropic messages
    Messages,
    /// Gemini generateContent
    Gemini,
}

/// The call in `bytes`; `model` stands in where the body names none.
pub(super) fn parse(form: Form, model: &str, bytes: &[u8]) -> Result<Call, String> {
    let endpoint = match endpoint(form) {
        Some(endpoint) => endpoint,
        None => guess(bytes)?,
    };
    Call::parse(endpoint, Some(model), bytes).map_err(|error| error.to_string())
}

fn endpoint(form: Form) -> Option<Endpoint> {
    match form {
        Form::Auto => None,
        Form::Chat => Some(Endpoint::ChatCompletions),
        Form::Responses => Some(Endpoint::Responses),
        Form::Completions => Some(Endpoint::Completions),
        Form::Embeddings => Some(Endpoint::Embeddings),
        Form::Messages => Some(Endpoint::Messages),
        Form::Gemini => Some(Endpoint::GenerateContent),
    }
}

/// Each endpoint has a field that no other has, up to the model's name.
fn guess(bytes: &[u8]) -> Result<Endpoint, String> {
    let body: Value =
        serde_json::from_slice(bytes).map_err(|error| format!("not JSON: {error}"))?;
    let model = body["model"].as_str().unwrap_or_default();
    let has = |field: &str| body.get(field).is_some();
    if has("contents") {
        Ok(Endpoint::GenerateContent)
    } else if has("messages") {
        let anthropic = model.contains("claude") || has("system") || has("anthropic_version");
        Ok(if anthropic {
            Endpoint::Messages
        } else {
            Endpoint::ChatCompletions
        })
    } else if has("prompt") {
        Ok(Endpoint::Completions)
    } else if has("input") {
        let embeds = model.contains("embed") || has("encoding_format") || has("dimensions");
        Ok(if embeds {
            Endpoint::Embeddings
        } else {
            Endpoint::Responses
        })
    } else {
        Err("no request body known here: it has none of messages, input, prompt, contents; name its endpoint with --body=…".to_owned())
    }
}
