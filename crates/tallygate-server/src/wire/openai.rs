//! Errors as OpenAI writes them: `{"error": {"message", "type", "param", "code"}}`.

use serde_json::{Value, json};
use tallygate_core::{Metric, Standing};

use super::Ask;
use super::denial::{binding, exhausted, reached, too_large};
use super::error::ApiError;
use crate::identify::Rejection;

pub(super) fn body(error: &ApiError, ask: &Ask<'_>) -> Value {
    let said = Said::of(error, ask);
    json!({ "error": { "message": said.message, "type": said.kind, "param": said.param, "code": said.code } })
}

/// The Responses API has an event of its own.
pub(super) fn response_event(error: &ApiError, ask: &Ask<'_>) -> Value {
    let said = Said::of(error, ask);
    json!({ "type": "error", "code": said.code.unwrap_or(said.kind), "message": said.message, "param": said.param })
}

struct Said {
    message: String,
    kind: &'static str,
    param: Option<String>,
    code: Option<&'static str>,
}

const INVALID: &str = "invalid_request_error";
const SERVER: &str = "server_error";

impl Said {
    fn of(error: &ApiError, ask: &Ask<'_>) -> Self {
        match error {
            ApiError::Denied(denial) => Self::denied(&denial.blocked_by, error, ask),
            ApiError::Never(never) => {
                let standing = binding(&never.blocked_by);
                let message = standing.map(|standing| too_large(standing, ask, &never.largest));
                Self::limited(standing, message.unwrap_or_else(|| error.to_string()))
            }
            _ => Self::plain(error),
        }
    }

    fn denied(blocked_by: &[Standing], error: &ApiError, ask: &Ask<'_>) -> Self {
        let (Some(standing), Some(wait)) = (binding(blocked_by), error.wait(ask)) else {
            return Self::limited(None, error.to_string());
        };
        if wait.is_long() && standing.limit.is_quota() {
            let message = exhausted(standing, ask, wait);
            return Self {
                message,
                kind: QUOTA,
                param: None,
                code: Some(QUOTA),
            };
        }
        Self::limited(Some(standing), reached(standing, ask, wait))
    }

    fn limited(standing: Option<&Standing>, message: String) -> Self {
        let kind = standing.map_or("requests", |standing| kind_of(standing.limit.metric));
        Self {
            message,
            kind,
            param: None,
            code: Some("rate_limit_exceeded"),
        }
    }

    fn plain(error: &ApiError) -> Self {
        let (kind, code) = kind_and_code(error);
        let param = match error {
            ApiError::Invalid { field, .. } => field.clone(),
            ApiError::Forbidden(_) | ApiError::NoRoute(_) | ApiError::Unpriced(_) => {
                Some("model".to_owned())
            }
            _ => None,
        };
        Self {
            message: sentence(error),
            kind,
            param,
            code,
        }
    }
}

const QUOTA: &str = "insufficient_quota";

/// OpenAI knows two types of limits; what is not of tokens is of requests.
fn kind_of(metric: Metric) -> &'static str {
    match metric {
        Metric::TOKENS | Metric::INPUT_TOKENS | Metric::OUTPUT_TOKENS => "tokens",
        _ => "requests",
    }
}

fn kind_and_code(error: &ApiError) -> (&'static str, Option<&'static str>) {
    match error {
        ApiError::Rejected(Rejection::Unknown | Rejection::Revoked | Rejection::Expired) => {
            (INVALID, Some("invalid_api_key"))
        }
        ApiError::Invalid { .. } | ApiError::Rejected(_) => (INVALID, None),
        ApiError::Role(_) => (INVALID, Some("insufficient_permissions")),
        ApiError::Forbidden(_) | ApiError::NoRoute(_) => (INVALID, Some("model_not_found")),
        ApiError::Unpriced(_) => (INVALID, Some("model_not_priced")),
        ApiError::Unsized { .. } => (INVALID, Some("unsized_call")),
        ApiError::NoPath(_) | ApiError::Misspelt { .. } => (INVALID, Some("unknown_url")),
        ApiError::Method { .. } => (INVALID, Some("method_not_supported")),
        ApiError::TooLarge(_) => (INVALID, Some("request_too_large")),
        ApiError::TooSlow(_) => (INVALID, Some("request_timeout")),
        ApiError::CutOff => ("tokens", Some("rate_limit_exceeded")),
        ApiError::UnknownReservation | ApiError::Ended { .. } => (INVALID, Some("reservation")),
        other => (SERVER, Some(other.reason())),
    }
}

/// An error's message as a sentence of its own. A field's path that it starts with keeps its spelling.
pub(super) fn sentence(error: &ApiError) -> String {
    let fragment = error.to_string();
    let end = if fragment.ends_with('.') { "" } else { "." };
    if let ApiError::Invalid {
        field: Some(field), ..
    } = error
        && fragment.starts_with(field.as_str())
    {
        return format!("{fragment}{end}");
    }
    let mut letters = fragment.chars();
    let first: String = letters
        .next()
        .map(|letter| letter.to_uppercase().collect())
        .unwrap_or_default();
    format!("{first}{}{end}", letters.as_str())
}
