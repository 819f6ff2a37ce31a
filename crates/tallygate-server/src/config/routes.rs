//! `upstreams:` and `models:`: where a call goes, and what its model counts as.

use std::collections::HashMap;
use std::sync::Arc;

use tallygate_core::Pattern;
use tallygate_tokens::{Dialect, Endpoint, OutputEstimate, OutputPolicy};

use super::upstream::Upstream;

/// Where a call goes.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Route<'a> {
    /// What the model counts as, the value of the label `model`: the entry of `models:` that matched, else the name asked for.
    pub model: &'a str,
    /// The provider account.
    pub upstream: &'a Arc<Upstream>,
    /// How the answer's size is estimated before the call.
    pub output: OutputPolicy,
}

/// A model that calls come down to.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Rung<'a> {
    /// Where such a call goes.
    pub route: Route<'a>,
    /// The name it is sent with: the first of `match` without a `*`, else the entry's own.
    pub name: &'a str,
}

impl Rung<'_> {
    /// Whether calls to `endpoint` can come down to it: they keep their dialect, and only a model for embeddings makes any.
    #[must_use]
    pub fn serves(&self, endpoint: Endpoint) -> bool {
        let sort = match endpoint {
            Endpoint::Embeddings => Sort::Embeddings,
            _ => Sort::Answers,
        };
        self.route.upstream.dialect() == endpoint.dialect() && self.sort() == sort
    }

    /// Whether it can stand for the model `asked`, as far as that can be told without the call.
    #[must_use]
    pub fn stands_for(&self, asked: &str, dialect: Option<Dialect>) -> bool {
        let speaks = self.route.upstream.dialect();
        dialect.is_none_or(|dialect| dialect == speaks) && self.sort() == Sort::of(asked)
    }

    fn sort(&self) -> Sort {
        match Sort::of(self.route.model) {
            Sort::Embeddings => Sort::Embeddings,
            Sort::Answers => Sort::of(self.name),
        }
    }
}

/// What a model makes. Only its name tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sort {
    Answers,
    Embeddings,
}

impl Sort {
    fn of(name: &str) -> Self {
        match name.contains("embed") {
            true => Self::Embeddings,
            false => Self::Answers,
        }
    }
}

/// Why a call goes nowhere.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NoRoute {
    /// No upstream speaks the endpoint's dialect.
    #[error("no upstream speaks the {} dialect", .0.name())]
    Dialect(Dialect),
    /// The model is served by an upstream of another dialect only.
    #[error("the model `{model}` is served in the {} dialect", .served.name())]
    OtherDialect {
        /// The model asked for.
        model: String,
        /// The dialect it is served in.
        served: Dialect,
    },
}

/// All upstreams and models.
#[derive(Debug, Default)]
pub(super) struct Routes {
    upstreams: Vec<Arc<Upstream>>,
    models: Vec<Model>,
    /// Positions in `models` by a match without `*`.
    exact: HashMap<String, Vec<usize>>,
    /// Matches with `*`, those with the most literal characters first.
    globs: Vec<Glob>,
}

/// One entry of `models:`.
#[derive(Debug)]
pub(super) struct Model {
    pub(super) name: String,
    pub(super) upstream: Arc<Upstream>,
    pub(super) estimate: Option<Chosen>,
    /// The name that a call is sent with which comes down to it; `None` where every name is a pattern.
    pub(super) sent_as: Option<String>,
    /// The names it goes by, some with `*`.
    pub(super) patterns: Vec<String>,
}

impl Model {
    fn route<'a>(&'a self, name: &str) -> Route<'a> {
        Route {
            model: &self.name,
            upstream: &self.upstream,
            output: with_estimate(OutputPolicy::for_model(name), self.estimate),
        }
    }
}

/// The estimate an entry chose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Chosen {
    MaxTokens,
    Multiplier { per_mille: u32 },
    Learned { quantile_per_mille: u32 },
}

/// What a learned estimate falls back to where the model's own default is no multiplier.
const FALLBACK: u32 = 1_200;

/// The model's built-in policy with the chosen estimate; a learned one falls back to the built-in multiplier.
fn with_estimate(known: OutputPolicy, chosen: Option<Chosen>) -> OutputPolicy {
    let fallback_per_mille = match known.estimate {
        OutputEstimate::Multiplier { per_mille } => per_mille,
        _ => FALLBACK,
    };
    let estimate = match chosen {
        None => return known,
        Some(Chosen::MaxTokens) => OutputEstimate::MaxTokens,
        Some(Chosen::Multiplier { per_mille }) => OutputEstimate::Multiplier { per_mille },
        Some(Chosen::Learned { quantile_per_mille }) => OutputEstimate::Learned {
            quantile_per_mille,
            fallback_per_mille,
        },
    };
    OutputPolicy { estimate, ..known }
}

