//! Reading a whole file: the sections in an order in which each finds what it refers to.

use std::sync::Arc;

use tallygate_core::{METRICS, Metrics, Policy, Rule, StoreDown};

use super::alerts::Alerts;
use super::fields::{Fields, Known, Reading};
use super::limits::{self, Inherited, LIMIT_KEYS, Written};
use super::listeners::{self, Keyless};
use super::problem::{Kind, Problem};
use super::routes::Routes;
use super::tiers::{self, TiersWritten};
use super::tree::{Node, Value};
use super::unread::Budgets;
use super::{
    Config, ConfigErrors, bounds, check, keys, ledger, models, prices, store, upstream, webhooks,
};

const TOP: Known<'static> = Known {
    what: "a configuration",
    keys: &[
        "listen",
        "admin",
        "store",
        "data",
        "durability",
        "store_down",
        "upstreams",
        "models",
        "limits",
        "tiers",
        "keys",
        "identify",
        "waiting",
        "metrics",
        "prices",
        "bounds",
        "ledger",
        "webhooks",
    ],
    later: &[],
};

pub(super) fn config(
    text: &str,
    name: &str,
    env: &dyn Fn(&str) -> Option<String>,
) -> Result<Config, ConfigErrors> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut reading = Reading::new(env);
    let node = match Node::parse(text) {
        Ok(node) => node,
        Err(problem) => {
            reading.report(problem);
            reading.unreadable(text);
            return Err(reading.findings(name, text));
        }
    };
    let config = match node.value {
        // A file of comments alone is a configuration in which everything is as by default.
        Value::Null => sections(
            &Node {
                value: Value::Map(Vec::new()),
                ..node
            },
            name,
            &mut reading,
        ),
        _ => sections(&node, name, &mut reading),
    };
    let findings = reading.findings(name, text);
    match config {
        Some(parts) => Ok(Config {
            warnings: findings,
            ..parts
        }),
        None => Err(findings),
    }
}

/// Every section is read whatever the others say; `None` when any of them has an error.
fn sections(node: &Node, name: &str, reading: &mut Reading<'_>) -> Option<Config> {
    webhooks::hide_all(node, reading);
    let top = reading.fields(node, &TOP)?;
    let mut stored = store::read(&top, reading);
    let metrics = metrics(&top, reading);
    let mut upstreams = upstream::read_all(&top, reading);
    let open = std::mem::take(&mut upstreams.open);
    let routes = models::read(&top, upstreams, reading);
    let inherited = Inherited {
        metrics: &metrics,
        store_down: stored.down.unwrap_or(StoreDown::Closed),
        tier: None,
        ladder: None,
    };
    let (mut written, tiers) = all_limits(&top, (&inherited, &routes), reading);
    stored.check(&written, reading);
    let prices = prices::read(&top, name, reading);
    tiers.check_models((&routes, &prices.prices), reading);
    prices.check_names(&routes.names(), reading);
    let keys = keys::read(&top, &tiers.tiers, reading);
    // A store that outlives the process may have keys of its own, which are known at the start only.
    let keyless = match (keys.any, stored.keeps_keys()) {
        (true, _) => Keyless::No,
        (false, true) => Keyless::Unknown,
        (false, false) => Keyless::Yes,
    };
    let listeners = listeners::read(&top, keyless, reading);
    let (bounds, waiting) = (
        bounds::read(&top, reading),
        bounds::read_waiting(&top, reading),
    );
    let ledger = ledger::read(&top, reading);
    check::Referred {
        routes: &routes,
        tiers: &tiers.tiers,
        prices: &prices.prices,
        key_labels: &keys.labels,
    }
    .check(&written, reading);
    let webhooks = webhooks::read(&top, reading);
    let mut alerts = Alerts::default();
    for limit in &mut written {
        alerts.add(&limit.rule, limit.alerts.take());
    }
    let rules: Vec<Rule> = written.into_iter().map(|limit| limit.rule).collect();
    let budgets = Budgets::of(&rules);
    upstream::check_open(&open, &budgets, reading);
    Some(Config {
        listen: listeners.listen,
        admin: listeners.admin,
        data: stored.data.take(),
        durability: stored.durability,
        store: stored.choice(),
        policy: policy(rules.clone(), metrics, &top, reading)?,
        rules,
        budgets,
        keyring: keys.keyring,
        key_ids: keys.ids,
        routes,
        tiers: tiers.tiers,
        prices: prices.prices,
        bounds,
        waiting,
        ledger,
        alerts: Arc::new(alerts),
        webhooks,
        warnings: ConfigErrors::new("", "", Vec::new()),
    })
}

/// The limits outside tiers and those inside, which end up in one list.
fn all_limits(
    top: &Fields<'_>,
    (inherited, routes): (&Inherited<'_>, &Routes),
    reading: &mut Reading<'_>,
) -> (Vec<Written>, TiersWritten) {
    let outside = top
        .get("limits")
        .map(|node| limits::limits(node, inherited, reading));
    let mut written = outside.unwrap_or_default();
    let mut tiers = tiers::read(top, (inherited, routes), &mut written, reading);
    tiers.tiers.heed(&written);
    limits::check_names(&written, reading);
    (written, tiers)
}

/// The policy of the rules, once nothing is wrong with the file.
fn policy(
    rules: Vec<Rule>,
    metrics: Metrics,
    top: &Fields<'_>,
    reading: &mut Reading<'_>,
) -> Option<Arc<Policy>> {
    if reading.has_errors() {
        return None;
    }
    match Policy::new(rules, metrics) {
        Ok(policy) => Some(Arc::new(policy)),
        Err(error) => {
            // The readers refuse all of these with their places; this is for a rule of the engine that is new to them.
            reading.report(Problem::error(
                Kind::Value,
                top.key_at("limits"),
                error.to_string(),
            ));
            None
        }
    }
}

/// `metrics:`: the names of the user's own metrics.
fn metrics(top: &Fields<'_>, reading: &mut Reading<'_>) -> Metrics {
    let mut names: Vec<&str> = Vec::new();
    for (name, at) in top
        .get("metrics")
        .map(|node| reading.texts(node, "`metrics`"))
        .unwrap_or_default()
    {
        match metric_refusal(name, &names) {
            Some((kind, refusal)) => {
                let problem = Problem::error(kind, at, format!("the metric `{name}` {refusal}"));
                reading.report(problem.mend(
                    "choose a name of a-z, 0-9 and _ that starts with a letter and is not taken",
                ));
            }
            None => names.push(name),
        }
    }
    Metrics::with_custom(names).unwrap_or_default()
}

fn metric_refusal(name: &str, earlier: &[&str]) -> Option<(Kind, String)> {
    let well_formed = name.starts_with(|c: char| c.is_ascii_lowercase())
        && name.len() <= MAX_METRIC_NAME
        && name
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_');
    let built_in = Metrics::default();
    if !well_formed {
        Some((
            Kind::Value,
            format!("is not a name of at most {MAX_METRIC_NAME} characters"),
        ))
    } else if built_in.find(name).is_some() {
        Some((Kind::Duplicate, "is built in".to_owned()))
    } else if LIMIT_KEYS.contains(&name) {
        Some((Kind::Conflict, "is a key of a limit".to_owned()))
    } else if earlier.contains(&name) {
        Some((Kind::Duplicate, "is given twice".to_owned()))
    } else if earlier.len() >= METRICS - built_in.iter().count() {
        Some((
            Kind::Value,
            format!("is one too many: at most {} are possible", earlier.len()),
        ))
    } else {
        None
    }
}

const MAX_METRIC_NAME: usize = 64;
