//! Answers that are errors, in the form of each dialect.

use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use serde_json::{Value, json};
use tallygate_tokens::Dialect;

use super::asked::BadCall;
use super::ledger::Refusal;
use super::switches::Failure;
use crate::limit::{Fit, MockLimit, MockMetric};

/// Why a call is not answered.
#[derive(Debug, Clone)]
pub(crate) enum Problem {
    /// No key, or an unknown one.
    UnknownKey,
    UnknownPath,
    WrongMethod,
    TooLarge,
    /// The body did not arrive whole.
    BrokenBody,
    /// `content-type` is not JSON.
    NotJson,
    Bad(BadCall),
    /// A limit refuses; the model is named in the message.
    Limited(Box<Refusal>, String),
    /// A switch wants this status.
    Switched(Failure),
    /// The books are full.
    Full,
}

impl Problem {
    /// A server error while answering.
    pub(crate) const FAILED: Self = Self::Switched(Failure::of(500));

    pub(crate) fn status(&self) -> StatusCode {
        match self {
            Self::UnknownKey => StatusCode::UNAUTHORIZED,
            Self::UnknownPath => StatusCode::NOT_FOUND,
            Self::WrongMethod => StatusCode::METHOD_NOT_ALLOWED,
            Self::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Self::NotJson => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Self::BrokenBody | Self::Bad(_) => StatusCode::BAD_REQUEST,
            Self::Limited(..) => StatusCode::TOO_MANY_REQUESTS,
            Self::Switched(failure) => {
                StatusCode::from_u16(failure.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
            }
            Self::Full => StatusCode::SERVICE_UNAVAILABLE,
        }
    }

    /// The body in `dialect`.
    pub(crate) fn body(&self, dialect: Dialect, request_id: &str) -> String {
        match dialect {
            Dialect::OpenAi => self.openai(),
            Dialect::Anthropic => self.anthropic(request_id),
            Dialect::Gemini => self.gemini(),
        }
        .to_string()
    }

    /// Adds `retry-after`, `retry-after-ms` and `x-should-retry` where they apply.
    pub(crate) fn headers(&self, dialect: Dialect, headers: &mut HeaderMap) {
        if let Self::Switched(Failure {
            should_retry: Some(should),
            ..
        }) = self
        {
            let value = if *should { "true" } else { "false" };
            headers.insert(
                HeaderName::from_static("x-should-retry"),
                HeaderValue::from_static(value),
            );
        }
        let Some(wait) = self.wait() else { return };
        headers.insert(
            header::RETRY_AFTER,
            HeaderValue::from(seconds_up(wait).max(1)),
        );
        if dialect == Dialect::OpenAi || matches!(self, Self::Switched(_)) {
            let millis = u64::try_from(wait.as_nanos().div_ceil(1_000_000)).unwrap_or(u64::MAX);
            headers.insert(
                HeaderName::from_static("retry-after-ms"),
                HeaderValue::from(millis),
            );
        }
    }

    fn wait(&self) -> Option<Duration> {
        match self {
            Self::Limited(refusal, _) => match refusal.fit {
                Fit::After(wait) => Some(wait),
                Fit::Now | Fit::Never => None,
            },
            Self::Switched(failure) => failure.retry_after,
            _ => None,
        }
    }

    fn message(&self) -> String {
        match self {
            Self::UnknownKey => "Incorrect API key provided.".to_owned(),
            Self::UnknownPath => "Invalid URL".to_owned(),
            Self::WrongMethod => "Not allowed to use this method on this URL.".to_owned(),
            Self::TooLarge => "Request body too large.".to_owned(),
            Self::BrokenBody => "The request body could not be read.".to_owned(),
            Self::NotJson => "Unsupported content type; use application/json.".to_owned(),
            Self::Bad(bad) => bad.message.clone(),
            Self::Limited(refusal, model) => limited(refusal, model),
            Self::Switched(Failure { status: 429, .. }) => {
                "Rate limit reached, by a switch of the mock.".to_owned()
            }
            Self::Switched(failure) => {
                format!("Status {}, by a switch of the mock.", failure.status)
            }
            Self::Full => "The mock holds no more accounts.".to_owned(),
        }
    }

    /// `{"error":{"message","type","param","code"}}`.
    fn openai(&self) -> Value {
        let (kind, code) = match self {
            Self::UnknownKey => ("invalid_request_error", Some("invalid_api_key")),
            Self::Limited(refusal, _) if refusal.limit.metric == MockMetric::Requests => {
                ("requests", Some("rate_limit_exceeded"))
            }
            Self::Limited(..) => ("tokens", Some("rate_limit_exceeded")),
            Self::Switched(Failure { status: 429, .. }) => {
                ("requests", Some("rate_limit_exceeded"))
            }
            _ if self.status().is_server_error() => ("server_error", None),
            _ => ("invalid_request_error", None),
        };
        let param = if let Self::Bad(bad) = self {
            bad.param
        } else {
            None
        };
        json!({ "error": { "message": self.message(), "type": kind, "param": param, "code": code } })
    }

    /// `{"type":"error","error":{"type","message"},"request_id"}`.
    fn anthropic(&self, request_id: &str) -> Value {
        let kind = match self.status().as_u16() {
            401 => "authentication_error",
            402 => "billing_error",
            403 => "permission_error",
            404 => "not_found_error",
            413 => "request_too_large",
            429 => "rate_limit_error",
            529 => "overloaded_error",
            400..=499 => "invalid_request_error",
            _ => "api_error",
        };
        let error = json!({ "type": kind, "message": self.message() });
        json!({ "type": "error", "error": error, "request_id": request_id })
    }

    /// `{"error":{"code","message","status","details"}}`.
    fn gemini(&self) -> Value {
        let code = self.status().as_u16();
        let status = match code {
            401 => "UNAUTHENTICATED",
            403 => "PERMISSION_DENIED",
            404 => "NOT_FOUND",
            429 => "RESOURCE_EXHAUSTED",
            503 => "UNAVAILABLE",
            400..=499 => "INVALID_ARGUMENT",
            _ => "INTERNAL",
        };
        let mut error = json!({ "code": code, "message": self.message(), "status": status });
        if let Some(wait) = self.wait() {
            let wait = seconds_up(wait);
            error["message"] = format!("{} Please retry in {wait}s.", self.message()).into();
            error["details"] = json!([
                { "@type": "type.googleapis.com/google.rpc.QuotaFailure", "violations": [] },
                { "@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": format!("{wait}s") },
            ]);
        }
        json!({ "error": error })
    }
}

/// The message of OpenAI's that clients take apart.
fn limited(refusal: &Refusal, model: &str) -> String {
    let (limit, on) = (refusal.limit.amount, name(&refusal.limit));
    match refusal.fit {
        Fit::After(wait) => format!(
            "Rate limit reached for {model} in organization org-mock on {on}: Limit {limit}, Used {}, Requested {}. Please try again in {}.",
            refusal.used,
            refusal.requested,
            go_duration(wait)
        ),
        Fit::Now | Fit::Never => format!(
            "Request too large for {model} in organization org-mock on {on}: Limit {limit}, Requested {}. The input or output tokens must be reduced in order to run successfully.",
            refusal.requested
        ),
    }
}

/// As in "tokens per min (TPM)".
fn name(limit: &MockLimit) -> String {
    let (what, letters) = match limit.metric {
        MockMetric::Requests => ("requests", "R"),
        MockMetric::Tokens => ("tokens", "T"),
        MockMetric::InputTokens => ("input tokens", "IT"),
        MockMetric::OutputTokens => ("output tokens", "OT"),
    };
    match limit.every.as_secs() {
        1 => format!("{what} per sec ({letters}PS)"),
        60 => format!("{what} per min ({letters}PM)"),
        3_600 => format!("{what} per hour ({letters}PH)"),
        86_400 => format!("{what} per day ({letters}PD)"),
        _ => format!("{what} per {}", go_duration(limit.every)),
    }
}

/// Whole seconds, rounded up.
pub(crate) fn seconds_up(wait: Duration) -> u64 {
    wait.as_secs() + u64::from(wait.subsec_nanos() > 0)
}

/// As Go prints a duration, in milliseconds rounded up: `12ms`, `1s`, `18.642s`, `6m0s`, `1h2m3s`.
pub(crate) fn go_duration(wait: Duration) -> String {
    let millis = wait.as_nanos().div_ceil(1_000_000);
    let (hours, minutes, rest) = (millis / 3_600_000, millis / 60_000 % 60, millis % 60_000);
    let fraction = match rest % 1_000 {
        0 => String::new(),
        millis => format!(".{millis:03}").trim_end_matches('0').to_owned(),
    };
    let seconds = format!("{}{fraction}s", rest / 1_000);
    match (hours, minutes, millis) {
        (_, _, 1..=999) => format!("{millis}ms"),
        (0, 0, _) => seconds,
        (0, _, _) => format!("{minutes}m{seconds}"),
        _ => format!("{hours}h{minutes}m{seconds}"),
    }
}
