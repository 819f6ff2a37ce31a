//! The amounts of a limit and how each refills: its metrics with `every`, `shape`, `burst`, `strict` and `timezone`.

use tallygate_core::{Metric, Metrics, Shape};

use super::amount;
use super::fields::{Fields, Number, Reading, nearest};
use super::problem::{Kind, Place, Problem};
use super::tree::{Node, Value};
use super::window::{self, Window};

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

/// What a limit limits, as far as it could be read.
pub(super) struct Limited {
    /// Metric, amount and shape of each.
    pub(super) limits: Vec<(Metric, u64, Shape)>,
    /// Where a `cost` amount stands.
    pub(super) cost_at: Option<Place>,
}

/// Reads the amounts of a limit and their shapes.
pub(super) fn read(fields: &Fields<'_>, metrics: &Metrics, reading: &mut Reading<'_>) -> Limited {
    let amounts = amounts(fields, metrics, reading);
    let cost = amounts.iter().find(|amount| amount.metric == Metric::COST);
    let shapes = Shapes::read(fields, &amounts, reading);
    let limits = match shapes {
        Some(shapes) => amounts
            .iter()
            .filter_map(|amount| shapes.limit(amount, reading))
            .collect(),
        None => Vec::new(),
    };
    Limited {
        limits,
        cost_at: cost.map(|amount| amount.at),
    }
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
