//! `limits:`, here and inside tiers, as rules of the engine.

use std::collections::HashMap;

use tallygate_core::{MAX_RULES, Metric, Metrics, Mode, Rule, Shape, StoreDown};

use super::amount;
use super::fields::{Fields, Known, Number, Reading, nearest};
use super::problem::{Kind, Place, Problem};
use super::tree::{Node, Value};
use super::window::{self, Window};

/// The keys of a limit that are not metrics.
pub(super) const LIMIT_KEYS: [&str; 10] = [
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
];

/// The words of `store_down`.
pub(super) const STORE_DOWN: [(&str, StoreDown); 3] = [
    ("closed", StoreDown::Closed),
    ("open", StoreDown::Open),
    ("share", StoreDown::Share),
];

const MODES: [(&str, Mode); 2] = [("enforce", Mode::Enforce), ("shadow", Mode::Shadow)];

const AMOUNT: Number<u64> = Number {
    what: "the amount",
    read: amount::amount,
    mend: "write a whole number from 1 to 9_007_199_254_740_992",
};
const DOLLARS: Number<u64> = Number {
    what: "the cost",
    read: amount::micro_dollars,
    mend: "write dollars with at most six decimals, as 2_000.00",
};
const BURST: Number<u64> = Number {
    what: "the burst",
    read: amount::amount,
    mend: "write a whole number from 1 to 9_007_199_254_740_992",
};

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
}

