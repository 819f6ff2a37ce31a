//! `/api/overrides`: limits that are others for a while.

use axum::Json;
use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::extract::{Path, RawQuery, State};
use axum::routing::{delete, get, put};
use http::StatusCode;
use serde_json::{Value, json};
use tallygate_store::registry::{Change, Override, Stamp};

use super::{Admin, Administrator, Refused, Route};
use crate::config::Config;
use crate::decision::{Fields, pairs};
use crate::registrar::{Unfit, overridden};
use crate::wire::{read_stamp, stamp_rfc3339};

pub(super) fn routes() -> [Route; 4] {
    [
        ("GET", "/api/overrides", get(list)),
        ("GET", "/api/overrides/{limit}", get(of_limit)),
        ("PUT", "/api/overrides/{limit}", put(set)),
        ("DELETE", "/api/overrides/{limit}", delete(clear)),
    ]
}

async fn list(State(admin): State<Admin>, _: Administrator) -> Json<Value> {
    Json(shown(&admin, |_| true))
}

async fn of_limit(
    State(admin): State<Admin>,
    _: Administrator,
    Path(limit): Path<String>,
) -> Json<Value> {
    Json(shown(&admin, |set| set.limit == limit))
}

async fn set(
    State(admin): State<Admin>,
    who: Administrator,
    Path(limit): Path<String>,
    body: Result<Bytes, BytesRejection>,
) -> Result<Json<Value>, Refused> {
    let author = who.author(&admin);
    let setup = admin.server().pipeline().setup();
    let wanted = read(&body?, limit, setup.config(), author.at)?;
    overridden(setup.config().rules(), setup.config().metrics(), &wanted)?;
    let (limit, metric) = (wanted.limit.clone(), wanted.metric.clone());
    let change = Change::SetOverride(wanted);
    admin.change(change, &author).await?;
    Ok(Json(shown(&admin, |set| {
        set.limit == limit && set.metric == metric
    })))
}

async fn clear(
    State(admin): State<Admin>,
    who: Administrator,
    Path(limit): Path<String>,
    RawQuery(query): RawQuery,
) -> Result<Json<Value>, Refused> {
    let author = who.author(&admin);
    let mut metric = None;
    for (name, value) in pairs(query.as_deref().unwrap_or_default()) {
        match name.as_str() {
            "metric" => metric = Some(value),
            _ => {
                let message = format!("unknown parameter `{name}`");
                return Err(Refused::invalid(message, Some(&name)));
            }
        }
    }
    let shown_after = limit.clone();
    let change = Change::ClearOverride { limit, metric };
    admin.change(change, &author).await?;
    Ok(Json(shown(&admin, |set| set.limit == shown_after)))
}

/// Reads the body of a `PUT`. A rule that counts one metric need not have it named.
fn read(body: &[u8], limit: String, config: &Config, now: Stamp) -> Result<Override, Refused> {
    let mut fields = Fields::of_body(body)?;
    let metric = match fields.text("metric")? {
        Some(metric) => metric,
        None => only_metric(config, &limit)?,
    };
    let wanted = Override {
        amount: fields
            .amount("amount")?
            .ok_or_else(|| fields.missing("amount"))?,
        burst: fields.amount("burst")?,
        until: until(&mut fields, now)?,
        reason: fields.text("reason")?.unwrap_or_default(),
        since: now,
        by: String::new(),
        limit,
        metric,
    };
    fields.end()?;
    Ok(wanted)
}

fn only_metric(config: &Config, limit: &str) -> Result<String, Refused> {
    let rule = config.rules().iter().find(|rule| rule.name == limit);
    let rule = rule.ok_or_else(|| Unfit::NoLimit(limit.to_owned()))?;
    match &rule.limits[..] {
        [(metric, _, _)] => Ok(config.metrics().name(*metric).to_string()),
        several => {
            let names = several
                .iter()
                .map(|(metric, _, _)| config.metrics().name(*metric).to_string());
            let names: Vec<String> = names.collect();
            Err(
                Refused::invalid("the limit counts several metrics", Some("metric"))
                    .mend(format!("name one of: {}", names.join(", "))),
            )
        }
    }
}

fn until(fields: &mut Fields<'_>, now: Stamp) -> Result<Stamp, Refused> {
    let length = fields.millis("ttl_ms")?;
    match (fields.text("until")?, length) {
        (None, Some(length)) => Ok(now.plus(length)),
        (Some(text), None) => read_stamp(&text).map_err(|error| {
            Refused::invalid(format!("`until` {error}"), Some("until")).mend(error.mend())
        }),
        _ => Err(Refused::invalid(
            "an override needs its end: either `until` or `ttl_ms`",
            Some("until"),
        )
        .mend("what is to stay belongs into the configuration")),
    }
}

fn shown(admin: &Admin, wanted: impl Fn(&Override) -> bool) -> Value {
    let registrar = admin.server().registrar();
    let setup = admin.server().pipeline().setup();
    let now = admin.server().pipeline().stamp();
    let (records, in_force) = (registrar.records(), registrar.overrides());
    let live = records.overrides().filter(|set| set.until > now);
    let told = live.filter(|set| wanted(set)).map(|set| {
        let mut told = told(set);
        told["configured"] = configured(setup.config(), set).into();
        told["in_force"] = in_force.contains(set).into();
        told
    });
    json!({ "overrides": told.collect::<Vec<_>>() })
}

/// An override as it is shown.
pub(super) fn told(set: &Override) -> Value {
    json!({
        "limit": set.limit,
        "metric": set.metric,
        "amount": set.amount,
        "burst": set.burst,
        "since": stamp_rfc3339(set.since),
        "until": stamp_rfc3339(set.until),
        "by": set.by,
        "reason": set.reason,
    })
}

/// What the configuration says instead; `None` if it has no such limit any more.
fn configured(config: &Config, set: &Override) -> Option<u64> {
    let rule = config.rules().iter().find(|rule| rule.name == set.limit)?;
    let metric = config.metrics().find(&set.metric)?;
    let limit = rule
        .limits
        .iter()
        .find(|(counted, _, _)| *counted == metric);
    limit.map(|(_, amount, _)| *amount)
}

impl From<Unfit> for Refused {
    fn from(unfit: Unfit) -> Self {
        let message = unfit.to_string();
        match unfit {
            Unfit::NoLimit(_) => Self::new(StatusCode::NOT_FOUND, "unknown", message)
                .mend("GET /api/limits names all limits"),
            Unfit::NoMetric { .. } => Self::invalid(message, Some("metric")),
            Unfit::NoBurst(_) => Self::invalid(message, Some("burst")).mend("leave `burst` out"),
            Unfit::Policy(_) => Self::invalid(message, Some("amount")),
        }
    }
}
