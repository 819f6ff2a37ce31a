//! Where a path leads.

use http::uri::PathAndQuery;
use http::{HeaderMap, Method, Request, Uri};
use tallygate_tokens::{Dialect, Endpoint};

use super::{harmless, spelling};
use crate::decision;
use crate::pipeline::Asked;
use crate::wire::Voice;

/// What a request asks for, read from its method, path and headers.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Destination {
    /// The decision API.
    Decision,
    /// A call whose size is known from its body. Gemini names the model in the path.
    Sized(Asked),
    /// Anything else of a provider's API, handed on as it is.
    Passing(Dialect, Yields),
    /// Nothing that is served here, with the call that was probably meant.
    Unknown(Dialect, Option<&'static str>),
}

/// What a provider makes of a call that nobody reads here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Yields {
    /// Nothing that costs tokens.
    Nothing,
    /// Tokens, for all that is known.
    Anything,
}

impl Destination {
    /// Whose language errors are told in.
    pub(crate) fn voice(&self) -> Voice {
        match self {
            Self::Decision => Voice::Decision,
            Self::Sized(asked) => Voice::Dialect(asked.endpoint.dialect()),
            Self::Passing(dialect, _) | Self::Unknown(dialect, _) => Voice::Dialect(*dialect),
        }
    }
}

/// Reads where `request` leads.
pub(crate) fn destination<B>(request: &Request<B>) -> Destination {
    let path = request.uri().path();
    if path.starts_with(decision::PREFIX) {
        return Destination::Decision;
    }
    if request.method() == Method::POST
        && let Some((endpoint, model)) = sized(path)
    {
        return Destination::Sized(Asked {
            endpoint,
            path_model: model.map(Box::from),
        });
    }
    let dialect = dialect_of(path, request.headers());
    let served = path.starts_with("/v1/") || path.starts_with("/v1beta/");
    let yields = yields(request.method(), path);
    let meant = spelling::ending(path);
    match served && !is_disguised(path) && (yields == Yields::Nothing || meant.is_none()) {
        true => Destination::Passing(dialect, yields),
        false => Destination::Unknown(dialect, meant),
    }
}

/// Whether a provider might take `path` for that of a call which is sized here, or for something outside of what its base
/// address names.
fn is_disguised(path: &str) -> bool {
    match spelling::lax(path) {
        None => true,
        Some(lax) => {
            sized(path).is_none() && (sized(&lax).is_some() || sized(&lax.to_lowercase()).is_some())
        }
    }
}

fn yields(method: &Method, path: &str) -> Yields {
    const ASKING: [Method; 4] = [Method::GET, Method::HEAD, Method::OPTIONS, Method::DELETE];
    match ASKING.contains(method) || harmless::is_known(path) {
        true => Yields::Nothing,
        false => Yields::Anything,
    }
}

/// Where Google has OpenAI's calls.
const OPENAI_AT_GOOGLE: &str = "/v1beta/openai/";

fn sized(path: &str) -> Option<(Endpoint, Option<&str>)> {
    let endpoint = match path {
        "/v1/chat/completions" | "/v1beta/openai/chat/completions" => Endpoint::ChatCompletions,
        "/v1/responses" => Endpoint::Responses,
        "/v1/completions" => Endpoint::Completions,
        "/v1/embeddings" | "/v1beta/openai/embeddings" => Endpoint::Embeddings,
        "/v1/messages" => Endpoint::Messages,
        "/v1/messages/count_tokens" => Endpoint::CountTokens,
        _ => return gemini(path),
    };
    Some((endpoint, None))
}

/// The address of OpenAI's call for that which Google has for it. Any other stays.
pub(super) fn of_openai(uri: &Uri) -> Uri {
    let asked = uri.path_and_query().map_or("/", PathAndQuery::as_str);
    let rest = asked.strip_prefix(OPENAI_AT_GOOGLE);
    let plain = rest.and_then(|rest| Uri::try_from(format!("/v1/{rest}")).ok());
    plain.unwrap_or_else(|| uri.clone())
}

/// The address of a Gemini call with its model replaced. Any other address, and one that would be none, stays.
pub(super) fn with_model(uri: &Uri, model: &str) -> Uri {
    let asked = uri.path_and_query().map_or("/", PathAndQuery::as_str);
    let (path, query) = match asked.split_once('?') {
        Some((path, _)) => asked.split_at(path.len()),
        None => (asked, ""),
    };
    let replaced = gemini(path).filter(|(_, named)| *named != Some(model));
    let replaced = replaced.and_then(|_| {
        let (_, verb) = path.rsplit_once(':')?;
        let version = VERSIONS
            .into_iter()
            .find(|version| path.starts_with(version))?;
        let family = if model.starts_with(TUNED) { "" } else { MODELS };
        let path = format!("{version}{family}{model}:{verb}{query}");
        gemini(path.split('?').next()?)?;
        Uri::try_from(path).ok()
    });
    replaced.unwrap_or_else(|| uri.clone())
}

const VERSIONS: [&str; 2] = ["/v1beta/", "/v1/"];
/// How Gemini's paths name a model.
const MODELS: &str = "models/";
/// How they name a tuned one, whose name here has this in front.
const TUNED: &str = "tunedModels/";

fn gemini(path: &str) -> Option<(Endpoint, Option<&str>)> {
    let rest = VERSIONS
        .into_iter()
        .find_map(|version| path.strip_prefix(version))?;
    let (named, verb) = rest.rsplit_once(':')?;
    let endpoint = match verb {
        "generateContent" => Endpoint::GenerateContent,
        "streamGenerateContent" => Endpoint::StreamGenerateContent,
        _ => return None,
    };
    let (model, id) = match named.strip_prefix(MODELS) {
        Some(model) => (model, model),
        None => (named, named.strip_prefix(TUNED)?),
    };
    let plain = !id.is_empty() && !id.contains(['/', '%', ';']);
    plain.then_some((endpoint, Some(model)))
}

/// The dialect a caller speaks where the path alone does not say: Anthropic's SDKs always send their version.
fn dialect_of(path: &str, headers: &HeaderMap) -> Dialect {
    if path.starts_with("/v1beta/") || headers.contains_key("x-goog-api-key") {
        Dialect::Gemini
    } else if headers.contains_key("anthropic-version") {
        Dialect::Anthropic
    } else {
        Dialect::OpenAi
    }
}

#[cfg(test)]
#[path = "path_tests.rs"]
mod tests;
