//! `downgrade:` of a tier: the models its calls go down to, and which limits count them there.

use tallygate_core::{AS_ASKED, DOWNGRADED, Pattern};
use tallygate_tokens::Dialect;

use super::fields::{Fields, Reading};
use super::limits::Inherited;
use super::problem::{Kind, Place, Problem};
use super::routes::{Model, Routes};
use super::shape::Limited;
use super::tiers::unknown_model;
use super::tree::{Node, Value};

/// The value of the label `downgraded` of a call that went down because a quota was in the way.
pub(crate) const WENT_DOWN: &str = "yes";

/// Its value for every other call.
const NOT_DOWN: &str = AS_ASKED.1;

/// A tier's ladder: positions under `models:`, the best first.
#[derive(Debug)]
pub(super) struct Ladder {
    pub(super) rungs: Vec<usize>,
    pub(super) reach: Reach,
}

/// How much of its tier a ladder holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reach {
    /// The tier has models beside it.
    Part,
    /// Every model of the tier is on it: who goes down gets nothing cheaper than what the tier is.
    Whole,
}

/// The models of a tier, and where they are looked up.
pub(super) struct Tier<'a> {
    pub(super) name: &'a str,
    /// All, if it names none.
    pub(super) models: Option<&'a [Pattern]>,
    /// The names under `models:`, those of refused entries included.
    pub(super) declared: &'a [&'a str],
    pub(super) routes: &'a Routes,
}

impl Tier<'_> {
    fn has(&self, model: &str) -> bool {
        self.models
            .is_none_or(|models| models.iter().any(|pattern| pattern.matches(model)))
    }

    /// The entries of `models:` that it has.
    fn entries(&self) -> impl Iterator<Item = (usize, &Model)> {
        let all = self.routes.models().iter().enumerate();
        all.filter(|(_, model)| self.has(&model.name))
    }
}

/// Reads a tier's `downgrade`. Rungs that cannot be are reported and left out.
pub(super) fn read(node: &Node, tier: &Tier<'_>, reading: &mut Reading<'_>) -> Ladder {
    let texts = reading.texts(node, "`downgrade`");
    if matches!(&node.value, Value::List(items) if items.is_empty()) {
        let problem = Problem::error(Kind::Value, node.at, "the ladder has no rung");
        reading.report(problem.mend("name cheaper models, the best first, or remove `downgrade`"));
    }
    let mut rungs: Vec<(usize, Place)> = Vec::new();
    for (name, at) in texts {
        if let Some(position) = rung(name, at, tier, reading) {
            match rungs.iter().find(|(known, _)| *known == position) {
                Some((_, first)) => reading.report(twice(name, at, *first)),
                None => rungs.push((position, at)),
            }
        }
    }
    for (position, at) in &rungs {
        check_dialect(*position, *at, tier, reading);
    }
    let rungs: Vec<usize> = rungs.into_iter().map(|(position, _)| position).collect();
    let is_whole = tier.models.is_some()
        && tier
            .entries()
            .all(|(position, _)| rungs.contains(&position));
    let reach = if is_whole { Reach::Whole } else { Reach::Part };
    Ladder { rungs, reach }
}

/// The position of one rung, if it can be one.
fn rung(name: &str, at: Place, tier: &Tier<'_>, reading: &mut Reading<'_>) -> Option<usize> {
    let mut models = tier.routes.models().iter().enumerate();
    let Some((position, model)) = models.find(|(_, model)| model.name == name) else {
        // One that is there and was refused needs no second report.
        if !tier.declared.contains(&name) {
            reading.report(unknown_model(name, at, tier.declared));
        }
        return None;
    };
    if !tier.has(name) {
        let message = format!("the tier `{}` does not have the model `{name}`", tier.name);
        let problem = Problem::error(Kind::Conflict, at, message);
        reading.report(problem.mend("add it to the tier's `models`, or take it off the ladder"));
        return None;
    }
    check_name(model, at, reading);
    Some(position)
}

