//! What `explain` found, for a person and for a program.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tallygate_core::{Metric, StoreDown};
use tallygate_store::Regime;

use super::ask::{Label, Size};
use super::unread::{self, Unsized};

/// One limit and where its counter stands.
pub(super) struct Row {
    pub(super) name: String,
    pub(super) metric: String,
    pub(super) limit: u64,
    /// The most at once.
    pub(super) burst: u64,
    pub(super) remaining: u64,
    pub(super) debt: u64,
    pub(super) window: String,
    pub(super) reset_ms: u64,
    pub(super) promise: String,
    /// What it does while its store is away; `None` where that cannot be, or is not known.
    pub(super) store_down: Option<StoreDown>,
    /// How it is decided at present, where there is more than one way.
    pub(super) regime: Option<Regime>,
}

/// Whether a call of a size has room.
#[derive(Debug, PartialEq, Eq)]
enum Room {
    Now,
    Later(Vec<String>),
    Never(Vec<String>),
}

pub(super) struct Answer {
    pub(super) subject: Vec<Label>,
    /// Where the counters are, if not in the process that counts.
    pub(super) store: Option<String>,
    pub(super) rows: Vec<Row>,
    pub(super) size: Option<Size>,
    /// The models that would serve, in the order in which they are tried; `None` where no model was named.
    pub(super) models: Option<Vec<Model>>,
    /// What becomes of calls that nobody can size; `None` where that was not told.
    pub(super) unsized_calls: Option<Vec<Unsized>>,
}

/// A model that would serve.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
pub(super) struct Model {
    model: String,
    step: Step,
    price: Option<Price>,
}

/// When it does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
enum Step {
    Asked,
    Instead,
    Below,
}

/// Micro-dollars for a million tokens.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
struct Price {
    #[serde(flatten)]
    rates: BTreeMap<String, Value>,
}

impl Answer {
    /// The same with what `written` promises: a server tells where its counters stand, its configuration what they are for.
    pub(super) fn promising(mut self, written: &Self) -> Self {
        self.store.clone_from(&written.store);
        self.unsized_calls.clone_from(&written.unsized_calls);
        for row in &mut self.rows {
            let same = |other: &&Row| other.name == row.name && other.metric == row.metric;
            if let Some(known) = written.rows.iter().find(same) {
                row.promise.clone_from(&known.promise);
                row.burst = known.burst;
                row.store_down = known.store_down;
            }
        }
        self
    }

    pub(super) fn json(&self) -> Value {
        let subject: serde_json::Map<String, Value> = self
            .subject
            .iter()
            .map(|Label(name, value)| (name.clone(), value.clone().into()))
            .collect();
        let mut told = json!({ "subject": subject, "limits": self.rows.iter().map(Row::json).collect::<Vec<_>>() });
        if let Some(store) = &self.store {
            told["store"] = store.as_str().into();
        }
        if let Some(models) = &self.models {
            told["models"] = json!(models);
        }
        if let Some(calls) = &self.unsized_calls {
            told["unsized_calls"] = json!(calls);
        }
        if let Some(size) = self.size {
            told["demand"] =
                json!({ "requests": 1, "input_tokens": size.input, "output_tokens": size.output });
            if let Some(cost) = size.cost {
                told["demand"]["cost"] = cost.into();
            }
            told["room"] = match self.room(size) {
                Room::Now => json!({ "room": "now" }),
                Room::Later(names) => json!({ "room": "later", "blocked_by": names }),
                Room::Never(names) => json!({ "room": "never", "blocked_by": names }),
            };
            if let Some(next) = self.next(size) {
                told["room"]["next"] = next.into();
            }
        }
        told
    }

    pub(super) fn text(&self) -> String {
        let subject: Vec<String> = self
            .subject
            .iter()
            .map(|Label(name, value)| format!("{name}={value}"))
            .collect();
        let mut lines = vec![format!(
            "{}",
            if subject.is_empty() {
                "anybody".to_owned()
            } else {
                subject.join(" ")
            }
        )];
        if let Some(store) = &self.store {
            lines.push(format!("counters on {store}"));
        }
        if self.rows.is_empty() {
            lines.push("no limit applies".to_owned());
        }
        for row in &self.rows {
            lines.extend(row.text());
        }
        if let Some(models) = &self.models {
            lines.extend(served(models));
        }
        if let Some(calls) = &self.unsized_calls {
            lines.extend(unread::refused(calls));
        }
        lines.extend(self.size.map(|size| self.verdict(size)));
        lines.join("\n")
    }

