//! `tiers:`: named sets of limits and models.

use std::collections::BTreeMap;

use tallygate_core::Pattern;

use super::fields::{Fields, Known, Reading, nearest};
use super::limits::{self, Inherited, Written};
use super::problem::{Kind, Place, Problem};
use super::routes::Routes;

/// Why a caller may not use a model.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Forbidden {
    /// Its tier does not have the model.
    #[error("the model `{model}` is not in the tier `{tier}`")]
    Model {
        /// The model asked for.
        model: String,
        /// The caller's tier.
        tier: String,
    },
    /// Its tier is none of the configured ones, so none of their limits would count it.
    #[error("the tier `{0}` is not known")]
    Tier(String),
}

/// The tiers by name; each with the models it has, or all.
#[derive(Debug, Default)]
pub(super) struct Tiers(BTreeMap<String, Option<Vec<Pattern>>>);

impl Tiers {
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn has(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }

    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }

    /// Whether the caller's tier has `model` (the value of the label `model`). A caller without a tier has every model, and
    /// only the limits outside tiers count it.
    pub(super) fn permit(&self, tier: Option<&str>, model: &str) -> Result<(), Forbidden> {
        let Some(tier) = tier.filter(|_| !self.is_empty()) else {
            return Ok(());
        };
        let models = self
            .0
            .get(tier)
            .ok_or_else(|| Forbidden::Tier(tier.to_owned()))?;
        match models {
            Some(patterns) if !patterns.iter().any(|pattern| pattern.matches(model)) => {
                Err(Forbidden::Model {
                    model: model.to_owned(),
                    tier: tier.to_owned(),
                })
            }
            _ => Ok(()),
        }
    }
}

const TIER: Known<'static> = Known {
    what: "a tier",
    keys: &["models", "limits"],
    later: &[("downgrade", "the ladder of cheaper models")],
};

/// Reads `tiers:`; their limits are added to `written`.
pub(super) fn read(
    top: &Fields<'_>,
    inherited: &Inherited<'_>,
    written: &mut Vec<Written>,
    reading: &mut Reading<'_>,
) -> TiersWritten {
    let mut read = TiersWritten::default();
    let node = top.get("tiers");
    for (key, value) in node
        .and_then(|node| reading.entries(node, "`tiers`"))
        .unwrap_or_default()
    {
        read.tiers.0.insert(key.name.clone(), None);
        let Some(fields) = reading.fields(value, &TIER) else {
            continue;
        };
        if let Some(node) = fields.get("models") {
            let models = reading.texts(node, "`models`");
            read.tiers.0.insert(
                key.name.clone(),
                Some(models.iter().map(|(text, _)| Pattern::new(text)).collect()),
            );
            read.models
                .extend(models.into_iter().map(|(text, at)| (text.to_owned(), at)));
        }
        if let Some(node) = fields.get("limits") {
            let inherited = Inherited {
                tier: Some(&key.name),
                ..*inherited
            };
            written.extend(limits::limits(node, &inherited, reading));
        }
    }
    read
}

/// The tiers with the places of the models they name.
#[derive(Default)]
pub(super) struct TiersWritten {
    pub(super) tiers: Tiers,
    models: Vec<(String, Place)>,
}

impl TiersWritten {
    /// Reports models that no entry of `models:` is named as; without such entries any name will do.
    pub(super) fn check_models(&self, routes: &Routes, reading: &mut Reading<'_>) {
        let names = routes.model_names();
        if names.is_empty() {
            return;
        }
        for (model, at) in &self.models {
            let pattern = Pattern::new(model);
            if !names.iter().any(|name| pattern.matches(name)) {
                let near = nearest(model, names.iter().copied())
                    .map(|near| format!("did you mean `{near}`?"));
                let how = near.unwrap_or_else(|| {
                    format!(
                        "add it under `models`, or name one of: {}",
                        names.join(", ")
                    )
                });
                let message = format!("the model `{model}` is not under `models`");
                reading.report(Problem::error(Kind::Unknown, *at, message).mend(how));
            }
        }
    }
}
