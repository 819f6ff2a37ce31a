//! Where a path leads.

use http::uri::PathAndQuery;
use http::{HeaderMap, Method, Request, Uri};
use tallygate_tokens::{Dialect, Endpoint};

use super::spelling;
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
    Passing(Dialect),
    /// Nothing that is served here.
    Unknown(Dialect),
}

impl Destination {
    /// Whose language errors are told in.
    pub(crate) fn voice(&self) -> Voice {
        match self {
            Self::Decision => Voice::Decision,
            Self::Sized(asked) => Voice::Dialect(asked.endpoint.dialect()),
            Self::Passing(dialect) | Self::Unknown(dialect) => Voice::Dialect(*dialect),
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
    match served && !is_disguised(path) {
        true => Destination::Passing(dialect),
        false => Destination::Unknown(dialect),
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

fn sized(path: &str) -> Option<(Endpoint, Option<&str>)> {
    let endpoint = match path {
        "/v1/chat/completions" => Endpoint::ChatCompletions,
        "/v1/responses" => Endpoint::Responses,
        "/v1/completions" => Endpoint::Completions,
        "/v1/embeddings" => Endpoint::Embeddings,
        "/v1/messages" => Endpoint::Messages,
        "/v1/messages/count_tokens" => Endpoint::CountTokens,
        _ => return gemini(path),
    };
    Some((endpoint, None))
}

/// The address of a Gemini call with its model replaced. Any other address, and one that would be none, stays.
pub(super) fn with_model(uri: &Uri, model: &str) -> Uri {
    let asked = uri.path_and_query().map_or("/", PathAndQuery::as_str);
    let (path, query) = match asked.split_once('?') {
        Some((path, _)) => asked.split_at(path.len()),
        None => (asked, ""),
    };
    let replaced = gemini(path).filter(|(_, named)| *named != Some(model));
    let replaced = replaced.and_then(|(_, named)| {
        let (before, verb) = path.rsplit_once(':')?;
        let before = before.strip_suffix(named?)?;
        let path = format!("{before}{model}:{verb}{query}");
        gemini(path.split('?').next()?)?;
        Uri::try_from(path).ok()
    });
    replaced.unwrap_or_else(|| uri.clone())
}

fn gemini(path: &str) -> Option<(Endpoint, Option<&str>)> {
    let rest = path
        .strip_prefix("/v1beta/models/")
        .or_else(|| path.strip_prefix("/v1/models/"))?;
    let (model, verb) = rest.rsplit_once(':')?;
    let endpoint = match verb {
        "generateContent" => Endpoint::GenerateContent,
        "streamGenerateContent" => Endpoint::StreamGenerateContent,
        _ => return None,
    };
    let plain = !model.is_empty() && !model.contains(['/', '%', ';']);
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
mod tests {
    use super::*;

    fn request(method: Method, uri: &str) -> Request<()> {
        Request::builder().method(method).uri(uri).body(()).unwrap()
    }

    #[test]
    fn calls_are_told_by_method_and_path() {
        let post = |uri| request(Method::POST, uri);
        let cases = [
            ("/v1/chat/completions", Endpoint::ChatCompletions, None),
            ("/v1/responses?x=1", Endpoint::Responses, None),
            ("/v1/completions", Endpoint::Completions, None),
            ("/v1/embeddings", Endpoint::Embeddings, None),
            ("/v1/messages", Endpoint::Messages, None),
            ("/v1/messages/count_tokens", Endpoint::CountTokens, None),
            (
                "/v1beta/models/gemini-2.5-pro:generateContent",
                Endpoint::GenerateContent,
                Some("gemini-2.5-pro"),
            ),
            (
                "/v1/models/g:streamGenerateContent?alt=sse",
                Endpoint::StreamGenerateContent,
                Some("g"),
            ),
        ];
        for (uri, endpoint, model) in cases {
            let path_model = model.map(Box::from);
            let asked = Asked {
                endpoint,
                path_model,
            };
            assert_eq!(destination(&post(uri)), Destination::Sized(asked), "{uri}");
        }
    }

    #[test]
    fn the_model_of_a_path_is_replaced_and_nothing_else() {
        for (uri, expected) in [
            (
                "/v1beta/models/pro:generateContent?key=a:b",
                "/v1beta/models/flash-2:generateContent?key=a:b",
            ),
            (
                "/v1/models/models:streamGenerateContent?alt=sse",
                "/v1/models/flash-2:streamGenerateContent?alt=sse",
            ),
            ("/v1beta/models", "/v1beta/models"),
        ] {
            let uri: Uri = uri.parse().unwrap();
            assert_eq!(with_model(&uri, "flash-2"), expected);
        }
        let uri: Uri = "/v1beta/models/pro:generateContent".parse().unwrap();
        for other in ["pro", "a/b", "a?b", "a b"] {
            assert_eq!(with_model(&uri, other), uri, "{other}");
        }
    }

    #[test]
    fn the_rest_passes_or_is_unknown() {
        let to = |method, uri, header: Option<&'static str>| {
            let mut request = request(method, uri);
            if let Some(name) = header {
                request.headers_mut().insert(name, "x".parse().unwrap());
            }
            format!("{:?}", destination(&request))
        };
        assert_eq!(to(Method::GET, "/v1/models", None), "Passing(OpenAi)");
        assert_eq!(
            to(Method::GET, "/v1/chat/completions", None),
            "Passing(OpenAi)"
        );
        assert_eq!(
            to(Method::GET, "/v1/models", Some("anthropic-version")),
            "Passing(Anthropic)"
        );
        assert_eq!(to(Method::GET, "/v1beta/models", None), "Passing(Gemini)");
        assert_eq!(
            to(Method::POST, "/v1beta/models/a/b:generateContent", None),
            "Passing(Gemini)"
        );
        assert_eq!(to(Method::POST, "/tallygate/v1/reserve", None), "Decision");
        for disguised in [
            "/v1/chat/completions/",
            "/v1//chat/completions",
            "/v1/Chat/completions",
            "/v1/%63hat/completions",
            "/v1/files/../chat/completions",
            "/v1/../../other/account",
            "/v1/%2e%2e/admin",
        ] {
            assert_eq!(
                to(Method::POST, disguised, None),
                "Unknown(OpenAi)",
                "{disguised}"
            );
        }
        for disguised in [
            "/v1beta/models/gemini-2.5-pr%6F:generateContent",
            "/v1beta/models/gemini-2.5-pro%3AgenerateContent",
            "/v1beta//models/gemini-2.5-pro:streamGenerateContent",
        ] {
            assert_eq!(
                to(Method::POST, disguised, None),
                "Unknown(Gemini)",
                "{disguised}"
            );
        }
        assert_eq!(
            to(Method::GET, "/v1/models/ft%3Agpt-4o%3Aorg", None),
            "Passing(OpenAi)"
        );
        assert_eq!(to(Method::GET, "/", None), "Unknown(OpenAi)");
        assert_eq!(
            to(Method::GET, "/v2/x", Some("anthropic-version")),
            "Unknown(Anthropic)"
        );
    }
}
