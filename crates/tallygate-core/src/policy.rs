//! The rules: which limits there are, whom they apply to, and whom they count apart.
mod amended;
mod index;
mod shared;

use crate::counter::State;
use crate::meter::Meter;
use crate::metric::{MAX_AMOUNT, Metric, Metrics};
use crate::num;
use crate::shape::{Mode, Shape, StoreDown};
use crate::time::Span;
use index::Index;
use std::collections::HashSet;
use std::sync::Arc;

/// One rule as it is written: one or more limits for the subjects it names.
#[derive(Debug, Clone, PartialEq)]
pub struct Rule {
    /// Names it in answers, metrics and overrides; unique in a policy.
    pub name: String,
    /// It applies when each of these labels matches one of its patterns (`*` stands for any text).
    pub when: Vec<(String, Vec<String>)>,
    /// It counts apart for each combination of values of these labels. A label the subject lacks counts as empty.
    pub per: Vec<String>,
    /// What is limited: metric, amount, shape.
    pub limits: Vec<(Metric, u64, Shape)>,
    /// Whether it denies.
    pub mode: Mode,
    /// What it does when its store cannot be reached.
    pub store_down: StoreDown,
}

/// One limit, ready to be shown.
#[derive(Debug, Clone, PartialEq)]
pub struct LimitInfo {
    /// The name of its rule.
    pub name: Arc<str>,
    /// What it counts.
    pub metric: Metric,
    /// The metric's name.
    pub metric_name: Arc<str>,
    /// How much of it a window gives.
    pub amount: u64,
    /// The most that can be taken at once.
    pub burst: u64,
    /// How it refills.
    pub shape: Shape,
    /// Whether it denies.
    pub mode: Mode,
    /// What it does when its store cannot be reached.
    pub store_down: StoreDown,
    window: Arc<str>,
}

impl LimitInfo {
    /// The window as text: `60s`, `day`, or `at once`.
    #[must_use]
    pub fn window(&self) -> &str {
        &self.window
    }

    /// Whether it is a quota rather than a rate: a calendar day, week or month, or money. Nobody sits one out.
    #[must_use]
    pub fn is_quota(&self) -> bool {
        self.shape.is_quota_of(self.metric)
    }

    /// What it promises, in words.
    #[must_use]
    pub fn promise(&self) -> String {
        let amount = |amount: u64| self.metric.show(amount);
        let of_it = |amount: u64| self.quantity(amount);
        self.shape
            .promise((self.amount, self.burst), (&amount, &of_it))
    }

    /// An amount of what it counts, as people read it: `500 tokens`, `$2000.00`.
    #[must_use]
    pub fn quantity(&self, amount: u64) -> String {
        let shown = self.metric.show(amount);
        match self.metric {
            Metric::COST => shown,
            _ => format!("{shown} {}", self.metric_name),
        }
    }
}

/// An immutable set of rules. A copy shares them.
#[derive(Debug, Clone)]
pub struct Policy {
    rules: Arc<Vec<Arc<CompiledRule>>>,
    index: Arc<Index>,
    metrics: Metrics,
}

impl Policy {
    /// Checks the rules and makes them ready for use.
    ///
    /// # Errors
    /// The first rule that cannot be: see [`PolicyError`].
    pub fn new(rules: Vec<Rule>, metrics: Metrics) -> Result<Self, PolicyError> {
        let none = Self {
            rules: Arc::default(),
            index: Arc::default(),
            metrics: metrics.clone(),
        };
        none.amended(rules, &[], metrics)
    }

    /// The names of the metrics.
    #[must_use]
    pub fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// All limits, in the order of the rules.
    pub fn limits(&self) -> impl Iterator<Item = &Arc<LimitInfo>> {
        self.rules.iter().flat_map(|rule| rule.infos())
    }

