//! Which operation of a provider a request is for.

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use serde::Deserialize;
use serde::de::IgnoredAny;
use tallygate_tokens::Endpoint;

/// The endpoint of this name (`chat_completions`, `messages`, …).
///
/// # Errors
/// `ValueError` when there is none.
pub(crate) fn named(name: &str) -> PyResult<Endpoint> {
    let found = Endpoint::ALL
        .into_iter()
        .find(|endpoint| endpoint.name() == name);
    found.ok_or_else(|| {
        let names: Vec<_> = Endpoint::ALL.into_iter().map(Endpoint::name).collect();
        PyValueError::new_err(format!(
            "endpoint `{name}` is unknown: it is one of {}",
            names.join(", ")
        ))
    })
}

/// The endpoint that a request's path leads to, whatever stands before its documented part, and the model named in it
/// (Gemini, Azure). `None` where it is no call whose size can be known.
pub(crate) fn of_path(path: &str) -> Option<(Endpoint, Option<&str>)> {
    if let Some((rest, verb)) = path.rsplit_once(':') {
        let model = rest.rsplit_once("models/")?.1;
        let endpoint = match verb {
            "generateContent" => Endpoint::GenerateContent,
            "streamGenerateContent" => Endpoint::StreamGenerateContent,
            _ => return None,
        };
        let plain = !model.is_empty() && !model.contains(['/', '%', ';']);
        return plain.then_some((endpoint, Some(model)));
    }
    let (_, endpoint) = PATHS.into_iter().find(|(end, _)| path.ends_with(end))?;
    Some((endpoint, deployment(path)))
}

/// Azure names the model's deployment in the path.
fn deployment(path: &str) -> Option<&str> {
    path.split_once("/deployments/")?.1.split('/').next()
}

/// The endpoint that takes bodies of this form.
pub(crate) fn of_body(model: &str, body: &[u8]) -> Endpoint {
    let form: Form = serde_json::from_slice(body).unwrap_or_default();
    let lower = model.to_ascii_lowercase();
    if form.contents.is_some() {
        Endpoint::GenerateContent
    } else if form.messages.is_some() && lower.contains("claude") {
        Endpoint::Messages
    } else if form.input.is_some() && lower.contains("embed") {
        Endpoint::Embeddings
    } else if form.input.is_some() {
        Endpoint::Responses
    } else if form.prompt.is_some() && form.messages.is_none() {
        Endpoint::Completions
    } else {
        Endpoint::ChatCompletions
    }
}

/// The fields that tell endpoints apart.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Form {
    messages: Option<IgnoredAny>,
    input: Option<IgnoredAny>,
    prompt: Option<IgnoredAny>,
    contents: Option<IgnoredAny>,
}

/// Ends of paths; the longer ones first.
const PATHS: [(&str, Endpoint); 6] = [
    ("/messages/count_tokens", Endpoint::CountTokens),
    ("/chat/completions", Endpoint::ChatCompletions),
    ("/completions", Endpoint::Completions),
    ("/responses", Endpoint::Responses),
    ("/embeddings", Endpoint::Embeddings),
    ("/messages", Endpoint::Messages),
];
