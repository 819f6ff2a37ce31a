//! `GET /api/explain`: which limits apply to a caller, where they stand and what they promise, and what becomes of calls that
//! nobody can size.

use axum::Json;
use axum::extract::{RawQuery, State};
use axum::routing::get;
use http::StatusCode;
use serde_json::{Map, Value, json};
use tallygate_core::Standing;
use tallygate_store::{Regime, StoreError};

use super::{Admin, Administrator, Refused, Route, limits};
use crate::config::{Config, Went};
use crate::decision::pairs;
use crate::identify::MAX_LABEL_VALUE;
use crate::wire::millis;

/// Labels that a question may name.
const MAX_LABELS: usize = 32;

pub(super) fn routes() -> [Route; 1] {
    [("GET", "/api/explain", get(explain))]
}

async fn explain(
    State(admin): State<Admin>,
    _: Administrator,
    RawQuery(query): RawQuery,
) -> Result<Json<Value>, Refused> {
    let labels = labels(&admin, query.as_deref().unwrap_or_default())?;
    let setup = admin.server().pipeline().setup();
    let as_asked = setup.config().downgraded(Went::AsAsked);
    let as_asked = as_asked.filter(|(name, _)| labels.iter().all(|(label, _)| label != name));
    let subject: Vec<(&str, &str)> = labels
        .iter()
        .map(|(label, value)| (label.as_str(), value.as_str()))
        .chain(as_asked)
        .collect();
    let store = admin.server().store();
    let standings = store.peek(&subject).await?;
    let regimes = store.regimes(&subject);
    let overrides = admin.server().registrar().overrides();
    let told = standings.iter().enumerate().map(|(at, standing)| {
        let mut told = limits::told(&standing.limit, &overrides);
        stand(&mut told, standing);
        // The limits may have changed between the two questions.
        match regimes.get(at) {
            Some((name, regime)) if *name == standing.limit.name => decide(&mut told, *regime),
            _ => {}
        }
        told
    });
    let limits: Vec<Value> = told.collect();
    let models = servings(setup.config(), query.as_deref().unwrap_or_default());
    let named: Map<String, Value> = labels
        .iter()
        .map(|(label, value)| (label.clone(), value.as_str().into()))
        .collect();
    let mut told = json!({
        "subject": named,
        "store": setup.config().store().to_string(),
        "limits": limits,
        "unsized_calls": setup.config().unsized_calls(&subject),
    });
    if let Some(models) = models {
        told["models"] = models;
    }
    Ok(Json(told))
}

/// The models that would serve the one that is asked for.
fn servings(config: &Config, query: &str) -> Option<Value> {
    let all: Vec<(String, String)> = pairs(query).collect();
    let of = |name: &str| {
        let found = all.iter().rfind(|(label, _)| label == name);
        found.map(|(_, value)| value.as_str())
    };
    Some(json!(config.servings(of("tier"), of("model")?)))
}

fn labels(admin: &Admin, query: &str) -> Result<Vec<(String, String)>, Refused> {
    let mut labels: Vec<(String, String)> = Vec::new();
    let mut model = None;
    for (label, value) in pairs(query) {
        if value.len() > MAX_LABEL_VALUE || labels.len() >= MAX_LABELS {
            let message = "at most 32 labels of at most 256 bytes can be asked for";
            return Err(Refused::invalid(message, Some(&label)));
        }
        match label.as_str() {
            "model" => model = Some(value),
            _ => labels.push((label, value)),
        }
    }
    let Some(model) = model else {
        return Ok(labels);
    };
    let setup = admin.server().pipeline().setup();
    let of_call = setup.config().labels_of_call(&model).map_err(|error| {
        Refused::invalid(error.to_string(), Some("model"))
            .mend("name a model that one of the `upstreams` serves")
    })?;
    for (label, value) in of_call {
        if labels.iter().all(|(given, _)| given != label) {
            labels.push((label.to_owned(), value));
        }
    }
    Ok(labels)
}

fn stand(told: &mut Value, standing: &Standing) {
    told["remaining"] = standing.remaining.into();
    told["used"] = standing.used.into();
    told["debt"] = standing.debt.into();
    told["reset_ms"] = millis(standing.reset).into();
}

fn decide(told: &mut Value, regime: Regime) {
    match regime {
        Regime::Leased { share, left } => {
            told["regime"] = "leased".into();
            told["share"] = share.into();
            told["share_left"] = left.into();
        }
        _ => told["regime"] = "exact".into(),
    }
}

impl From<StoreError> for Refused {
    fn from(error: StoreError) -> Self {
        Self::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "store_down",
            error.to_string(),
        )
    }
}