    /// The limits that apply to a subject, in the order of the rules.
    pub fn limits_of<'a>(
        &'a self,
        subject: &'a [(&'a str, &'a str)],
    ) -> impl Iterator<Item = &'a Arc<LimitInfo>> {
        let mut applying: Vec<&Arc<CompiledRule>> = Vec::new();
        self.each_applying(subject, |_, rule| applying.push(rule));
        applying.into_iter().flat_map(|rule| rule.infos())
    }

    /// How many rules are looked at to find those that apply to a subject: what that costs, but for the subject's labels. All, where
    /// there are few; else those that demand a value that the subject has, and those that demand none.
    #[must_use]
    pub fn looked_at(&self, subject: &[(&str, &str)]) -> usize {
        match self.is_short() {
            true => self.rules.len(),
            false => self.index.candidates(subject).len(),
        }
    }

    /// Shows the rules that apply to a subject with their places, in the order of the rules.
    #[inline]
    pub(crate) fn each_applying<'a>(
        &'a self,
        subject: &[(&str, &str)],
        mut show: impl FnMut(usize, &'a Arc<CompiledRule>),
    ) {
        if self.is_short() {
            let all = self.rules.iter().enumerate();
            let applying = all.filter(|(_, rule)| rule.applies(subject));
            applying.for_each(|(place, rule)| show(place, rule));
            return;
        }
        for place in self.index.candidates(subject) {
            let place = num::index(place);
            let rule = self.rules.get(place);
            if let Some(rule) = rule.filter(|rule| rule.applies(subject)) {
                show(place, rule);
            }
        }
    }

    pub(crate) fn rules(&self) -> &[Arc<CompiledRule>] {
        &self.rules
    }

    /// Whether looking at all rules is quicker than looking some up.
    fn is_short(&self) -> bool {
        self.rules.len() <= FEW
    }
}

/// The label that tells calls for the model asked for (`no`) from those that went down a ladder of cheaper ones (`yes`). A
/// condition on it says which calls a counter counts and not what it means, so that counters outlive a change of it.
pub const DOWNGRADED: &str = "downgraded";

/// The label of a call that is served as asked. Whether it is there or not says only whether there is a ladder.
pub const AS_ASKED: (&str, &str) = (DOWNGRADED, "no");

/// So many rules are looked at one after the other: to look one up costs as much as to look at a few.
const FEW: usize = 16;

/// How many rules a policy may have.
pub const MAX_RULES: usize = 10_000;

/// The longest window of a bucket or sliding limit: 366 days.
pub const MAX_WINDOW: Span = Span::from_secs(366 * 86_400);

/// The longest time in which a bucket may refill from empty: 100 years. [`crate::Time`] ends in 2554, and a
/// level beyond it could not be told from a full one.
pub const MAX_REFILL: Span = Span::from_secs(36_525 * 86_400);

/// Why a rule cannot be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PolicyError {
    /// Two rules of one name.
    #[error("two limits are named `{0}`")]
    DuplicateName(String),
    /// A rule that limits nothing.
    #[error("the limit `{0}` limits no metric")]
    Empty(String),
    /// An amount of zero or above [`MAX_AMOUNT`].
    #[error("the limit `{rule}` has an amount of {amount}: 1 to 9007199254740992 is possible")]
    Amount {
        /// The rule's name.
        rule: String,
        /// The amount given.
        amount: u64,
    },
    /// A burst of zero or out of range, or a strict bucket whose burst leaves no rate.
    #[error("the limit `{rule}` has a burst of {burst}: {mend}")]
    Burst {
        /// The rule's name.
        rule: String,
        /// The burst given.
        burst: u64,
        /// What is possible.
        mend: &'static str,
    },
    /// A window of no length or above [`MAX_WINDOW`].
    #[error("the limit `{rule}` has a window of {every}: 1ns to 366d is possible")]
    Window {
        /// The rule's name.
        rule: String,
        /// The window given.
        every: Span,
    },
    /// A metric and a shape that do not go together.
    #[error(
        "the limit `{0}`: `concurrency` counts calls in flight and goes with no window, other metrics with no `concurrency` shape"
    )]
    Concurrency(String),
    /// The same metric twice in one rule.
    #[error("the limit `{0}` names a metric twice")]
    Twice(String),
    /// More than [`MAX_RULES`].
    #[error("{0} limits: at most 10000 are possible")]
    TooMany(usize),
    /// Metrics among which one of the rules' own has another place, or none.
    #[error("the metric `{0}` is not where it was among the metrics")]
    Moved(String),
}

