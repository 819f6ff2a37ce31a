//! The configuration's limits with overrides put on.

use std::sync::Arc;

use tallygate_core::{Metrics, Policy, PolicyError, Rule, Shape};
use tallygate_store::registry::Override;

use crate::config::Config;

/// Why an override does not go with the limits in force.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Unfit {
    /// There is no such limit.
    #[error("there is no limit `{0}`")]
    NoLimit(String),
    /// The limit does not count this metric.
    #[error("the limit `{limit}` does not count `{metric}`; it counts: {counted}")]
    NoMetric {
        /// The limit.
        limit: String,
        /// What was named.
        metric: String,
        /// What it counts.
        counted: String,
    },
    /// Only a bucket has a burst.
    #[error("the limit `{0}` is no bucket and has no burst")]
    NoBurst(String),
    /// No limit can be so.
    #[error(transparent)]
    Policy(#[from] PolicyError),
}

/// The policy of `config` with the overrides of `live` that go with it, and which these are.
pub(super) fn policy<'a>(
    config: &Config,
    live: impl Iterator<Item = &'a Override>,
) -> (Arc<Policy>, Vec<Override>) {
    let mut rules: Option<Vec<Rule>> = None;
    let mut applied = Vec::new();
    for set in live {
        let rules = rules.get_or_insert_with(|| config.rules().to_vec());
        if let Ok((at, rule)) = overridden(rules, config.metrics(), set) {
            rules[at] = rule;
            applied.push(set.clone());
        }
    }
    let plain = || Arc::clone(config.policy());
    let policy = rules
        .filter(|_| !applied.is_empty())
        .and_then(|rules| Policy::new(rules, config.metrics().clone()).ok());
    (policy.map_or_else(plain, Arc::new), applied)
}

/// One of `rules`, by its place, as `set` makes it.
///
/// # Errors
/// When it goes with none of them.
pub(crate) fn overridden(
    rules: &[Rule],
    metrics: &Metrics,
    set: &Override,
) -> Result<(usize, Rule), Unfit> {
    let at = rules.iter().position(|rule| rule.name == set.limit);
    let at = at.ok_or_else(|| Unfit::NoLimit(set.limit.clone()))?;
    let mut rule = rules[at].clone();
    let metric = metrics.find(&set.metric);
    let counted = rule
        .limits
        .iter_mut()
        .find(|(counted, _, _)| Some(*counted) == metric);
    let Some((_, amount, shape)) = counted else {
        return Err(Unfit::NoMetric {
            limit: set.limit.clone(),
            metric: set.metric.clone(),
            counted: counted_by(&rules[at], metrics),
        });
    };
    *amount = set.amount;
    match (shape, set.burst) {
        (_, None) => {}
        (Shape::Bucket { burst, .. }, Some(_)) => *burst = set.burst,
        _ => return Err(Unfit::NoBurst(set.limit.clone())),
    }
    Policy::new(vec![rule.clone()], metrics.clone())?;
    Ok((at, rule))
}

fn counted_by(rule: &Rule, metrics: &Metrics) -> String {
    let names = rule
        .limits
        .iter()
        .map(|(metric, _, _)| metrics.name(*metric).to_string());
    names.collect::<Vec<_>>().join(", ")
}
