//! What limits refer to: labels, models, upstreams and tiers. Callers of the decision API may name others, so these are warnings.

use tallygate_core::Pattern;

use super::fields::{Reading, nearest};
use super::keys::SERVER_LABELS;
use super::limits::Written;
use super::problem::{Kind, Place, Problem};
use super::routes::Routes;
use super::tiers::Tiers;

/// The labels that always have a meaning, beside those the server sets.
const SUBJECT_LABELS: [&str; 3] = ["tenant", "user", "tier"];

/// What there is to refer to.
pub(super) struct Referred<'a> {
    pub(super) routes: &'a Routes,
    pub(super) tiers: &'a Tiers,
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
                warn_of_cost(at, reading);
            }
        }
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

fn warn_of_cost(at: Place, reading: &mut Reading<'_>) {
    let message = "the gateway knows no prices in this version, so its calls reserve no cost";
    let how = "only callers of the decision API that state `cost` are counted here";
    reading.report(Problem::warning(Kind::NotBuilt, at, message).mend(how));
}
