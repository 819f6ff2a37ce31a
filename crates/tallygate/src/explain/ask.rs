//! Asking a configuration or a running server.

use std::str::FromStr;
use std::sync::Arc;

use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tallygate_core::{Standing, StoreDown};
use tallygate_server::Config;
use tallygate_server::config::{Priced, Went};
use tallygate_sim::Client;
use tallygate_store::{Regime, Store};

use super::answer::{Answer, Row};
use crate::exit::{Exit, Failure};
use crate::remote::{Whom, escaped};

/// A label of the subject and its value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Label(pub(super) String, pub(super) String);

impl FromStr for Label {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_once('=') {
            Some((name, value)) if !name.is_empty() => Ok(Self(name.to_owned(), value.to_owned())),
            _ => Err("write a label as name=value, for example user=alice".to_owned()),
        }
    }
}

/// How large the call is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Size {
    pub(super) input: u64,
    pub(super) output: u64,
    /// The most that it can cost, in micro-dollars, where its price is known.
    pub(super) cost: Option<u64>,
}

impl Size {
    pub(super) fn of(input: Option<u64>, output: Option<u64>) -> Option<Self> {
        let given = input.is_some() || output.is_some();
        given.then(|| Self {
            input: input.unwrap_or(0),
            output: output.unwrap_or(0),
            cost: None,
        })
    }

    /// What a call of this size takes of a metric.
    pub(super) fn of_metric(self, metric: &str) -> u64 {
        match metric {
            "requests" | "concurrency" => 1,
            "input_tokens" => self.input,
            "output_tokens" => self.output,
            "tokens" => self.input.saturating_add(self.output),
            "cost" => self.cost.unwrap_or(0),
            _ => 0,
        }
    }

    /// The same, with the cost by the configuration's price of `model`.
    fn priced(self, config: &Config, model: Option<&str>) -> Self {
        let rates = model.and_then(|name| {
            let (label, upstream) = config.model_label(name);
            config.prices().of(&Priced {
                name,
                label,
                upstream: upstream.map(|upstream| upstream.name()),
            })
        });
        let cost = rates.map(|rates| rates.bound(self.input, self.output).micros());
        Self { cost, ..self }
    }
}

/// Who asks, for what.
pub(super) struct Question {
    pub(super) subject: Vec<Label>,
    pub(super) model: Option<String>,
    pub(super) size: Option<Size>,
}

/// What a configuration says, with its counters as they are in `store`.
pub(super) async fn configuration(
    config: &Config,
    store: Arc<dyn Store>,
    question: &Question,
) -> Result<Answer, Failure> {
    let mut labels = question.subject.clone();
    labels.extend(labels_of_model(config, question.model.as_deref())?);
    let says = |name: &str| labels.iter().any(|Label(label, _)| label == name);
    let as_asked = config.downgraded(Went::AsAsked);
    let as_asked = as_asked.filter(|(name, _)| !says(name));
    let subject: Vec<(&str, &str)> = labels
        .iter()
        .map(|Label(name, value)| (name.as_str(), value.as_str()))
        .chain(as_asked)
        .collect();
    let standings = store.peek(&subject).await;
    let standings = standings.map_err(|error| {
        Failure::new(Exit::Store, format!("the counters cannot be read: {error}"))
    })?;
    let tier = question
        .subject
        .iter()
        .find(|Label(name, _)| name == "tier");
    let tier = tier.map(|Label(_, tier)| tier.as_str());
    let models = question.model.as_deref();
    let models = models.map(|model| json!(config.servings(tier, model)));
    let unsized_calls = json!(config.unsized_calls(&subject));
    let store = config.store();
    let elsewhere = store.is_elsewhere();
    let rows = standings.iter().map(|standing| Row {
        store_down: elsewhere.then_some(standing.limit.store_down),
        ..row_of_standing(standing)
    });
    Ok(Answer {
        subject: labels,
        store: elsewhere.then(|| store.to_string()),
        rows: rows.collect(),
        size: question
            .size
            .map(|size| size.priced(config, question.model.as_deref())),
        models: models.and_then(|models| serde_json::from_value(models).ok()),
        unsized_calls: serde_json::from_value(unsized_calls).ok(),
    })
}

/// The labels that the gateway gives a call for `model`.
fn labels_of_model(config: &Config, model: Option<&str>) -> Result<Vec<Label>, Failure> {
    let Some(model) = model else {
        return Ok(Vec::new());
    };
    let labels = config.labels_of_call(model).map_err(|error| {
        Failure::new(Exit::Input, error).mend("name a model that one of the `upstreams` serves")
    })?;
    let labels = labels.into_iter();
    Ok(labels
        .map(|(label, value)| Label(label.to_owned(), value))
        .collect())
}

