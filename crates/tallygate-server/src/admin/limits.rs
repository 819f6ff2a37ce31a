//! `GET /api/limits`: all limits in force.

use axum::Json;
use axum::extract::State;
use axum::routing::get;
use serde_json::{Value, json};
use tallygate_core::{LimitInfo, Mode, StoreDown};
use tallygate_store::registry::Override;

use super::{Admin, Administrator, Route, overrides};

pub(super) fn routes() -> [Route; 1] {
    [("GET", "/api/limits", get(list))]
}

async fn list(State(admin): State<Admin>, _: Administrator) -> Json<Value> {
    let registrar = admin.server().registrar();
    let overrides = registrar.overrides();
    let policy = registrar.policy();
    let told: Vec<Value> = policy
        .limits()
        .map(|limit| told(limit, &overrides))
        .collect();
    Json(json!({ "limits": told }))
}

/// A limit as it is in force.
pub(super) fn told(limit: &LimitInfo, overrides: &[Override]) -> Value {
    let set = overrides
        .iter()
        .find(|set| *set.limit == *limit.name && *set.metric == *limit.metric_name);
    let mut told = json!({
        "name": &*limit.name,
        "metric": &*limit.metric_name,
        "limit": limit.amount,
        "burst": limit.burst,
        "window": limit.window(),
        "shape": limit.shape.word(),
        "mode": match limit.mode { Mode::Enforce => "enforce", Mode::Shadow => "shadow" },
        "store_down": match limit.store_down {
            StoreDown::Closed => "closed",
            StoreDown::Open => "open",
            StoreDown::Share => "share",
        },
        "promise": limit.promise(),
    });
    if let Some(set) = set {
        told["override"] = overrides::told(set);
    }
    told
}
