//! What stands against calls whose size nobody can read: budgets that they would escape.

use tallygate_core::{Metric, Mode, Pattern, Rule};

use super::Config;
use super::tiers::Forbidden;

/// Whether an upstream is handed calls that may generate and that nobody can size.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
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
}
