//! `tiers:`: named sets of limits and models.

use std::collections::BTreeMap;

use tallygate_core::{DOWNGRADED, Pattern, Rule};

use super::fields::{Fields, Known, Reading, nearest};
use super::ladder::{self, Ladder};
use super::limits::{self, Inherited, Written};
use super::prices::Prices;
use super::problem::{Kind, Place, Problem};
use super::routes::Routes;
use super::tree::Value;

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

/// The tiers by name.
#[derive(Debug, Default)]
pub(super) struct Tiers(BTreeMap<String, Tier>);

/// What a tier has beside its limits.
#[derive(Debug, Default)]
struct Tier {
    /// The models; all if it names none.
    models: Option<Vec<Pattern>>,
    /// The same as they are written.
    named: Vec<String>,
    ladder: Option<Ladder>,
    /// Whether a limit counts calls below a quota otherwise than those as asked.
    tells: bool,
}

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

    /// The models that tiers name, some with `*`.
    pub(super) fn models(&self) -> impl Iterator<Item = &str> {
        self.0
            .values()
            .flat_map(|tier| tier.named.iter().map(String::as_str))
    }

    /// Whether the caller's tier has `model` (the value of the label `model`). A caller without a tier has every model, and
    /// only the limits outside tiers count it.
    pub(super) fn permit(&self, tier: Option<&str>, model: &str) -> Result<(), Forbidden> {
        let Some(tier) = tier.filter(|_| !self.is_empty()) else {
            return Ok(());
        };
        let known = self
            .0
            .get(tier)
            .ok_or_else(|| Forbidden::Tier(tier.to_owned()))?;
        match &known.models {
            Some(patterns) if !patterns.iter().any(|pattern| pattern.matches(model)) => {
                Err(Forbidden::Model {
                    model: model.to_owned(),
                    tier: tier.to_owned(),
                })
            }
            _ => Ok(()),
        }
    }

    /// The caller's tier, if it has some models only.
    pub(super) fn bounded<'a>(&self, tier: Option<&'a str>) -> Result<Option<&'a str>, Forbidden> {
        let Some(tier) = tier.filter(|_| !self.is_empty()) else {
            return Ok(None);
        };
        match self.0.get(tier) {
            None => Err(Forbidden::Tier(tier.to_owned())),
            Some(known) => Ok(known.models.is_some().then_some(tier)),
        }
    }

    /// The rungs of a tier's ladder, as positions under `models:`, the best first.
    pub(super) fn ladder(&self, tier: Option<&str>) -> &[usize] {
        let ladder = tier.and_then(|tier| self.0.get(tier)?.ladder.as_ref());
        ladder.map_or(&[], |ladder| &ladder.rungs)
    }

    /// Whether a limit of a tier's calls counts those below a quota otherwise than those as asked. Where none does, asking for a
    /// model below its own quota is asking twice.
    pub(super) fn tells(&self, tier: Option<&str>) -> bool {
        tier.and_then(|tier| self.0.get(tier))
            .is_some_and(|tier| tier.tells)
    }

    /// Takes note of the limits of all tiers' calls.
    pub(super) fn heed(&mut self, written: &[Written]) {
        for (name, tier) in &mut self.0 {
            let mut rules = written.iter().map(|limit| &limit.rule);
            tier.tells = rules.any(|rule| tells(rule, name));
        }
    }

    /// Whether any tier has a ladder.
    pub(super) fn have_ladders(&self) -> bool {
        self.0.values().any(|tier| tier.ladder.is_some())
    }
}

fn tells(rule: &Rule, tier: &str) -> bool {
    let names = |label: &str| rule.when.iter().find(|(name, _)| name == label);
    let is_of = |(_, any): &(String, Vec<String>)| {
        any.iter()
            .any(|pattern| Pattern::new(pattern).matches(tier))
    };
    names(DOWNGRADED).is_some() && names("tier").is_none_or(is_of)
}

const TIER: Known<'static> = Known {
    what: "a tier",
    keys: &["models", "limits", "downgrade"],
    later: &[],
};