/// A rule ready for use.
#[derive(Debug, Clone)]
pub(crate) struct CompiledRule {
    pub(crate) when: Vec<(String, Vec<Pattern>)>,
    pub(crate) per: Vec<String>,
    pub(crate) limits: Vec<CompiledLimit>,
    pub(crate) mode: Mode,
    /// Equal for rules whose counters mean the same, amounts apart.
    pub(crate) tag: String,
}

/// A limit ready for use.
#[derive(Debug, Clone)]
pub(crate) struct CompiledLimit {
    pub(crate) info: Arc<LimitInfo>,
    pub(crate) metric: Metric,
    pub(crate) meter: Meter,
}

impl CompiledRule {
    fn new(rule: Rule, metrics: &Metrics) -> Result<Self, PolicyError> {
        check(&rule)?;
        let name: Arc<str> = Arc::from(rule.name.as_str());
        let tag = tag(&rule, metrics);
        let limit = |(metric, amount, shape): &(Metric, u64, Shape)| {
            let burst = burst_of(*amount, shape);
            let info = LimitInfo {
                name: name.clone(),
                metric: *metric,
                metric_name: metrics.name(*metric),
                amount: *amount,
                burst,
                window: Arc::from(shape.window()),
                shape: shape.clone(),
                mode: rule.mode,
                store_down: rule.store_down,
            };
            CompiledLimit {
                meter: Meter::new(*amount, burst, shape),
                metric: *metric,
                info: Arc::new(info),
            }
        };
        let limits = rule.limits.iter().map(limit).collect();
        let patterns = |texts: &[String]| texts.iter().map(|text| Pattern::new(text)).collect();
        Ok(Self {
            when: rule
                .when
                .iter()
                .map(|(label, any)| (label.clone(), patterns(any)))
                .collect(),
            per: sorted(rule.per),
            limits,
            mode: rule.mode,
            tag,
        })
    }

    /// Whether it applies to this subject.
    pub(crate) fn applies(&self, subject: &[(&str, &str)]) -> bool {
        self.when.iter().all(|(label, any)| {
            value_of(subject, label).is_some_and(|value| any.iter().any(|p| p.matches(value)))
        })
    }

    /// The initial state of its counter number `at`; past the last one, a state that nobody reads.
    pub(crate) fn fresh(&self, at: usize) -> State {
        let limit = self.limits.get(at);
        limit.map_or(State::Gauge(0), |limit| State::fresh(&limit.meter))
    }

    /// The name it was given.
    pub(crate) fn name(&self) -> &str {
        self.infos().next().map_or("", |info| &info.name)
    }

    /// The labels of which it demands one of some texts, with these.
    fn exact_demands(&self) -> impl Iterator<Item = (&str, Vec<&str>)> {
        self.when.iter().filter_map(|(label, any)| {
            let texts: Option<Vec<&str>> = any.iter().map(Pattern::exact).collect();
            Some((label.as_str(), texts?))
        })
    }

    /// What it does when its store cannot be reached.
    pub(crate) fn store_down(&self) -> StoreDown {
        let first = self.infos().next();
        first.map_or_else(StoreDown::default, |info| info.store_down)
    }

    fn infos(&self) -> impl Iterator<Item = &Arc<LimitInfo>> {
        self.limits.iter().map(|limit| &limit.info)
    }
}

/// The value of a label of a subject.
pub(crate) fn value_of<'a>(subject: &[(&'a str, &'a str)], label: &str) -> Option<&'a str> {
    let found = subject.iter().find(|(name, _)| *name == label);
    found.map(|(_, value)| *value)
}