/// A call that comes down is sent with a name of the rung's own.
fn check_name(model: &Model, at: Place, reading: &mut Reading<'_>) {
    let entry = &model.name;
    let Some(name) = &model.sent_as else {
        let message =
            format!("`match` of the model `{entry}` has no exact name to send a call with");
        let problem = Problem::error(Kind::Missing, at, message);
        return reading.report(problem.mend("add the provider's name for it to its `match`"));
    };
    let plain = |letter: char| letter.is_ascii_alphanumeric() || "-._:@~".contains(letter);
    if model.upstream.dialect() == Dialect::Gemini && !name.chars().all(plain) {
        let message = format!("the name `{name}` of the model `{entry}` cannot stand in a path");
        let problem = Problem::error(Kind::Value, at, message);
        reading.report(
            problem.mend("name it in its `match` as Gemini's paths do, as gemini-2.5-flash"),
        );
    }
}

/// A second mention is a way back up: who came past it once would come past it for ever.
fn twice(name: &str, at: Place, first: Place) -> Problem {
    let message = format!("the ladder goes round in a circle: `{name}` is on it twice");
    let problem = Problem::error(Kind::Duplicate, at, message);
    problem.mend(format!("keep one; the first is on line {}", first.line))
}

/// Calls go down within their dialect. A rung that is alone in its own was probably meant for those of another.
fn check_dialect(rung: usize, at: Place, tier: &Tier<'_>, reading: &mut Reading<'_>) {
    let mut others = tier.entries().filter(|(position, _)| *position != rung);
    let dialect_of = |model: &Model| model.upstream.dialect();
    let Some(model) = tier.routes.models().get(rung) else {
        return;
    };
    let dialect = dialect_of(model);
    let mut foreign = None;
    if others.any(|(_, other)| {
        foreign = foreign.or((dialect_of(other) != dialect).then_some(dialect_of(other)));
        dialect_of(other) == dialect
    }) {
        return;
    }
    let Some(foreign) = foreign else {
        return;
    };
    let message = format!(
        "no call comes down to `{}`: it is the only model of the tier in the {} dialect",
        model.name,
        dialect.name()
    );
    let how = format!(
        "calls go down within their dialect: name a model that is served in the {} dialect",
        foreign.name()
    );
    reading.report(Problem::warning(Kind::Conflict, at, message).mend(how));
}

/// Whether a limit counts calls that went down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Counts {
    /// It does not.
    Exempt,
    /// Like any other.
    Count,
    /// It counts no others.
    Only,
}

const COUNTS: [(&str, Counts); 3] = [
    ("exempt", Counts::Exempt),
    ("count", Counts::Count),
    ("only", Counts::Only),
];

/// The condition on the label `downgraded` that a limit's `downgraded` stands for, or what goes without saying: a quota of
/// all models of a tier says when its calls go down, so it cannot count them there too.
pub(super) fn condition(
    fields: &Fields<'_>,
    named: &[(String, Vec<String>)],
    limited: &Limited,
    (inherited, reading): (&Inherited<'_>, &mut Reading<'_>),
) -> Option<(String, Vec<String>)> {
    let said = fields
        .get("downgraded")
        .and_then(|node| reading.word(node, "`downgraded`", &COUNTS));
    let at = fields.key_at("downgraded");
    let Some(reach) = inherited.ladder else {
        if said.is_some() {
            let problem =
                Problem::error(Kind::Conflict, at, "`downgraded` goes with a tier's ladder");
            reading.report(problem.mend("add `downgrade` to the tier, or remove `downgraded`"));
        }
        return None;
    };
    if said == Some(Counts::Exempt) && reach == Reach::Whole {
        let message = "every model of the tier is on its ladder, so this limit would stop nothing";
        let problem = Problem::warning(Kind::Conflict, at, message);
        reading.report(
            problem.mend("leave the best model off the ladder, or write `downgraded: count`"),
        );
    }
    let names = |label: &str| named.iter().any(|(name, _)| name == label);
    let mut limits = limited.limits.iter();
    let is_quota = limits.any(|(metric, _, shape)| shape.is_quota_of(*metric));
    let exempts = is_quota && reach == Reach::Part && !names("model") && !names(DOWNGRADED);
    let unsaid = if exempts {
        Counts::Exempt
    } else {
        Counts::Count
    };
    let value = match said.unwrap_or(unsaid) {
        Counts::Count => return None,
        Counts::Exempt => NOT_DOWN,
        Counts::Only => WENT_DOWN,
    };
    Some((DOWNGRADED.to_owned(), vec![value.to_owned()]))
}
