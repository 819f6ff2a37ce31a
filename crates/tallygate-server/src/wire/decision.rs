//! Errors and denials in the decision API's own words.

use serde_json::{Map, Value, json};
use tallygate_core::{Metric, Standing};

use super::Ask;
use super::error::{ApiError, instant};
use super::wait::Wait;

pub(super) fn body(error: &ApiError, _: &Ask<'_>) -> Value {
    match error {
        ApiError::Denied(denial) => json!({
            "decision": "deny",
            "blocked_by": denial.blocked_by.iter().map(blocked).collect::<Vec<_>>(),
            "retry_after_ms": Wait::exact(denial.retry_after).millis(),
            "retry_at": instant(denial),
        }),
        ApiError::Never(never) => json!({
            "decision": "never",
            "blocked_by": never.blocked_by.iter().map(too_small).collect::<Vec<_>>(),
            "largest_admissible": largest(&never.largest, &never.blocked_by),
        }),
        ApiError::Ended { receipt, .. } => receipt.clone(),
        _ => plain(error),
    }
}

fn plain(error: &ApiError) -> Value {
    let mut told = Map::new();
    told.insert("type".to_owned(), error.reason().into());
    told.insert("message".to_owned(), error.to_string().into());
    if let ApiError::Invalid {
        field: Some(field), ..
    } = error
    {
        told.insert("field".to_owned(), field.as_str().into());
    }
    json!({ "error": told })
}

fn blocked(standing: &Standing) -> Value {
    json!({
        "name": *standing.limit.name,
        "metric": *standing.limit.metric_name,
        "limit": standing.limit.amount,
        "remaining": standing.remaining,
    })
}

fn too_small(standing: &Standing) -> Value {
    json!({ "name": *standing.limit.name, "metric": *standing.limit.metric_name, "limit": standing.limit.amount })
}

/// The metrics are named as the limits in the way name them; each of them is one of theirs.
fn largest(largest: &[(Metric, u64)], blocked_by: &[Standing]) -> Value {
    let mut named = Map::new();
    for (metric, most) in largest {
        if let Some(standing) = blocked_by
            .iter()
            .find(|standing| standing.limit.metric == *metric)
        {
            named.insert(standing.limit.metric_name.to_string(), (*most).into());
        }
    }
    Value::Object(named)
}
