//! `limits:`, here and inside tiers, as rules of the engine.

use std::collections::HashMap;

use tallygate_core::{MAX_RULES, Metrics, Mode, Rule, StoreDown};

use super::alerts;
use super::fields::{Fields, Known, Reading};
use super::ladder::{self, Reach};
use super::problem::{Kind, Place, Problem};
use super::shape;
use super::tree::Node;

/// The keys of a limit that are not metrics.
pub(super) const LIMIT_KEYS: [&str; 12] = [
    "name",
    "when",
    "per",
    "every",
    "burst",
    "strict",
    "shape",
    "timezone",
    "store_down",
    "mode",
    "downgraded",
    "alerts",
];

/// The words of `store_down`.
pub(super) const STORE_DOWN: [(&str, StoreDown); 3] = [
    ("closed", StoreDown::Closed),
    ("open", StoreDown::Open),
    ("share", StoreDown::Share),
];

const MODES: [(&str, Mode); 2] = [("enforce", Mode::Enforce), ("shadow", Mode::Shadow)];

/// One limit as it was read, with the places that later checks speak of.
pub(super) struct Written {
    pub(super) rule: Rule,
    pub(super) name_at: Place,
    /// The labels named by `when` and `per`, with their places.
    pub(super) labels: Vec<(String, Place)>,
    /// The patterns of `when: { model: … }` and `when: { upstream: … }`, with their places.
    pub(super) references: Vec<(String, String, Place)>,
    /// Where a `cost` amount stands.
    pub(super) cost_at: Option<Place>,
    /// Its `alerts`, if it has any.
    pub(super) alerts: Option<Vec<u8>>,
    /// Where its `store_down` stands.
    pub(super) store_down_at: Option<Place>,
}

/// What every limit inherits.
pub(super) struct Inherited<'a> {
    pub(super) metrics: &'a Metrics,
    pub(super) store_down: StoreDown,
    /// The tier the limits belong to.
    pub(super) tier: Option<&'a str>,
    /// What that tier has of a ladder.
    pub(super) ladder: Option<Reach>,
}

/// Reads a list of limits.
pub(super) fn limits(
    node: &Node,
    inherited: &Inherited<'_>,
    reading: &mut Reading<'_>,
) -> Vec<Written> {
    let items = reading.list(node, "`limits`").unwrap_or_default();
    items
        .iter()
        .filter_map(|item| limit(item, inherited, reading))
        .collect()
}

/// Reports names that are taken, over all lists of limits together, and too many limits.
pub(super) fn check_names(written: &[Written], reading: &mut Reading<'_>) {
    let mut seen: HashMap<&str, usize> = HashMap::new();
    for limit in written {
        let name = limit.rule.name.as_str();
        if let Some(line) = seen.get(name) {
            let message = format!("the limit name `{name}` is taken");
            let how = format!("give it another name; the first is on line {line}");
            reading.report(Problem::error(Kind::Duplicate, limit.name_at, message).mend(how));
        } else {
            seen.insert(name, limit.name_at.line);
        }
    }
    if let Some(beyond) = written.get(MAX_RULES) {
        let message = format!(
            "{} limits are more than the {MAX_RULES} that are possible",
            written.len()
        );
        reading.report(Problem::error(Kind::Value, beyond.name_at, message));
    }
}

fn limit(node: &Node, inherited: &Inherited<'_>, reading: &mut Reading<'_>) -> Option<Written> {
    let known = known_keys(inherited.metrics);
    let keys: Vec<&str> = known.iter().map(String::as_str).collect();
    let known = Known {
        what: "a limit",
        keys: &keys,
        later: &[("priority", "classes of waiters")],
    };
    let fields = reading.fields(node, &known)?;
    let name = fields
        .need("name", reading)
        .and_then(|node| reading.text(node, "the name").map(|text| (text, node.at)));
    let mut conditions = conditions(&fields, inherited.tier, reading);
    let per = fields
        .get("per")
        .map(|node| reading.texts(node, "`per`"))
        .unwrap_or_default();
    let mode = fields
        .get("mode")
        .and_then(|node| reading.word(node, "`mode`", &MODES));
    let store_down = fields
        .get("store_down")
        .and_then(|node| reading.word(node, "`store_down`", &STORE_DOWN));
    let limited = shape::read(&fields, inherited.metrics, reading);
    let named = &conditions.when;
    let downgraded = ladder::condition(&fields, named, &limited, (inherited, reading));
    conditions.when.extend(downgraded);
    let (name, name_at) = name?;
    let counted = per.iter().map(|(label, at)| ((*label).to_owned(), *at));
    Some(Written {
        labels: conditions.labels.into_iter().chain(counted).collect(),
        rule: Rule {
            name: name.to_owned(),
            when: conditions.when,
            per: per.iter().map(|(label, _)| (*label).to_owned()).collect(),
            limits: limited.limits,
            mode: mode.unwrap_or_default(),
            store_down: store_down.unwrap_or(inherited.store_down),
        },
        name_at,
        references: conditions.references,
        cost_at: limited.cost_at,
        alerts: alerts::read(&fields, reading),
        store_down_at: store_down.map(|_| fields.key_at("store_down")),
    })
}

fn known_keys(metrics: &Metrics) -> Vec<String> {
    let own = LIMIT_KEYS.iter().map(|key| (*key).to_owned());
    own.chain(metrics.iter().map(|(_, name)| name.to_owned()))
        .collect()
}

#[derive(Default)]
struct Conditions {
    when: Vec<(String, Vec<String>)>,
    labels: Vec<(String, Place)>,
    references: Vec<(String, String, Place)>,
}

fn conditions(fields: &Fields<'_>, tier: Option<&str>, reading: &mut Reading<'_>) -> Conditions {
    let mut read = Conditions::default();
    let node = fields.get("when");
    for (key, value) in node
        .and_then(|node| reading.entries(node, "`when`"))
        .unwrap_or_default()
    {
        if tier.is_some() && key.name == "tier" {
            let message = "a tier's limit applies to that tier; it cannot name another in `when`";
            reading.report(
                Problem::error(Kind::Conflict, key.at, message)
                    .mend("remove `tier` or move the limit to `limits:`"),
            );
        }
        let patterns = reading.texts(value, &format!("`when: {}`", key.name));
        read.labels.push((key.name.clone(), key.at));
        read.references.extend(
            patterns
                .iter()
                .map(|(text, at)| (key.name.clone(), (*text).to_owned(), *at)),
        );
        read.when.push((
            key.name.clone(),
            patterns
                .into_iter()
                .map(|(text, _)| text.to_owned())
                .collect(),
        ));
    }
    if let Some(tier) = tier {
        read.when.push(("tier".to_owned(), vec![tier.to_owned()]));
    }
    read
}