    fn verdict(&self, size: Size) -> String {
        let call = format!(
            "\na call of {} input and {} output tokens",
            size.input, size.output
        );
        let verdict = match self.room(size) {
            Room::Now => format!("{call} has room now"),
            Room::Later(names) => {
                format!("{call} has no room now: {} must refill", names.join(", "))
            }
            Room::Never(names) => format!("{call} can never fit {}", names.join(", ")),
        };
        let verdict = match self.next(size) {
            Some(next) => {
                format!("{verdict}, and the ladder would ask {next} next, under the limits of that")
            }
            None => verdict,
        };
        let counts_cost = self.rows.iter().any(|row| row.metric == "cost");
        match size.cost {
            None if counts_cost => {
                format!("{verdict}, its cost apart: no price of it is known here")
            }
            _ => verdict,
        }
    }

    /// The model that is asked next where there is no room: a ladder helps out of a quota, and of what can never fit.
    fn next(&self, size: Size) -> Option<&str> {
        let blocks = |row: &&Row| size.of_metric(&row.metric) > row.remaining;
        let helps = match self.room(size) {
            Room::Now => false,
            Room::Later(_) => self.rows.iter().filter(blocks).any(Row::is_quota),
            Room::Never(_) => true,
        };
        let mut models = self.models.iter().flatten();
        let below = models.find(|model| model.step == Step::Below);
        below.filter(|_| helps).map(|model| &*model.model)
    }

    fn room(&self, size: Size) -> Room {
        let over = |most: fn(&Row) -> u64| -> Vec<String> {
            let blocks = |row: &&Row| size.of_metric(&row.metric) > most(row);
            self.rows
                .iter()
                .filter(blocks)
                .map(|row| format!("{} ({})", row.name, row.metric))
                .collect()
        };
        let (never, later) = (over(|row| row.burst), over(|row| row.remaining));
        if !never.is_empty() {
            Room::Never(never)
        } else if !later.is_empty() {
            Room::Later(later)
        } else {
            Room::Now
        }
    }
}

/// Which models serve, and what each costs.
fn served(models: &[Model]) -> Vec<String> {
    let title = match models {
        [] => "\nthe tier has neither the model nor one to serve in its place",
        [_] => "\nserved by",
        _ => "\nserved by, in this order",
    };
    let lines = models.iter().map(|model| {
        let when = match model.step {
            Step::Asked => "",
            Step::Instead => ", in place of the model asked for, which the tier does not have",
            Step::Below => ", where a quota of those before it is used up",
        };
        let price = model.price.as_ref().map_or_else(
            || "no price of it is known".to_owned(),
            |price| price.text(),
        );
        format!("  {}{when}: {price}", model.model)
    });
    std::iter::once(title.to_owned()).chain(lines).collect()
}

impl Price {
    fn text(&self) -> String {
        let mut text = format!("{} a million tokens", both_sides(&self.rates));
        let above = self.rates.get("above").and_then(Value::as_array);
        for dearer in above.into_iter().flatten() {
            let rates: BTreeMap<_, _> = serde_json::from_value(dearer.clone()).unwrap_or_default();
            let tokens = dearer["input_tokens"].as_u64().unwrap_or(0);
            let both = both_sides(&rates);
            text.push_str(&format!("; with more than {tokens} input tokens {both}"));
        }
        text
    }
}

fn both_sides(rates: &BTreeMap<String, Value>) -> String {
    let of = |name: &str| {
        let micros = rates.get(name).and_then(Value::as_u64);
        Metric::COST.show(micros.unwrap_or(0))
    };
    format!("{} input, {} output", of("input"), of("output"))
}

/// The metric that is shown in dollars.
const MONEY: &str = "cost";

/// The windows of quotas: nobody waits for their end.
const CALENDAR: [&str; 3] = ["day", "week", "month"];

impl Row {
    fn is_quota(&self) -> bool {
        self.metric == MONEY || CALENDAR.contains(&&*self.window)
    }

    /// An amount of its metric, as people read it.
    fn show(&self, amount: u64) -> String {
        match self.metric.as_str() {
            MONEY => Metric::COST.show(amount),
            _ => amount.to_string(),
        }
    }

