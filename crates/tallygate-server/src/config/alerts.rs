//! `alerts` of a limit: at how many percent of it somebody is told.

use std::collections::HashMap;

use tallygate_core::Rule;

use super::amount::{self, Refusal};
use super::fields::{Fields, Number, Reading};
use super::tree::Value;

/// What is told of one limit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Alert {
    /// The labels that it counts apart.
    pub(crate) per: Vec<String>,
    /// Percents, rising.
    pub(crate) at: Vec<u8>,
}

/// The limits that something is told of, by name.
#[derive(Debug, Default)]
pub(crate) struct Alerts(HashMap<String, Alert>);

impl Alerts {
    /// What is told of a limit; nothing of most.
    pub(crate) fn of(&self, limit: &str) -> Option<&Alert> {
        self.0.get(limit)
    }

    /// Whether any limit has percents at which somebody is told.
    pub(crate) fn any(&self) -> bool {
        self.0.values().any(|alert| !alert.at.is_empty())
    }

    /// Adds a rule with the percents that were written beside it: a quota without any has [`USUAL`].
    pub(super) fn add(&mut self, rule: &Rule, written: Option<Vec<u8>>) {
        let is_quota = rule
            .limits
            .iter()
            .any(|(metric, _, shape)| shape.is_quota_of(*metric));
        let usual = is_quota.then(|| USUAL.to_vec());
        if let Some(at) = written.or(usual) {
            let per = rule.per.clone();
            self.0.insert(rule.name.clone(), Alert { per, at });
        }
    }
}

/// When somebody is told of a quota unless it says otherwise.
const USUAL: [u8; 2] = [80, 95];

const PERCENT: Number<u8> = Number {
    what: "the alert",
    read: percent,
    mend: "write whole percents from 1 to 100, as [80, 95]; [] tells of no percents",
};

/// Reads `alerts` of a limit.
pub(super) fn read(fields: &Fields<'_>, reading: &mut Reading<'_>) -> Option<Vec<u8>> {
    let node = fields.get("alerts")?;
    let items = match &node.value {
        Value::List(items) => items.as_slice(),
        _ => std::slice::from_ref(node),
    };
    let mut at: Vec<u8> = items
        .iter()
        .filter_map(|item| reading.number(item, &PERCENT))
        .collect();
    at.sort_unstable();
    at.dedup();
    Some(at)
}

fn percent(text: &str) -> Result<u8, Refusal> {
    let number = amount::count(text.trim_end_matches('%').trim_end())?;
    match u8::try_from(number) {
        Ok(number @ 1..=100) => Ok(number),
        Ok(0) => Err("is too small".to_owned()),
        _ => Err("is too large".to_owned()),
    }
}
