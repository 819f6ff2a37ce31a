//! What answers are made of.

use std::sync::Arc;

use serde_json::{Map, Value, json};
use tallygate_core::{Amounts, Metrics, Outcome, Receipt, Standing};
use tallygate_store::Regime;

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

/// Where each limit stands, and how it is decided at this instance where there is more than one way.
pub(super) fn limits(standings: &[Standing], regimes: &[(Arc<str>, Regime)]) -> Value {
    let told = standings.iter().enumerate().map(|(place, standing)| {
        let mut told = self::standing(standing);
        // The limits may have changed between the two questions.
        let same = |(name, _): &&(Arc<str>, Regime)| *name == standing.limit.name;
        match regimes.get(place).filter(same) {
            Some((_, Regime::Exact)) => told["regime"] = "exact".into(),
            Some((_, Regime::Leased { share, left })) => {
                told["regime"] = "leased".into();
                told["share"] = (*share).into();
                told["share_left"] = (*left).into();
            }
            _ => {}
        }
        told
    });
    told.collect()
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
