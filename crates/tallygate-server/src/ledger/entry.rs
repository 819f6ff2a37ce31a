//! What is known of a call, put as a record.

use std::sync::Arc;
use std::time::Duration;

use tallygate_core::{Amounts, Metric, Time};
use tallygate_store::usage::{Call, Labels, Method, Outcome, Record, Used};
use tallygate_tokens::Usage;

use crate::identify::Identity;

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
pub(crate) struct Entry(Record);

impl Entry {
    /// A call of `subject` for which so much was held, or that was denied so much.
    pub(crate) fn new(subject: Subject, reserved: &Reserved) -> Self {
        let mut entry = Self(Record {
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
        });
        entry.hold(&reserved.amounts);
        entry
    }

    /// More is held, or less.
    pub(crate) fn hold(&mut self, amounts: &Amounts) {
        let tokens = amounts
            .get(Metric::INPUT_TOKENS)
            .saturating_add(amounts.get(Metric::OUTPUT_TOKENS));
        self.0.held = tokens.max(amounts.get(Metric::TOKENS));
        self.0.held_cost = Some(amounts.get(Metric::COST)).filter(|cost| *cost > 0);
    }

    /// A limit denied it.
    pub(crate) fn denied(mut self, outcome: Outcome, limit: &str) -> Record {
        self.0.call.outcome = outcome;
        self.0.call.limit = limit.into();
        self.0
    }

    /// It used so much and took so long.
    pub(crate) fn ended(mut self, outcome: Outcome, used: &Use, took: Duration) -> Record {
        self.0.call.outcome = outcome;
        self.0.call.method = used.method;
        self.0.used = used.tokens();
        self.0.latency_ms = millis(took);
        let cost = used.charged.get(Metric::COST);
        self.0.cost = Some(cost).filter(|cost| *cost > 0);
        self.0.asked_cost = self.0.cost;
        self.0
    }
}

fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}