/// Reads `tiers:`, whose ladders name entries of `routes`; their limits are added to `written`.
pub(super) fn read(
    top: &Fields<'_>,
    (inherited, routes): (&Inherited<'_>, &Routes),
    written: &mut Vec<Written>,
    reading: &mut Reading<'_>,
) -> TiersWritten {
    let mut read = TiersWritten::default();
    let declared = match top.get("models").map(|node| &node.value) {
        Some(Value::Map(entries)) => entries.iter().map(|(key, _)| key.name.as_str()).collect(),
        _ => Vec::new(),
    };
    let node = top.get("tiers");
    for (key, value) in node
        .and_then(|node| reading.entries(node, "`tiers`"))
        .unwrap_or_default()
    {
        let mut tier = Tier::default();
        if let Some(fields) = reading.fields(value, &TIER) {
            if let Some(node) = fields.get("models") {
                let models = reading.texts(node, "`models`");
                let patterns = models.iter().map(|(text, _)| Pattern::new(text));
                tier.models = Some(patterns.collect());
                let models = models.into_iter();
                let places: Vec<_> = models.map(|(text, at)| (text.to_owned(), at)).collect();
                tier.named = places.iter().map(|(text, _)| text.clone()).collect();
                read.models.extend(places);
            }
            let of = ladder::Tier {
                name: &key.name,
                models: tier.models.as_deref(),
                declared: &declared,
                routes,
            };
            tier.ladder = fields
                .get("downgrade")
                .map(|node| ladder::read(node, &of, reading));
            if let Some(node) = fields.get("limits") {
                let inherited = Inherited {
                    tier: Some(&key.name),
                    ladder: tier.ladder.as_ref().map(|ladder| ladder.reach),
                    ..*inherited
                };
                written.extend(limits::limits(node, &inherited, reading));
            }
        }
        read.tiers.0.insert(key.name.clone(), tier);
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
    /// Reports models that no entry of `models:` is named as; without such entries, those that no table of prices has either.
    pub(super) fn check_models(
        &self,
        (routes, prices): (&Routes, &Prices),
        reading: &mut Reading<'_>,
    ) {
        let names = routes.model_names();
        if names.is_empty() {
            return self.check_prices(routes, prices, reading);
        }
        for (model, at) in &self.models {
            let pattern = Pattern::new(model);
            if !names.iter().any(|name| pattern.matches(name)) {
                reading.report(unknown_model(model, *at, &names));
            }
        }
    }

    /// A name that is nobody's would keep its tier from the model that was meant.
    fn check_prices(&self, routes: &Routes, prices: &Prices, reading: &mut Reading<'_>) {
        let unknown = self.models.iter().filter(|(model, _)| {
            let mut hosts = routes.upstreams().iter().map(|upstream| upstream.name());
            let is_sold =
                prices.knows(None, model) || hosts.any(|host| prices.knows(Some(host), model));
            !model.contains('*') && !is_sold
        });
        for (model, at) in unknown {
            let message =
                format!("the model `{model}` is not under `models`, and no price of it is known");
            let names = prices.names();
            let how = match nearest(model, names.into_iter()) {
                Some(near) => format!(
                    "did you mean `{near}`? Else add it under `models`, or under `prices: models`"
                ),
                None => "add it under `models`, or what it costs under `prices: models`".to_owned(),
            };
            reading.report(Problem::error(Kind::Unknown, *at, message).mend(how));
        }
    }
}

/// The report on a model that no entry of `models:` is named as.
pub(super) fn unknown_model(model: &str, at: Place, names: &[&str]) -> Problem {
    let near = nearest(model, names.iter().copied());
    let how = match near {
        Some(near) => format!("did you mean `{near}`?"),
        None if names.is_empty() => "add it under `models`".to_owned(),
        None => format!(
            "add it under `models`, or name one of: {}",
            names.join(", ")
        ),
    };
    let message = format!("the model `{model}` is not under `models`");
    Problem::error(Kind::Unknown, at, message).mend(how)
}