#[derive(Debug)]
struct Glob {
    pattern: Pattern,
    literals: usize,
    model: usize,
}

impl Routes {
    pub(super) fn new(upstreams: Vec<Arc<Upstream>>) -> Self {
        Self {
            upstreams,
            ..Self::default()
        }
    }

    /// Adds a model.
    pub(super) fn add(&mut self, model: Model) {
        let position = self.models.len();
        for pattern in &model.patterns {
            if pattern.contains('*') {
                let literals = pattern.chars().filter(|c| *c != '*').count();
                self.globs.push(Glob {
                    pattern: Pattern::new(pattern),
                    literals,
                    model: position,
                });
            } else {
                self.exact
                    .entry(pattern.clone())
                    .or_default()
                    .push(position);
            }
        }
        self.models.push(model);
        // Stable: among equally long patterns the file's order stays.
        self.globs
            .sort_by_key(|glob| std::cmp::Reverse(glob.literals));
    }

    /// The route of a call: the most specific match of `models:` (exact, then the longest pattern, then the file's order) whose
    /// upstream speaks the endpoint's dialect, else the first upstream that does.
    pub(super) fn route<'a>(
        &'a self,
        endpoint: Endpoint,
        asked: &'a str,
    ) -> Result<Route<'a>, NoRoute> {
        let dialect = endpoint.dialect();
        if let Some(model) = self
            .matches(asked)
            .find(|model| model.upstream.dialect() == dialect)
        {
            return Ok(model.route(asked));
        }
        if let Some(model) = self.matches(asked).next() {
            return Err(NoRoute::OtherDialect {
                model: asked.to_owned(),
                served: model.upstream.dialect(),
            });
        }
        let upstream = self
            .upstream_for(dialect)
            .ok_or(NoRoute::Dialect(dialect))?;
        Ok(Route {
            model: asked,
            upstream,
            output: OutputPolicy::for_model(asked),
        })
    }

    /// The models at these positions as rungs.
    pub(super) fn rungs<'a>(&'a self, positions: &'a [usize]) -> impl Iterator<Item = Rung<'a>> {
        let models = positions.iter().filter_map(|at| self.models.get(*at));
        models.filter_map(|model| {
            let name = model.sent_as.as_deref()?;
            Some(Rung {
                route: model.route(name),
                name,
            })
        })
    }

    /// All entries, in the order of the file.
    pub(super) fn models(&self) -> &[Model] {
        &self.models
    }

    /// The first upstream of a dialect.
    pub(super) fn upstream_for(&self, dialect: Dialect) -> Option<&Arc<Upstream>> {
        self.upstreams
            .iter()
            .find(|upstream| upstream.dialect() == dialect)
    }

    /// What a model counts as when no dialect is known, as in the decision API.
    pub(super) fn label_of<'a>(&'a self, asked: &'a str) -> (&'a str, Option<&'a Arc<Upstream>>) {
        self.matches(asked)
            .next()
            .map_or((asked, None), |model| (&model.name, Some(&model.upstream)))
    }

    pub(super) fn upstreams(&self) -> &[Arc<Upstream>] {
        &self.upstreams
    }

    pub(super) fn model_names(&self) -> Vec<&str> {
        self.models
            .iter()
            .map(|model| model.name.as_str())
            .collect()
    }

    /// The names of `models` and those they go by, without the ones that have a `*`.
    pub(super) fn names(&self) -> Vec<&str> {
        let mut names: Vec<&str> = Vec::new();
        for model in &self.models {
            names.push(&model.name);
            names.extend(model.patterns.iter().map(String::as_str));
        }
        names.retain(|name| !name.contains('*'));
        names
    }

    fn matches<'a>(&'a self, asked: &'a str) -> impl Iterator<Item = &'a Model> {
        let exact = self.exact.get(asked).into_iter().flatten().copied();
        let globs = self
            .globs
            .iter()
            .filter(|glob| glob.pattern.matches(asked))
            .map(|glob| glob.model);
        exact
            .chain(globs)
            .filter_map(|position| self.models.get(position))
    }
}
