//! Errors as Anthropic writes them: `{"type": "error", "error": {"type", "message"}, "request_id"}`.

use serde_json::{Value, json};

use super::Ask;
use super::denial::{binding, reached, too_large};
use super::error::ApiError;
use super::openai::sentence;

pub(super) fn body(error: &ApiError, ask: &Ask<'_>) -> Value {
    json!({
        "type": "error",
        "error": { "type": kind(error), "message": message(error, ask) },
        "request_id": ask.request_id,
    })
}

/// Types by status: Anthropic's documentation of errors.
fn kind(error: &ApiError) -> &'static str {
    match error.status().as_u16() {
        401 => "authentication_error",
        403 => "permission_error",
        404 => "not_found_error",
        413 => "request_too_large",
        429 => "rate_limit_error",
        503 if matches!(error, ApiError::Full(_)) => "overloaded_error",
        500.. => "api_error",
        _ => "invalid_request_error",
    }
}

fn message(error: &ApiError, ask: &Ask<'_>) -> String {
    let said = match error {
        ApiError::Denied(denial) => binding(&denial.blocked_by)
            .zip(error.wait(ask))
            .map(|(standing, wait)| reached(standing, ask, wait)),
        ApiError::Never(never) => {
            binding(&never.blocked_by).map(|standing| too_large(standing, ask, &never.largest))
        }
        ApiError::Invalid {
            field: Some(field),
            message,
        } if !message.contains(field.as_str()) => {
            // As Anthropic does, the field goes first.
            Some(format!("{field}: {message}"))
        }
        _ => None,
    };
    said.unwrap_or_else(|| sentence(error))
}