    fn json(&self) -> Value {
        let mut told = json!({
            "name": self.name, "metric": self.metric, "limit": self.limit, "burst": self.burst, "remaining": self.remaining,
            "debt": self.debt, "window": self.window, "reset_ms": self.reset_ms, "promise": self.promise,
        });
        if let Some(down) = self.store_down {
            told["store_down"] = words(down).0.into();
        }
        match self.regime {
            Some(Regime::Leased { share, left }) => {
                told["regime"] = "leased".into();
                told["share"] = share.into();
                told["share_left"] = left.into();
            }
            Some(_) => told["regime"] = "exact".into(),
            None => {}
        }
        told
    }

    fn text(&self) -> Vec<String> {
        let debt = if self.debt > 0 {
            format!(", in debt by {}", self.show(self.debt))
        } else {
            String::new()
        };
        let per = if self.metric == "concurrency" {
            "at once".to_owned()
        } else {
            format!("every {}", self.window)
        };
        let amount = match self.metric.as_str() {
            MONEY => self.show(self.limit),
            metric => format!("{} {metric}", self.limit),
        };
        let mut lines = vec![format!(
            "\n{}: {amount} {per}, {} left{debt}",
            self.name,
            self.show(self.remaining)
        )];
        match self.regime {
            Some(Regime::Leased { share, left }) => lines.push(format!(
                "  decided at this instance (leased): {} left of a share of {}",
                self.show(left),
                self.show(share)
            )),
            Some(_) => lines.push("  decided in the store, call by call (exact)".to_owned()),
            None => {}
        }
        if !self.promise.is_empty() {
            lines.push(format!("  promises {}", self.promise));
        }
        if let Some(down) = self.store_down {
            let (word, meaning) = words(down);
            lines.push(format!("  without its store {meaning} ({word})"));
        }
        lines
    }
}

/// What a limit does without its store: the word of the configuration, and its meaning.
fn words(down: StoreDown) -> (&'static str, &'static str) {
    match down {
        StoreDown::Closed => ("closed", "refuses every call"),
        StoreDown::Open => ("open", "lets every call through uncounted"),
        StoreDown::Share => (
            "share",
            "lets each node spend what it had leased before, and no more",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::{Answer, Model, Room, Row, Step};
    use crate::explain::ask::Size;

    fn answer(burst: u64, remaining: u64) -> Answer {
        let row = Row {
            name: "day".to_owned(),
            metric: "tokens".to_owned(),
            limit: 500,
            burst,
            remaining,
            debt: 0,
            window: "day".to_owned(),
            reset_ms: 0,
            promise: String::new(),
            store_down: None,
            regime: None,
        };
        Answer {
            subject: Vec::new(),
            store: None,
            rows: vec![row],
            size: None,
            models: None,
            unsized_calls: None,
        }
    }

    #[test]
    fn room_is_now_later_or_never() {
        let size = Size {
            input: 200,
            output: 100,
            cost: None,
        };
        let day = || vec!["day (tokens)".to_owned()];
        assert_eq!(answer(500, 300).room(size), Room::Now);
        assert_eq!(answer(500, 299).room(size), Room::Later(day()));
        assert_eq!(answer(299, 299).room(size), Room::Never(day()));
    }

    #[test]
    fn the_ladder_is_told_of_where_it_would_help() {
        let size = Size {
            input: 200,
            output: 100,
            cost: None,
        };
        let model = |name: &str, step| Model {
            model: name.to_owned(),
            step,
            price: None,
        };
        let on_ladder = |burst, remaining, window: &str| {
            let mut answer = answer(burst, remaining);
            answer.rows[0].window = window.to_owned();
            answer.models = Some(vec![
                model("gpt-4o", Step::Asked),
                model("gpt-4o-mini", Step::Below),
            ]);
            answer.size = Some(size);
            answer
        };
        let mini = Some("gpt-4o-mini");
        assert_eq!(on_ladder(500, 300, "day").next(size), None, "there is room");
        assert_eq!(on_ladder(500, 299, "day").next(size), mini);
        assert_eq!(
            on_ladder(500, 299, "60s").next(size),
            None,
            "a rate refills"
        );
        assert_eq!(on_ladder(299, 299, "60s").next(size), mini);
        assert_eq!(answer(299, 299).next(size), None, "there is no ladder");
        let never = on_ladder(299, 299, "day");
        let text = never.text();
        let told = "can never fit day (tokens), and the ladder would ask gpt-4o-mini next";
        assert!(text.contains(told), "{text}");
        assert_eq!(never.json()["room"]["next"], "gpt-4o-mini");
    }
}
