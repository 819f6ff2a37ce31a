//! What limits refer to: labels, models, upstreams and tiers. Callers of the decision API may name others, so these are warnings.

use std::sync::Arc;

use tallygate_core::{Mode, Pattern, Rule};

use super::fields::{Reading, nearest};
use super::keys::SERVER_LABELS;
use super::limits::Written;
use super::prices::{Priced, Prices};
use super::problem::{Kind, Place, Problem};
use super::routes::{Model, Routes};
use super::tiers::Tiers;
use super::upstream::Upstream;

/// The labels that always have a meaning, beside those the server sets.
const SUBJECT_LABELS: [&str; 3] = ["tenant", "user", "tier"];

/// What there is to refer to.
pub(super) struct Referred<'a> {
    pub(super) routes: &'a Routes,
    pub(super) tiers: &'a Tiers,
    pub(super) prices: &'a Prices,
    pub(super) key_labels: &'a [String],
}

impl Referred<'_> {
    pub(super) fn check(&self, written: &[Written], reading: &mut Reading<'_>) {
        for limit in written {
            for (label, at) in &limit.labels {
                self.check_label(label, *at, reading);
            }
            for (label, pattern, at) in &limit.references {
                self.check_reference(label, pattern, *at, reading);
            }
            if let Some(at) = limit.cost_at {
                self.check_prices(&limit.rule, at, reading);
            }
        }
    }

    /// Money can be counted of models with a price only: a budget that one without may come under is refused.
    fn check_prices(&self, rule: &Rule, at: Place, reading: &mut Reading<'_>) {
        let entries = self.routes.models().iter();
        let entries = entries.filter(|model| !self.is_priced(model) && self.may_apply(rule, model));
        let mut unpriced: Vec<&str> = entries.map(|model| model.name.as_str()).collect();
        for name in self.without_entry(rule) {
            if !unpriced.contains(&name) && !self.is_priced_as(name) {
                unpriced.push(name);
            }
        }
        let Some(first) = unpriced.first() else {
            return;
        };
        let message = format!(
            "the limit `{}` counts cost, and no price is known of: {}",
            rule.name,
            unpriced.join(", ")
        );
        let how = format!(
            "add its dollars for a million tokens, or a model of the same price: {}",
            self.as_priced(first)
        );
        let problem = match rule.mode {
            Mode::Enforce => Problem::error(Kind::Missing, at, message),
            Mode::Shadow => Problem::warning(Kind::Missing, at, message),
        };
        reading.report(problem.mend(how));
    }

    /// The models that come under the limit by the names which it or a tier has for them, as no entry of `models:` takes them in.
    fn without_entry<'a>(&'a self, rule: &'a Rule) -> impl Iterator<Item = &'a str> {
        let conditions = rule.when.iter().filter(|(label, _)| label == "model");
        let own = conditions.flat_map(|(_, names)| names.iter().map(String::as_str));
        let named = own.chain(self.tiers.models()).filter(|name| {
            let has_entry = self.routes.model_names().contains(name);
            !name.contains('*') && !has_entry && self.routes.label_of(name).1.is_none()
        });
        named.filter(|name| self.may_count(rule, name, self.routes.upstreams()))
    }

    /// Whether every name that the model goes by has a price.
    fn is_priced(&self, model: &Model) -> bool {
        let mut names = model.patterns.iter();
        let mut all = || names.all(|name| !name.contains('*') && self.has_price(model, name));
        self.has_price(model, &model.name) || all()
    }

    fn has_price(&self, model: &Model, name: &str) -> bool {
        let priced = Priced {
            name,
            label: &model.name,
            upstream: Some(model.upstream.name()),
        };
        self.prices.of(&priced).is_some()
    }

    /// Whether a model without an entry has a price, wherever it is served.
    fn is_priced_as(&self, name: &str) -> bool {
        let upstreams = self.routes.upstreams().iter();
        let mut hosts = upstreams
            .map(|upstream| Some(upstream.name()))
            .chain([None]);
        hosts.any(|upstream| {
            let label = name;
            let priced = Priced {
                name,
                label,
                upstream,
            };
            self.prices.of(&priced).is_some()
        })
    }

    /// A line that gives the model a price: that of a name it goes by, if one has any.
    fn as_priced(&self, model: &str) -> String {
        let mut entries = self.routes.models().iter();
        let price = entries
            .find(|entry| entry.name == model)
            .and_then(|entry| {
                let mut names = entry.patterns.iter();
                names.find(|name| self.has_price(entry, name))
            })
            .map_or("{ input: 2.50, output: 10.00 }", String::as_str);
        format!("prices: {{ models: {{ {model}: {price} }} }}")
    }

    /// Whether some call of `model` comes under the limit.
    fn may_apply(&self, rule: &Rule, model: &Model) -> bool {
        self.may_count(rule, &model.name, std::slice::from_ref(&model.upstream))
    }

    /// Whether some call of the model of this name, which one of `upstreams` serves or an application itself, comes under the
    /// limit.
    fn may_count(&self, rule: &Rule, model: &str, upstreams: &[Arc<Upstream>]) -> bool {
        rule.when.iter().all(|(label, patterns)| {
            let matches = |value: &str| {
                patterns
                    .iter()
                    .any(|text| Pattern::new(text).matches(value))
            };
            match label.as_str() {
                "model" => matches(model),
                "upstream" => {
                    let mut names = upstreams.iter().map(|upstream| upstream.name());
                    upstreams.is_empty() || names.any(matches)
                }
                "tier" => self
                    .tiers
                    .names()
                    .any(|tier| matches(tier) && self.tiers.permit(Some(tier), model).is_ok()),
                _ => true,
            }
        })
    }

    fn check_label(&self, label: &str, at: Place, reading: &mut Reading<'_>) {
        let of_keys = self.key_labels.iter().map(String::as_str);
        let known: Vec<&str> = SERVER_LABELS
            .into_iter()
            .chain(SUBJECT_LABELS)
            .chain(of_keys)
            .collect();
        if known.contains(&label) {
            return;
        }
        if let Some(near) = nearest(label, known.into_iter()) {
            let message = format!("no key and no call of the gateway has the label `{label}`");
            reading.report(
                Problem::warning(Kind::Unknown, at, message)
                    .mend(format!("did you mean `{near}`?")),
            );
        }
    }

    fn check_reference(&self, label: &str, pattern: &str, at: Place, reading: &mut Reading<'_>) {
        match label {
            "model" => self.check_model(pattern, at, reading),
            "upstream" => {
                let names = self
                    .routes
                    .upstreams()
                    .iter()
                    .map(|upstream| upstream.name())
                    .collect();
                check_name(
                    &Name {
                        what: "upstream",
                        section: "upstreams",
                        pattern,
                        at,
                    },
                    names,
                    reading,
                );
            }
            "tier" => {
                let names = self.tiers.names().collect();
                check_name(
                    &Name {
                        what: "tier",
                        section: "tiers",
                        pattern,
                        at,
                    },
                    names,
                    reading,
                );
            }
            _ => {}
        }
    }

    /// A model that an entry of `models:` takes in counts under that entry's name, so a limit on its own name would never apply.
    fn check_model(&self, pattern: &str, at: Place, reading: &mut Reading<'_>) {
        let counts_as = self.routes.label_of(pattern).0;
        if !pattern.contains('*') && counts_as != pattern {
            let message = format!(
                "calls for `{pattern}` count as the model `{counts_as}`, so this never applies"
            );
            reading.report(
                Problem::warning(Kind::Conflict, at, message).mend(format!("write `{counts_as}`")),
            );
            return;
        }
        let names = self.routes.model_names();
        let name = Name {
            what: "model",
            section: "models",
            pattern,
            at,
        };
        // A name that is like no other may be one that simply passes through.
        if nearest(pattern, names.iter().copied()).is_some() {
            check_name(&name, names, reading);
        }
    }
}

struct Name<'a> {
    what: &'a str,
    section: &'a str,
    pattern: &'a str,
    at: Place,
}

fn check_name(name: &Name<'_>, names: Vec<&str>, reading: &mut Reading<'_>) {
    let pattern = Pattern::new(name.pattern);
    if names.is_empty() || names.iter().any(|known| pattern.matches(known)) {
        return;
    }
    let how = match nearest(name.pattern, names.iter().copied()) {
        Some(near) => format!("did you mean `{near}`?"),
        None => format!("there are: {}", names.join(", ")),
    };
    let message = format!(
        "the {} `{}` is not under `{}`",
        name.what, name.pattern, name.section
    );
    reading.report(Problem::warning(Kind::Unknown, name.at, message).mend(how));
}
