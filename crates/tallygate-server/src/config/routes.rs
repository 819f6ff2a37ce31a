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

    /// Adds a model and the names it goes by.
    pub(super) fn add(&mut self, model: Model, patterns: &[&str]) {
        let position = self.models.len();
        self.models.push(model);
        for pattern in patterns {
            if pattern.contains('*') {
                let literals = pattern.chars().filter(|c| *c != '*').count();
                self.globs.push(Glob {
                    pattern: Pattern::new(pattern),
                    literals,
                    model: position,
                });
            } else {
                self.exact
                    .entry((*pattern).to_owned())
                    .or_default()
                    .push(position);
            }
        }
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
            let output = with_estimate(OutputPolicy::for_model(asked), model.estimate);
            return Ok(Route {
                model: &model.name,
                upstream: &model.upstream,
                output,
            });
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
