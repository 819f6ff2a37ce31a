//! What stands against calls whose size nobody can read: budgets that they would escape.

use serde::Serialize;
use tallygate_core::{DOWNGRADED, Metric, Mode, Pattern, Rule};

use super::tiers::Forbidden;
use super::{Config, Upstream, Went};

/// The value of the label `endpoint` of a call that has no size.
pub(crate) const UNREAD_ENDPOINT: &str = "other";

/// Whether an upstream is handed calls that may generate and that nobody can size.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Passthrough {
    /// Those of callers whom neither a budget nor their tier's models stand against.
    #[default]
    Guarded,
    /// All of them, under their request limits alone.
    Allow,
}

/// Why a call that may generate is not handed on unread.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Unread {
    /// A limit counts what the call would use.
    #[error("the limit `{name}` counts {counts}")]
    Limit {
        /// Its name.
        name: String,
        /// What it counts: `cost` or `tokens`.
        counts: &'static str,
    },
    /// The caller's tier names the models it has.
    #[error("the tier `{0}` has some models only")]
    Tier(String),
    /// The caller's tier is none of the configured ones.
    #[error(transparent)]
    Forbidden(#[from] Forbidden),
}

impl Unread {
    /// The limit, where it is one.
    #[must_use]
    pub fn limit(&self) -> &str {
        match self {
            Self::Limit { name, .. } => name,
            Self::Tier(_) | Self::Forbidden(_) => "",
        }
    }
}

/// What becomes of a caller's calls that may generate and that nobody can size, at an upstream that they go to: what `explain`
/// tells of them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct UnsizedCalls {
    /// The upstream's name.
    pub upstream: String,
    /// What it may be handed.
    pub passthrough: Passthrough,
    /// What stands against them, in words; `None` where they pass.
    pub refused_because: Option<String>,
}

/// The limits that count tokens or money and deny.
#[derive(Debug, Default)]
pub(super) struct Budgets(Vec<Budget>);

#[derive(Debug)]
struct Budget {
    name: String,
    counts: &'static str,
    /// The labels it asks for. Not the model: a call that nobody reads may be of any.
    when: Vec<(String, Vec<Pattern>)>,
}

impl Budgets {
    pub(super) fn of(rules: &[Rule]) -> Self {
        let denying = rules.iter().filter(|rule| rule.mode == Mode::Enforce);
        Self(denying.filter_map(Budget::of).collect())
    }

    /// Whether a call that goes to the upstream of this name could escape one of them.
    pub(super) fn any_at(&self, upstream: &str) -> Option<&str> {
        let is_at = |budget: &&Budget| {
            let mut when = budget.when.iter();
            when.all(|(label, any)| label != "upstream" || is_one_of(upstream, any))
        };
        self.0.iter().find(is_at).map(|budget| &*budget.name)
    }

    fn of_subject(&self, subject: &[(&str, &str)]) -> Option<&Budget> {
        self.0.iter().find(|budget| budget.applies(subject))
    }
}

impl Budget {
    fn of(rule: &Rule) -> Option<Self> {
        let has = |wanted: Metric| rule.limits.iter().any(|(metric, ..)| *metric == wanted);
        let counts = match (has(Metric::COST), TOKENS.into_iter().any(has)) {
            (true, _) => "cost",
            (false, true) => "tokens",
            (false, false) => return None,
        };
        let asks = rule.when.iter().filter(|(label, _)| label != "model");
        let patterns = |any: &Vec<String>| any.iter().map(|text| Pattern::new(text)).collect();
        Some(Self {
            name: rule.name.clone(),
            counts,
            when: asks
                .map(|(label, any)| (label.clone(), patterns(any)))
                .collect(),
        })
    }

    fn applies(&self, subject: &[(&str, &str)]) -> bool {
        self.when.iter().all(|(label, any)| {
            let mut labels = subject.iter().filter(|(name, _)| name == label);
            labels
                .next()
                .is_some_and(|(_, value)| is_one_of(value, any))
        })
    }
}

const TOKENS: [Metric; 3] = [Metric::TOKENS, Metric::INPUT_TOKENS, Metric::OUTPUT_TOKENS];

fn is_one_of(value: &str, any: &[Pattern]) -> bool {
    any.iter().any(|pattern| pattern.matches(value))
}

impl Config {
    /// Whether a call of `subject` that may generate is handed on to `upstream` without being read: its subject is all that is
    /// known of it.
    ///
    /// # Errors
    /// What it would escape: a limit of tokens or cost that denies, on whatever model, or the list of models of its tier.
    pub(crate) fn may_pass_unread(
        &self,
        upstream: &str,
        subject: &[(&str, &str)],
    ) -> Result<(), Unread> {
        let mut upstreams = self.upstreams().iter();
        let to = upstreams.find(|known| known.name() == upstream);
        if to.is_some_and(|to| to.passthrough() == Passthrough::Allow) {
            return Ok(());
        }
        let mut labels = subject.iter().filter(|(label, _)| *label == "tier");
        let tier = labels.next().map(|(_, tier)| *tier);
        if let Some(tier) = self.tiers.bounded(tier)? {
            return Err(Unread::Tier(tier.to_owned()));
        }
        match self.budgets.of_subject(subject) {
            None => Ok(()),
            Some(budget) => Err(Unread::Limit {
                name: budget.name.clone(),
                counts: budget.counts,
            }),
        }
    }

    /// What becomes of calls of `subject` that may generate and that nobody can size, at each upstream that they go to: the first
    /// of its dialect. Of the labels those of its calls are left out, for such a call has its own.
    #[must_use]
    pub fn unsized_calls(&self, subject: &[(&str, &str)]) -> Vec<UnsizedCalls> {
        let caller = subject.iter().filter(|(label, _)| !OF_CALL.contains(label));
        let caller: Vec<_> = caller
            .copied()
            .chain(self.downgraded(Went::AsAsked))
            .collect();
        let upstreams = self.upstreams().iter().map(|upstream| &**upstream);
        upstreams
            .filter(|upstream| self.is_first_of_dialect(upstream))
            .map(|upstream| {
                let known = [("upstream", upstream.name()), ("endpoint", UNREAD_ENDPOINT)];
                let call = [&caller[..], &known].concat();
                let refusal = self.may_pass_unread(upstream.name(), &call).err();
                UnsizedCalls {
                    upstream: upstream.name().to_owned(),
                    passthrough: upstream.passthrough(),
                    refused_because: refusal.map(|by| by.to_string()),
                }
            })
            .collect()
    }

    fn is_first_of_dialect(&self, upstream: &Upstream) -> bool {
        let first = self.upstream_for(upstream.dialect());
        first.is_some_and(|first| first.name() == upstream.name())
    }
}

/// The labels that say which call it is, and not whose.
const OF_CALL: [&str; 4] = ["model", "upstream", "endpoint", DOWNGRADED];
