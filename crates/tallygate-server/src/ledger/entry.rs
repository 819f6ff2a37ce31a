//! What is known of a call, put as a record.

use std::sync::Arc;
use std::time::Duration;

use tallygate_core::{Amounts, Metric, Time};
use tallygate_store::usage::{Call, Labels, Method, Outcome, Record, Used};
use tallygate_tokens::{Cost, Usage};

use crate::config::Config;
use crate::identify::Identity;
use crate::pipeline::Price;

/// Labels that say what was called; the others say who called.
const OF_CALL: [&str; 3] = ["model", "upstream", "endpoint"];

/// Labels that the server sets for limits to tell calls apart by, and that a record says in another way.
const OF_SERVER: [&str; 1] = ["downgraded"];

/// Who called what: the labels that the limits were asked with.
#[derive(Debug, Clone, Default)]
pub(crate) struct Subject {
    pub(crate) labels: Labels,
    pub(crate) model: Arc<str>,
    /// The model asked for.
    pub(crate) asked: Arc<str>,
    pub(crate) upstream: Arc<str>,
}

impl Subject {
    /// A caller of `model`, asked for as `asked`, at `upstream`.
    pub(crate) fn of_identity(
        identity: &Identity,
        (model, asked): (&Arc<str>, &Arc<str>),
        upstream: &str,
    ) -> Self {
        let labels = identity.labels().iter();
        Self {
            labels: Labels::new(labels.map(|(label, value)| (&**label, &**value))),
            model: Arc::clone(model),
            asked: Arc::clone(asked),
            upstream: upstream.into(),
        }
    }

    /// A subject as the limits see it, for a call of a model that was asked for as `asked`.
    pub(crate) fn of(labels: &[(&str, &str)], asked: &str) -> Self {
        let value = |name: &str| {
            let found = labels.iter().find(|(label, _)| *label == name);
            found.map_or("", |(_, value)| value)
        };
        let is_own =
            |(label, _): &&(&str, &str)| !OF_CALL.contains(label) && !OF_SERVER.contains(label);
        let model: Arc<str> = value("model").into();
        Self {
            labels: Labels::new(labels.iter().filter(is_own).copied()),
            asked: match asked == &*model {
                true => Arc::clone(&model),
                false => asked.into(),
            },
            model,
            upstream: value("upstream").into(),
        }
    }
}

/// What was held for a call.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Reserved {
    /// When.
    pub(crate) at: Time,
    /// How much.
    pub(crate) amounts: Amounts,
    /// How long the caller stood in line for it.
    pub(crate) waited: Duration,
}

/// What a call used.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Use {
    /// What is charged for it.
    pub(crate) charged: Amounts,
    /// What it costs; `None` where there is no price.
    pub(crate) cost: Option<u64>,
    /// Cached, written to the cache and reasoning tokens, where somebody said so.
    pub(crate) details: Usage,
    pub(crate) method: Method,
}

impl Use {
    /// Tokens whose kind nobody said count as input.
    fn tokens(&self) -> Used {
        let of = |metric| self.charged.get(metric);
        let (input, output) = (of(Metric::INPUT_TOKENS), of(Metric::OUTPUT_TOKENS));
        let unsaid = of(Metric::TOKENS).saturating_sub(input.saturating_add(output));
        let input = input.saturating_add(unsaid);
        Used {
            input,
            cached_input: self.details.cached_input_tokens.min(input),
            cache_write: self.details.cache_write_tokens.min(input),
            output,
            reasoning: self.details.reasoning_tokens.min(output),
        }
    }
}

/// A record in the making: who called, and what was held.
#[derive(Debug, Clone)]
pub(crate) struct Entry {
    pub(super) record: Record,
    /// The price of the model asked for, where another serves.
    pub(super) asked: Option<Price>,
}

impl Entry {
    /// A call of `subject` for which so much was held, or that was denied so much.
    pub(crate) fn new(subject: Subject, reserved: &Reserved) -> Self {
        let record = Record {
            time: reserved.at.as_nanos() / 1_000_000,
            labels: subject.labels,
            call: Call {
                model: subject.model,
                asked: subject.asked,
                upstream: subject.upstream,
                ..Call::default()
            },
            waited_ms: millis(reserved.waited),
            ..Record::default()
        };
        let mut entry = Self {
            record,
            asked: None,
        };
        entry.hold(&reserved.amounts);
        entry
    }

    /// A call that was let through, by the prices of `config`.
    pub(crate) fn let_through(subject: Subject, reserved: &Reserved, config: &Config) -> Self {
        let downgraded = subject.asked != subject.model;
        let asked = downgraded.then(|| Price::of_label(config, &subject.asked));
        Self {
            asked,
            ..Self::new(subject, reserved)
        }
    }

    /// More is held, or less.
    pub(crate) fn hold(&mut self, amounts: &Amounts) {
        let tokens = amounts
            .get(Metric::INPUT_TOKENS)
            .saturating_add(amounts.get(Metric::OUTPUT_TOKENS));
        self.record.held = tokens.max(amounts.get(Metric::TOKENS));
        self.record.held_cost = Some(amounts.get(Metric::COST)).filter(|cost| *cost > 0);
    }

    /// A limit denied it.
    pub(crate) fn denied(mut self, outcome: Outcome, limit: &str) -> Record {
        self.record.call.outcome = outcome;
        self.record.call.limit = limit.into();
        self.record
    }

    /// It used so much and took so long.
    pub(crate) fn ended(mut self, outcome: Outcome, used: &Use, took: Duration) -> Record {
        self.record.call.outcome = outcome;
        self.record.call.method = used.method;
        self.record.used = used.tokens();
        self.record.latency_ms = millis(took);
        self.record.cost = used.cost;
        self.record.asked_cost = match &self.asked {
            Some(price) => price.cost(&self.usage()).map(Cost::micros),
            None => used.cost,
        };
        self.record
    }
}

impl Entry {
    /// What the record says was used.
    fn usage(&self) -> Usage {
        let used = &self.record.used;
        Usage {
            input_tokens: used.input,
            output_tokens: used.output,
            cached_input_tokens: used.cached_input,
            cache_write_tokens: used.cache_write,
            reasoning_tokens: used.reasoning,
            ..Usage::default()
        }
    }
}

fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}