fn row_of_standing(standing: &Standing) -> Row {
    let limit = &standing.limit;
    Row {
        name: limit.name.to_string(),
        metric: limit.metric_name.to_string(),
        limit: limit.amount,
        burst: limit.burst,
        remaining: standing.remaining,
        debt: standing.debt,
        window: limit.window().to_owned(),
        reset_ms: u64::try_from(standing.reset.as_millis()).unwrap_or(u64::MAX),
        promise: limit.promise(),
        store_down: None,
        regime: None,
    }
}

/// What a running server's admin listener says: where its counters stand, and what they promise.
pub(super) async fn admin(whom: &Whom, question: &Question) -> Result<Answer, Failure> {
    let told = whom
        .open()?
        .get(&format!("/api/explain?{}", query(question)))
        .await?;
    let subject = told["subject"].as_object().into_iter().flatten();
    let labels =
        subject.filter_map(|(name, value)| Some(Label(name.clone(), value.as_str()?.to_owned())));
    let limits = told["limits"].as_array().into_iter().flatten();
    let store = told["store"].as_str().filter(|store| store.contains("://"));
    let rows = limits.map(|limit| Row {
        store_down: store.and_then(|_| store_down(limit)),
        ..row_of_json(limit)
    });
    Ok(Answer {
        subject: labels.collect(),
        store: store.map(str::to_owned),
        rows: rows.collect(),
        size: question.size,
        models: list_of_json(&told, "models"),
        unsized_calls: list_of_json(&told, "unsized_calls"),
    })
}

/// What a server says under this name; one that is older says nothing.
fn list_of_json<T: DeserializeOwned>(told: &Value, name: &str) -> Option<Vec<T>> {
    serde_json::from_value(told.get(name)?.clone()).ok()
}

fn store_down(limit: &Value) -> Option<StoreDown> {
    match limit["store_down"].as_str()? {
        "open" => Some(StoreDown::Open),
        "share" => Some(StoreDown::Share),
        "closed" => Some(StoreDown::Closed),
        _ => None,
    }
}

fn query(question: &Question) -> String {
    let model = question.model.iter().map(|model| ("model", model.as_str()));
    let labels = question
        .subject
        .iter()
        .map(|Label(name, value)| (name.as_str(), value.as_str()));
    let pairs = labels
        .chain(model)
        .map(|(name, value)| format!("{}={}", escaped(name), escaped(value)));
    pairs.collect::<Vec<_>>().join("&")
}

/// What a running server says.
pub(super) async fn server(
    url: &str,
    key: Option<&str>,
    question: &Question,
) -> Result<Answer, Failure> {
    let mut labels = question.subject.clone();
    labels.extend(
        question
            .model
            .iter()
            .map(|model| Label("model".to_owned(), model.clone())),
    );
    let client = key.map_or_else(|| Client::new(url), |key| Client::new(url).with_key(key));
    let path = format!("/tallygate/v1/limits?{}", query(question));
    let reply = client.get(&path).await.map_err(|error| {
        Failure::new(Exit::Unreachable, format!("{url}: {error}"))
            .mend("name the data listener of a running `tallygate serve`, as http://127.0.0.1:8787")
    })?;
    let body = reply.json();
    match (reply.status, body["limits"].as_array()) {
        (200, Some(limits)) => {
            let rows = limits.iter().map(row_of_json).collect();
            Ok(Answer {
                subject: labels,
                store: None,
                rows,
                size: question.size,
                models: list_of_json(&body, "models"),
                unsized_calls: None,
            })
        }
        (401, _) => Err(
            Failure::new(Exit::Unreachable, format!("{url} does not know the key"))
                .mend("give a key with the role `decide`: --key, or TALLYGATE_KEY"),
        ),
        (status, _) => {
            let said = body["error"]["message"]
                .as_str()
                .unwrap_or("an answer that is not known here");
            Err(Failure::new(
                Exit::Unreachable,
                format!("{url} answered {status}: {said}"),
            ))
        }
    }
}

fn regime(limit: &Value) -> Option<Regime> {
    let number = |name: &str| limit[name].as_u64().unwrap_or(0);
    match limit["regime"].as_str()? {
        "leased" => Some(Regime::Leased {
            share: number("share"),
            left: number("share_left"),
        }),
        _ => Some(Regime::Exact),
    }
}

fn row_of_json(limit: &Value) -> Row {
    let text = |name: &str| limit[name].as_str().unwrap_or_default().to_owned();
    let number = |name: &str| limit[name].as_u64().unwrap_or(0);
    Row {
        name: text("name"),
        metric: text("metric"),
        limit: number("limit"),
        burst: limit["burst"].as_u64().unwrap_or_else(|| number("limit")),
        remaining: number("remaining"),
        debt: number("debt"),
        window: text("window"),
        reset_ms: number("reset_ms"),
        promise: text("promise"),
        store_down: None,
        regime: regime(limit),
    }
}