fn burst_of(amount: u64, shape: &Shape) -> u64 {
    match shape {
        Shape::Bucket {
            burst: Some(burst), ..
        } => *burst,
        Shape::Bucket { strict: true, .. } => amount.checked_div(10).unwrap_or(0).max(1),
        _ => amount,
    }
}

fn check(rule: &Rule) -> Result<(), PolicyError> {
    let name = || rule.name.clone();
    if rule.limits.is_empty() {
        return Err(PolicyError::Empty(name()));
    }
    let mut seen = HashSet::new();
    for (metric, amount, shape) in &rule.limits {
        if !seen.insert(*metric) {
            return Err(PolicyError::Twice(name()));
        }
        if *amount == 0 || *amount > MAX_AMOUNT {
            return Err(PolicyError::Amount {
                rule: name(),
                amount: *amount,
            });
        }
        if (*metric == Metric::CONCURRENCY) != (*shape == Shape::Concurrency) {
            return Err(PolicyError::Concurrency(name()));
        }
        check_window(rule, shape)?;
        check_burst(rule, *amount, shape)?;
    }
    Ok(())
}

fn check_window(rule: &Rule, shape: &Shape) -> Result<(), PolicyError> {
    match shape {
        Shape::Bucket { every, .. } | Shape::Sliding { every }
            if *every == Span::ZERO || *every > MAX_WINDOW =>
        {
            Err(PolicyError::Window {
                rule: rule.name.clone(),
                every: *every,
            })
        }
        _ => Ok(()),
    }
}

fn check_burst(rule: &Rule, amount: u64, shape: &Shape) -> Result<(), PolicyError> {
    let burst = burst_of(amount, shape);
    let refuse = |mend| {
        Err(PolicyError::Burst {
            rule: rule.name.clone(),
            burst,
            mend,
        })
    };
    match shape {
        _ if burst == 0 || burst > MAX_AMOUNT => refuse("1 to 9007199254740992 is possible"),
        Shape::Bucket { strict: true, .. } if burst >= amount => {
            refuse("a strict bucket needs a burst smaller than its amount")
        }
        Shape::Bucket { .. } if Meter::new(amount, burst, shape).refill() > MAX_REFILL => {
            refuse("it must refill within 100 years")
        }
        _ => Ok(()),
    }
}

fn sorted(mut labels: Vec<String>) -> Vec<String> {
    labels.sort();
    labels
}

fn tag(rule: &Rule, metrics: &Metrics) -> String {
    let per = sorted(rule.per.clone());
    let mut when = rule.when.clone();
    when.retain(|(label, _)| label != DOWNGRADED);
    when.sort();
    let limit = |(metric, _, shape): &(Metric, u64, Shape)| {
        format!("{}/{}", metrics.name(*metric), shape.signature())
    };
    let limits: Vec<String> = rule.limits.iter().map(limit).collect();
    format!("{:?}", (&rule.name, per, when, limits))
}

/// A text in which `*` stands for any text, also for none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pattern {
    parts: Vec<Box<str>>,
}

impl Pattern {
    /// The pattern written as `text`.
    #[must_use]
    pub fn new(text: &str) -> Self {
        Self {
            parts: text.split('*').map(Box::from).collect(),
        }
    }

    /// The one text that it stands for, if there is but one.
    pub(crate) fn exact(&self) -> Option<&str> {
        match &*self.parts {
            [text] => Some(text),
            _ => None,
        }
    }

    /// How it is written.
    pub(crate) fn text(&self) -> String {
        self.parts.join("*")
    }

    /// Whether `value` is one of its texts. Linear in both.
    #[must_use]
    pub fn matches(&self, value: &str) -> bool {
        let Some((first, rest)) = self.parts.split_first() else {
            return false;
        };
        let Some((last, middle)) = rest.split_last() else {
            return **first == *value;
        };
        let Some(mut left) = value.strip_prefix(&**first) else {
            return false;
        };
        for part in middle {
            match left.split_once(&**part) {
                Some((_, after)) => left = after,
                None => return false,
            }
        }
        left.ends_with(&**last)
    }
}

#[cfg(test)]
mod tests;
