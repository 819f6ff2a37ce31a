//! What answers are made of.

use serde_json::{Map, Value, json};
use tallygate_core::{Amounts, Metrics, Outcome, Receipt, Standing};

use crate::wire::millis;

/// The amounts that are not zero, by the names of their metrics.
pub(super) fn amounts(amounts: &Amounts, metrics: &Metrics) -> Value {
    let told = amounts
        .iter()
        .map(|(metric, amount)| (metrics.name(metric).to_string(), amount.into()));
    Value::Object(told.collect::<Map<_, _>>())
}

/// Where each limit stands.
pub(super) fn standings(standings: &[Standing]) -> Value {
    standings.iter().map(standing).collect()
}

fn standing(standing: &Standing) -> Value {
    let limit = &standing.limit;
    json!({
        "name": &*limit.name,
        "metric": &*limit.metric_name,
        "limit": limit.amount,
        "remaining": standing.remaining,
        "reset_ms": millis(standing.reset),
        "window": limit.window(),
    })
}

/// How a reservation ended and what that did.
pub(super) fn receipt(receipt: &Receipt, metrics: &Metrics) -> Value {
    json!({
        "outcome": outcome(receipt.outcome),
        "charged": amounts(&receipt.charged, metrics),
        "returned": amounts(&receipt.returned, metrics),
        "debt": amounts(&receipt.debt, metrics),
    })
}

/// How a reservation will have ended once the store hears of it.
pub(super) fn kept(to_be: Outcome) -> Value {
    json!({ "outcome": "kept", "to_be": outcome(to_be) })
}

/// The word for an outcome.
pub(super) fn outcome(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Settled => "settled",
        Outcome::Cancelled => "cancelled",
        Outcome::Expired => "expired",
    }
}
