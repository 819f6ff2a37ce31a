//! How each endpoint wraps its texts, by the provider's documents where there are any.

mod anthropic;
mod chat;
mod fields;
mod gemini;
mod media;
mod parts;
mod prompts;
mod responses;
mod tools;
mod vision;

use crate::call::CallError;
use crate::dialect::{Endpoint, Method};
use crate::encoding;
use crate::json::Json;
use crate::model;
use crate::plan::Plan;

/// What there is to count in a request of `endpoint` to `model`.
pub(crate) fn plan(endpoint: Endpoint, model: &str, json: &Json<'_>) -> Result<Plan, CallError> {
    let name = model::bare(model);
    match endpoint {
        Endpoint::ChatCompletions => chat::plan(&name, json),
        Endpoint::Responses => responses::plan(&name, json),
        Endpoint::Completions => prompts::completion(json),
        Endpoint::Embeddings => prompts::embedding(json),
        Endpoint::Messages | Endpoint::CountTokens => anthropic::plan(&name, json),
        Endpoint::GenerateContent | Endpoint::StreamGenerateContent => gemini::plan(json),
    }
}

/// How well OpenAI's framing fits a model: it is documented for OpenAI's own chat models; others
/// behind the same door have templates of their own.
fn openai_method(name: &str) -> Method {
    match encoding::encoding_of(name).name {
        "cl100k_base" | "o200k_base" => Method::Framed,
        _ => Method::Estimated,
    }
}
