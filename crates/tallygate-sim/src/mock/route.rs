//! Which call a path means.

use http::Method;
use tallygate_tokens::{Dialect, Endpoint};

/// What a request is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Route<'a> {
    /// A call to a model; Gemini names the model in the path.
    Call(Endpoint, Option<&'a str>),
    /// The list of models, in the dialect of the caller.
    Models,
    /// One model.
    Model(&'a str),
    /// The mock's own books.
    Books,
    /// The path is known, the method is not.
    WrongMethod,
    /// Nothing is here.
    Unknown,
}

impl<'a> Route<'a> {
    pub(crate) fn of(method: &Method, path: &'a str) -> Self {
        if let Some(call) = call(path) {
            return if method == Method::POST {
                call
            } else {
                Self::WrongMethod
            };
        }
        let page = match path.strip_prefix("/v1/models") {
            Some("") => Self::Models,
            Some(model) if model.len() > 1 => Self::Model(&model[1..]),
            _ if path == "/mock/books" => Self::Books,
            _ => return Self::Unknown,
        };
        if method == Method::GET {
            page
        } else {
            Self::WrongMethod
        }
    }
}

fn call(path: &str) -> Option<Route<'_>> {
    let endpoint = match path {
        "/v1/chat/completions" => Endpoint::ChatCompletions,
        "/v1/responses" => Endpoint::Responses,
        "/v1/completions" => Endpoint::Completions,
        "/v1/embeddings" => Endpoint::Embeddings,
        "/v1/messages" => Endpoint::Messages,
        "/v1/messages/count_tokens" => Endpoint::CountTokens,
        _ => return gemini(path),
    };
    Some(Route::Call(endpoint, None))
}

fn gemini(path: &str) -> Option<Route<'_>> {
    let (model, verb) = path.strip_prefix("/v1beta/models/")?.split_once(':')?;
    let endpoint = match verb {
        "generateContent" => Endpoint::GenerateContent,
        "streamGenerateContent" => Endpoint::StreamGenerateContent,
        _ => return None,
    };
    Some(Route::Call(endpoint, Some(model)))
}

/// The dialect in which a path is answered, errors included.
pub(crate) fn dialect_of(path: &str) -> Dialect {
    if path.starts_with("/v1/messages") {
        Dialect::Anthropic
    } else if path.starts_with("/v1beta/") {
        Dialect::Gemini
    } else {
        Dialect::OpenAi
    }
}
