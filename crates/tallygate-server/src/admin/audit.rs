//! `GET /api/audit`: what administrators did.

use axum::Json;
use axum::extract::{RawQuery, State};
use axum::routing::get;
use serde_json::{Map, Value, json};
use tallygate_core::Time;
use tallygate_store::registry::{AuditEntry, AuditPage, Stamp};

use super::{Admin, Administrator, Refused, Route};
use crate::decision::pairs;
use crate::wire::rfc3339;

/// Entries of one answer.
const MOST: usize = 1_000;
const USUAL: usize = 100;

/// Fields of an entry's detail that are instants.
const INSTANTS: [&str; 3] = ["expires", "until", "old_key_until"];

pub(super) fn routes() -> [Route; 1] {
    [("GET", "/api/audit", get(list))]
}

async fn list(
    State(admin): State<Admin>,
    _: Administrator,
    RawQuery(query): RawQuery,
) -> Result<Json<Value>, Refused> {
    let page = page(query.as_deref().unwrap_or_default())?;
    let entries = admin.server().registrar().audit(page).await?;
    // There are older ones only if the page is full.
    let next = entries.last().filter(|_| entries.len() == page.limit);
    Ok(Json(json!({
        "audit": entries.iter().map(told).collect::<Vec<_>>(),
        "before": next.map(|entry| entry.seq),
    })))
}

fn page(query: &str) -> Result<AuditPage, Refused> {
    let mut page = AuditPage {
        before: None,
        limit: USUAL,
    };
    for (name, value) in pairs(query) {
        let number = value.parse::<u64>().ok();
        let wrong =
            |wanted: &str| Refused::invalid(format!("`{name}` must be {wanted}"), Some(&name));
        match name.as_str() {
            "before" => page.before = Some(number.ok_or_else(|| wrong("an entry's number"))?),
            "limit" => {
                let limit = number.and_then(|number| usize::try_from(number).ok());
                let limit = limit.filter(|limit| (1..=MOST).contains(limit));
                page.limit = limit.ok_or_else(|| wrong("an integer from 1 to 1000"))?;
            }
            _ => {
                return Err(Refused::invalid(
                    format!("unknown parameter `{name}`"),
                    Some(&name),
                ));
            }
        }
    }
    Ok(page)
}

fn told(entry: &AuditEntry) -> Value {
    json!({
        "seq": entry.seq,
        "at": rfc3339(entry.at.into()),
        "by": entry.by,
        "from": entry.from,
        "action": entry.action,
        "target": entry.target,
        "detail": detail(&entry.detail),
    })
}

fn detail(detail: &Map<String, Value>) -> Value {
    let told = detail.iter().map(|(name, value)| {
        let instant = value.as_u64().filter(|_| INSTANTS.contains(&name.as_str()));
        let value = instant.map_or_else(
            || value.clone(),
            |millis| rfc3339(Time::from(Stamp::from_millis(millis))).into(),
        );
        (name.clone(), value)
    });
    Value::Object(told.collect())
}
