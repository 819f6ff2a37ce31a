//! Errors as Google writes them: `{"error": {"code", "message", "status", "details"}}`.

use serde_json::{Value, json};
use tallygate_core::Standing;

use super::Ask;
use super::denial::{binding, reached, too_large};
use super::error::ApiError;
use super::openai::sentence;
use super::wait::{Wait, seconds_text};

pub(super) fn body(error: &ApiError, ask: &Ask<'_>) -> Value {
    let code = error.status().as_u16();
    let mut told = json!({ "code": code, "message": message(error, ask), "status": status(code) });
    let details = details(error, ask);
    if !details.is_empty() {
        told["details"] = Value::Array(details);
    }
    json!({ "error": told })
}

/// Google's canonical codes by HTTP status (google.rpc.Code).
fn status(code: u16) -> &'static str {
    match code {
        401 => "UNAUTHENTICATED",
        403 => "PERMISSION_DENIED",
        404 => "NOT_FOUND",
        409 => "ABORTED",
        429 => "RESOURCE_EXHAUSTED",
        500 => "INTERNAL",
        502 | 503 => "UNAVAILABLE",
        408 | 504 => "DEADLINE_EXCEEDED",
        _ => "INVALID_ARGUMENT",
    }
}

fn message(error: &ApiError, ask: &Ask<'_>) -> String {
    let said = match error {
        ApiError::Denied(denial) => {
            binding(&denial.blocked_by)
                .zip(error.wait(ask))
                .map(|(standing, wait)| {
                    // Google's clients look for "Please retry in 46s.".
                    format!(
                        "{} Please retry in {}.",
                        reached(standing, ask, wait),
                        delay(wait)
                    )
                })
        }
        ApiError::Never(never) => {
            binding(&never.blocked_by).map(|standing| too_large(standing, ask, &never.largest))
        }
        _ => None,
    };
    said.unwrap_or_else(|| sentence(error))
}

fn details(error: &ApiError, ask: &Ask<'_>) -> Vec<Value> {
    let quota = error.standings().map(|standings| {
        let violations: Vec<Value> = standings
            .iter()
            .map(|standing| violation(standing, ask))
            .collect();
        json!({ "@type": "type.googleapis.com/google.rpc.QuotaFailure", "violations": violations })
    });
    let retry = error.wait(ask).map(|wait| {
        json!({ "@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": delay(wait) })
    });
    quota.into_iter().chain(retry).collect()
}

fn violation(standing: &Standing, ask: &Ask<'_>) -> Value {
    json!({
        "quotaMetric": *standing.limit.metric_name,
        "quotaId": *standing.limit.name,
        "quotaDimensions": { "model": ask.model },
        "quotaValue": standing.limit.amount.to_string(),
    })
}

/// A protobuf duration in JSON.
fn delay(wait: Wait) -> String {
    format!("{}s", seconds_text(wait.millis()))
}
