//! What callers read when the server itself speaks: errors, denials and rate-limit headers, each in the caller's dialect, so
//! that stock SDKs do the right thing.
//!
//! What SDKs do on 429 was observed (openai and anthropic for Python and JavaScript, LangChain, Vercel `ai`, google-genai;
//! November 2026): they obey `retry-after-ms`, then `retry-after`, and `x-should-retry: false`. So a short wait is told exactly
//! and never as zero, and a wait nobody should sit out says that it is not to be retried.

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderName, HeaderValue, RETRY_AFTER};
use http::{HeaderMap, Response, StatusCode};
use serde_json::Value;
use tallygate_core::text::printable_json;
use tallygate_core::{Amounts, Time};
use tallygate_tokens::{Dialect, Endpoint};

mod anthropic;
mod decision;
mod denial;
mod error;
mod gemini;
mod limits;
mod openai;
mod wait;

pub use error::ApiError;
pub use limits::{add_standings, set_aside_upstream_limits};
pub use wait::{
    LONG_WAIT, StampError, Wait, go_duration, millis, read_stamp, rfc3339, stamp_rfc3339,
};

/// Whose language an answer speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Voice {
    /// A provider's, as the gateway's callers expect.
    Dialect(Dialect),
    /// The decision API's own.
    Decision,
}

/// What an answer is about.
#[derive(Clone, Copy, Debug)]
pub struct Ask<'a> {
    /// Whose language to speak.
    pub voice: Voice,
    /// The model asked for, as the caller spelt it; empty where there is none.
    pub model: &'a str,
    /// What was asked of the limits.
    pub demand: &'a Amounts,
    /// Names the request in answer and log; also decides the jitter of its wait.
    pub request_id: &'a str,
    /// When the answer is given.
    pub now: Time,
}

/// The whole answer to a request that failed or was denied.
#[must_use]
pub fn error(error: &ApiError, ask: &Ask<'_>) -> Response<Bytes> {
    let body = body(error, ask);
    // Messages repeat what was asked for, and are read at terminals and in logs.
    let body = printable_json(&body.to_string()).into_owned();
    let mut response = Response::new(Bytes::from(body));
    *response.status_mut() = status(error, ask.voice);
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    add_request_id(headers, ask);
    add_wait(headers, error, ask);
    if let Some(standings) = error.standings() {
        add_standings(headers, ask.voice, standings, ask.now);
    }
    response
}

/// The event that tells a streaming caller that its answer ends here, in the form of `endpoint`'s events. A Gemini stream that
/// is a JSON array (`alt` is not `sse`) has no such form.
#[must_use]
pub fn stream_error(error: &ApiError, ask: &Ask<'_>, endpoint: Endpoint) -> Bytes {
    let event = match endpoint {
        Endpoint::Responses => format!(
            "event: error\ndata: {}\n\n",
            openai::response_event(error, ask)
        ),
        Endpoint::Messages | Endpoint::CountTokens => {
            format!("event: error\ndata: {}\n\n", anthropic::body(error, ask))
        }
        Endpoint::GenerateContent | Endpoint::StreamGenerateContent => {
            format!("data: {}\r\n\r\n", gemini::body(error, ask))
        }
        Endpoint::ChatCompletions | Endpoint::Completions | Endpoint::Embeddings => {
            format!("data: {}\n\n", openai::body(error, ask))
        }
    };
    Bytes::from(event)
}

fn body(error: &ApiError, ask: &Ask<'_>) -> Value {
    match ask.voice {
        Voice::Dialect(Dialect::OpenAi) => openai::body(error, ask),
        Voice::Dialect(Dialect::Anthropic) => anthropic::body(error, ask),
        Voice::Dialect(Dialect::Gemini) => gemini::body(error, ask),
        Voice::Decision => decision::body(error, ask),
    }
}

fn status(error: &ApiError, voice: Voice) -> StatusCode {
    match (error, voice) {
        (ApiError::Never(_), Voice::Decision) => StatusCode::UNPROCESSABLE_ENTITY,
        _ => error.status(),
    }
}

fn add_request_id(headers: &mut HeaderMap, ask: &Ask<'_>) {
    let name = match ask.voice {
        Voice::Dialect(Dialect::Anthropic) => HeaderName::from_static("request-id"),
        _ => HeaderName::from_static("x-request-id"),
    };
    if let Ok(value) = HeaderValue::from_str(ask.request_id) {
        headers.insert(name, value);
    }
}

/// `retry-after-ms`, `retry-after` and `x-should-retry`, as far as each has something true to say.
fn add_wait(headers: &mut HeaderMap, error: &ApiError, ask: &Ask<'_>) {
    let wait = error.wait(ask);
    if let Some(wait) = wait {
        headers.insert(
            HeaderName::from_static("retry-after-ms"),
            wait.millis().into(),
        );
        headers.insert(RETRY_AFTER, wait.seconds().into());
    }
    let hopeless = matches!(error, ApiError::Never(_));
    if hopeless || wait.is_some_and(Wait::is_long) {
        headers.insert(
            HeaderName::from_static("x-should-retry"),
            HeaderValue::from_static("false"),
        );
    }
}
