//! Limits that are others for a while, for all that share a store on Redis.
//!
//! They are kept where the gateway keeps its own, in the registry of the prefix. Each engine hears of a change and puts the amounts in
//! the place of those that its rules name.
use crate::engine::Core;
use crate::failure;
use crate::rules::Written;
use pyo3::exceptions::PyConnectionError;
use pyo3::prelude::*;
use std::collections::BTreeMap;
use std::future::pending;
use std::sync::{Arc, Weak};
use std::time::Duration;
use tallygate_store::registry::{
    Author, Change, ChangeError, Keeper, LOCAL, Override, Records, RedisRegistry, Registry, Right,
    Stamp,
};
use tokio::task::JoinHandle;
use tokio::time::sleep;

/// Amounts by the names of their rule and metric.
pub(crate) type Overrides = BTreeMap<(String, String), u64>;

/// How long an override holds.
const LASTS: Duration = Duration::from_secs(7 * 86_400);

/// When a registry that does not answer is asked again.
const RETRY: Duration = Duration::from_millis(500);

/// The registry of an engine's prefix, and the task that follows it.
pub(crate) struct Following {
    registry: Arc<RedisRegistry>,
    task: JoinHandle<()>,
}

impl Following {
    /// Follows it for an engine, which has what is in force now when this returns.
    pub(crate) async fn start(registry: Arc<RedisRegistry>, core: &Arc<Core>) -> Self {
        if let (Ok(records), Some(now)) = (registry.load().await, core.stamp()) {
            core.override_with(in_force(&records, now));
        }
        let task = tokio::spawn(follow(registry.clone(), Arc::downgrade(core)));
        Self { registry, task }
    }

    /// Where overrides are kept.
    pub(crate) fn registry(&self) -> Arc<RedisRegistry> {
        self.registry.clone()
    }
}

impl Drop for Following {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn follow(registry: Arc<RedisRegistry>, engine: Weak<Core>) {
    loop {
        let Ok(records) = registry.load().await else {
            sleep(RETRY).await;
            continue;
        };
        let Some(core) = engine.upgrade() else {
            return;
        };
        let Some(now) = core.stamp() else {
            return;
        };
        core.override_with(in_force(&records, now));
        drop(core);
        let ends = records.overrides().map(|one| one.until);
        let next = ends.filter(|until| *until > now).min();
        tokio::select! {
            () = registry.changed(records.version()) => {}
            () = until(next.map(|next| next.since(now))) => {}
        }
    }
}

async fn until(length: Option<Duration>) {
    match length {
        Some(length) => sleep(length).await,
        None => pending().await,
    }
}

fn in_force(records: &Records, now: Stamp) -> Overrides {
    let live = records.overrides().filter(|one| one.until > now);
    live.map(|one| ((one.limit.clone(), one.metric.clone()), one.amount))
        .collect()
}

/// Sets one for all, and here before this ends.
///
/// # Errors
/// When it cannot be kept.
pub(crate) async fn set(
    core: Arc<Core>,
    registry: Arc<RedisRegistry>,
    (limit, metric): (String, String),
    amount: u64,
) -> PyResult<()> {
    let now = core.stamp().unwrap_or_default();
    let wanted = Override {
        limit,
        metric,
        amount,
        burst: None,
        since: now,
        until: now.plus(LASTS),
        by: String::new(),
        reason: String::new(),
    };
    let author = Author {
        by: LOCAL.to_owned(),
        from: "python".to_owned(),
        at: now,
        right: Right::Elsewhere,
        elsewhere: Keeper::Nobody,
    };
    let changed = registry.change(Change::SetOverride(wanted), &author).await;
    core.override_with(in_force(&*changed.map_err(refused)?, now));
    Ok(())
}

fn refused(error: ChangeError) -> PyErr {
    match error {
        ChangeError::Refused(refusal) => failure::value(refusal.to_string()),
        other => PyConnectionError::new_err(other.to_string()),
    }
}

/// The rules with the amounts that are in force.
pub(crate) fn applied(mut rules: Vec<Written>, overrides: &Overrides) -> Vec<Written> {
    if overrides.is_empty() {
        return rules;
    }
    for (name, _, _, limits) in &mut rules {
        for (metric, amount, _) in limits {
            if let Some(other) = overrides.get(&(name.clone(), metric.clone())) {
                *amount = *other;
            }
        }
    }
    rules
}