/// What every limit inherits.
pub(super) struct Inherited<'a> {
    pub(super) metrics: &'a Metrics,
    pub(super) store_down: StoreDown,
    /// The tier the limits belong to.
    pub(super) tier: Option<&'a str>,
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
    let fields = reading.fields(
        node,
        &Known {
            what: "a limit",
            keys: &keys,
            later: &[("priority", "classes of waiters")],
        },
    )?;
    let name = fields
        .need("name", reading)
        .and_then(|node| reading.text(node, "the name").map(|text| (text, node.at)));
    let conditions = conditions(&fields, inherited.tier, reading);
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
    let amounts = amounts(&fields, inherited.metrics, reading);
    let shapes = Shapes::read(&fields, &amounts, reading)?;
    let limits = amounts
        .iter()
        .filter_map(|amount| shapes.limit(amount, reading))
        .collect();
    let (name, name_at) = name?;
    Some(Written {
        rule: Rule {
            name: name.to_owned(),
            when: conditions.when,
            per: per.iter().map(|(label, _)| (*label).to_owned()).collect(),
            limits,
            mode: mode.unwrap_or_default(),
            store_down: store_down.unwrap_or(inherited.store_down),
        },
        name_at,
        labels: conditions
            .labels
            .into_iter()
            .chain(per.iter().map(|(label, at)| ((*label).to_owned(), *at)))
            .collect(),
        references: conditions.references,
        cost_at: amounts
            .iter()
            .find(|amount| amount.metric == Metric::COST)
            .map(|amount| amount.at),
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

/// The amount of one metric as it was read.
struct Amount {
    metric: Metric,
    name: String,
    at: Place,
    amount: u64,
}

fn amounts(fields: &Fields<'_>, metrics: &Metrics, reading: &mut Reading<'_>) -> Vec<Amount> {
    let mut read = Vec::new();
    let mut named = false;
    for (key, node) in fields.iter() {
        let Some(metric) = metrics.find(&key.name) else {
            continue;
        };
        named = true;
        let number = if metric == Metric::COST {
            &DOLLARS
        } else {
            &AMOUNT
        };
        if let Some(amount) = reading.number(node, number) {
            read.push(Amount {
                metric,
                name: key.name.clone(),
                at: node.at,
                amount,
            });
        }
    }
    let misspelt = metrics.iter().any(|(_, name)| fields.is_misspelt(name));
    if !named && !misspelt {
        let possible: Vec<&str> = metrics.iter().map(|(_, name)| name).collect();
        let problem = Problem::error(Kind::Missing, fields.at, "the limit limits nothing");
        reading.report(problem.mend(format!("name an amount of one of: {}", possible.join(", "))));
    }
    read
}

/// What `every`, `shape`, `burst`, `strict` and `timezone` of one limit say together.
struct Shapes<'n> {
    window: Option<Window>,
    strict: bool,
    bursts: Bursts<'n>,
}

impl<'n> Shapes<'n> {
    /// `None` when what they say was refused.
    fn read(fields: &Fields<'n>, amounts: &[Amount], reading: &mut Reading<'_>) -> Option<Self> {
        let windowed = amounts.is_empty()
            || amounts
                .iter()
                .any(|amount| amount.metric != Metric::CONCURRENCY);
        let strict = fields
            .get("strict")
            .and_then(|node| reading.flag(node, "`strict`"))
            .unwrap_or_default();
        if !windowed {
            window::refuse_any(fields, reading);
            return Some(Self {
                window: None,
                strict: false,
                bursts: Bursts::None,
            });
        }
        let window = window::read(fields, reading);
        let bursts = Bursts::read(fields, amounts, reading);
        let window = window?;
        if !matches!(window, Window::Bucket(_)) {
            for key in ["burst", "strict"] {
                refuse_beside(fields, key, &window, reading);
            }
        }
        Some(Self {
            window: Some(window),
            strict,
            bursts,
        })
    }

    fn limit(&self, amount: &Amount, reading: &mut Reading<'_>) -> Option<(Metric, u64, Shape)> {
        if amount.metric == Metric::CONCURRENCY {
            return Some((amount.metric, amount.amount, Shape::Concurrency));
        }
        let shape = match self.window.as_ref()? {
            Window::Bucket(every) => {
                let burst = self.bursts.of(amount);
                self.check_strict(amount, burst, reading)?;
                Shape::Bucket {
                    every: (*every).into(),
                    burst,
                    strict: self.strict,
                }
            }
            Window::Sliding(every) => Shape::Sliding {
                every: (*every).into(),
            },
            Window::Fixed(window, timezone) => Shape::Fixed {
                window: *window,
                timezone: timezone.clone(),
            },
        };
        Some((amount.metric, amount.amount, shape))
    }

    /// A strict bucket refills by what its burst leaves of the amount, so the burst must leave something.
    fn check_strict(
        &self,
        amount: &Amount,
        burst: Option<u64>,
        reading: &mut Reading<'_>,
    ) -> Option<()> {
        let fits = !self.strict || burst.map_or(amount.amount > 1, |burst| burst < amount.amount);
        if fits {
            return Some(());
        }
        let shown = burst.map_or_else(
            || "no burst".to_owned(),
            |burst| format!("a burst of {burst}"),
        );
        let message = format!(
            "a strict bucket of {} {} with {shown} would never refill",
            amount.amount, amount.name
        );
        let how = "choose a burst smaller than the amount (a tenth of it is the default), or use `shape: sliding`";
        reading.report(Problem::error(Kind::Conflict, amount.at, message).mend(how));
        None
    }
}

fn refuse_beside(fields: &Fields<'_>, key: &str, window: &Window, reading: &mut Reading<'_>) {
    if fields.get(key).is_some() {
        let message = format!(
            "`{key}` goes with a bucket, not with a {} window",
            window.word()
        );
        let problem = Problem::error(Kind::Conflict, fields.key_at(key), message);
        reading.report(problem.mend(format!(
            "remove `{key}`, or make it a bucket: a length in `every` and no other `shape`"
        )));
    }
}

/// `burst`: one number for a limit of one metric, or a number a metric.
enum Bursts<'n> {
    None,
    One(u64),
    Each(Vec<(&'n str, u64)>),
}

impl<'n> Bursts<'n> {
    fn read(fields: &Fields<'n>, amounts: &[Amount], reading: &mut Reading<'_>) -> Self {
        let Some(node) = fields.get("burst") else {
            return Self::None;
        };
        match &node.value {
            Value::Map(_) => Self::each(node, amounts, reading),
            _ => Self::one(node, amounts, reading),
        }
    }

    fn one(node: &Node, amounts: &[Amount], reading: &mut Reading<'_>) -> Self {
        let windowed: Vec<&str> = amounts
            .iter()
            .filter(|amount| amount.metric != Metric::CONCURRENCY)
            .map(|amount| amount.name.as_str())
            .collect();
        if windowed.len() > 1 {
            let message = "one `burst` cannot serve several metrics";
            let each: Vec<String> = windowed.iter().map(|name| format!("{name}: …")).collect();
            let how = format!("give each its own, as burst: {{ {} }}", each.join(", "));
            reading.report(Problem::error(Kind::Conflict, node.at, message).mend(how));
            return Self::None;
        }
        let cost = windowed == ["cost"];
        reading
            .number(node, if cost { &DOLLARS } else { &BURST })
            .map_or(Self::None, Self::One)
    }

    fn each(node: &'n Node, amounts: &[Amount], reading: &mut Reading<'_>) -> Self {
        let mut read = Vec::new();
        for (key, value) in reading.entries(node, "`burst`").unwrap_or_default() {
            let names = || amounts.iter().map(|amount| amount.name.as_str());
            if !names().any(|name| name == key.name) {
                let near =
                    nearest(&key.name, names()).map(|near| format!("did you mean `{near}`?"));
                let problem = Problem::error(
                    Kind::Unknown,
                    key.at,
                    format!("`{}` is not limited here", key.name),
                );
                reading.report(
                    problem.mend(near.unwrap_or_else(|| "name a metric of this limit".to_owned())),
                );
                continue;
            }
            let number = if key.name == "cost" { &DOLLARS } else { &BURST };
            read.extend(
                reading
                    .number(value, number)
                    .map(|burst| (key.name.as_str(), burst)),
            );
        }
        Self::Each(read)
    }

    fn of(&self, amount: &Amount) -> Option<u64> {
        match self {
            Self::None => None,
            Self::One(burst) => Some(*burst),
            Self::Each(each) => each
                .iter()
                .find(|(name, _)| *name == amount.name)
                .map(|(_, burst)| *burst),
        }
    }
}
