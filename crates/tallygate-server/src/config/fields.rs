//! Reading the tree: each reader reports what is wrong with its part and the reading goes on.

use std::ops::Range;

use strsim::damerau_levenshtein;

use super::amount::Refusal;
use super::masking::{beyond_host, hooks, is_harmless, is_public, login, masked};
use super::problem::{ConfigErrors, Kind, Place, Problem, Severity};
use super::tree::{Key, Node, Value};

/// What a reader needs beside its node: the environment, and a place to put problems.
pub(super) struct Reading<'e> {
    env: &'e dyn Fn(&str) -> Option<String>,
    problems: Vec<Problem>,
    secrets: Vec<Place>,
    /// What was meant as URLs.
    urls: Vec<Place>,
    /// Addresses of which the host alone may be shown.
    hooks: Vec<Place>,
}

impl<'e> Reading<'e> {
    pub(super) fn new(env: &'e dyn Fn(&str) -> Option<String>) -> Self {
        Self {
            env,
            problems: Vec::new(),
            secrets: Vec::new(),
            urls: Vec::new(),
            hooks: Vec::new(),
        }
    }

    /// Notes that `node` holds a secret unless it plainly does not, so that it is never shown.
    pub(super) fn secret(&mut self, node: &Node) {
        match &node.value {
            Value::Scalar(text) if !is_public(text) => self.secrets.push(node.at),
            _ => {}
        }
    }

    /// Notes that `node` holds a URL that may hold a password. In a text of one line the login alone is hidden.
    pub(super) fn secret_url(&mut self, node: &Node) {
        match &node.value {
            Value::Scalar(text) if text.contains('\n') || text.contains(' ') => {
                self.secrets.push(node.at)
            }
            Value::Scalar(_) => self.urls.push(node.at),
            _ => {}
        }
    }

    /// Notes that of the address that `node` holds nothing behind its host is shown.
    pub(super) fn secret_path(&mut self, node: &Node) {
        match &node.value {
            Value::Scalar(text) if text.contains(['\n', ' ']) => self.secrets.push(node.at),
            Value::Scalar(_) => self.hooks.push(node.at),
            _ => self.secrets_in(node, is_public),
        }
    }

    /// Notes that whatever `node` holds may be a secret, unless it is `public`.
    pub(super) fn secrets_in(&mut self, node: &Node, public: fn(&str) -> bool) {
        match &node.value {
            Value::Null => {}
            Value::Scalar(text) if public(text) => {}
            Value::Scalar(_) => self.secrets.push(node.at),
            Value::List(items) => {
                for item in items {
                    self.secrets_in(item, public);
                }
            }
            Value::Map(entries) => {
                for (_, node) in entries {
                    self.secrets_in(node, public);
                }
            }
        }
    }

    /// Notes what may be a secret in a file that is no YAML.
    pub(super) fn unreadable(&mut self, source: &str) {
        let places = hooks(source).into_iter().map(|part| Place {
            offset: part.start,
            length: part.len(),
            ..Place::start()
        });
        self.secrets.extend(places);
    }

    pub(super) fn report(&mut self, problem: Problem) {
        self.problems.push(problem);
    }

    pub(super) fn has_errors(&self) -> bool {
        self.problems
            .iter()
            .any(|problem| problem.severity() == Severity::Error)
    }

    /// All problems, beside a text of the file without its secrets.
    pub(super) fn findings(mut self, name: &str, source: &str) -> ConfigErrors {
        let inside = |at: &Place, part: Range<usize>| Place {
            offset: at.offset + part.start,
            length: part.len(),
            ..*at
        };
        let logins = self.urls.iter();
        let logins = logins.filter_map(|at| Some(inside(at, login(at.text_in(source))?)));
        let paths = self.hooks.iter();
        let paths = paths.filter_map(|at| Some(inside(at, beyond_host(at.text_in(source))?)));
        self.secrets.extend(logins.chain(paths));
        ConfigErrors::new(name, &masked(source, &self.secrets), self.problems)
    }

    /// The mapping at `node`, its keys checked against `known`; unknown and doubled keys are reported and left out.
    pub(super) fn fields<'n>(&mut self, node: &'n Node, shape: &Known<'_>) -> Option<Fields<'n>> {
        let entries = self.entries(node, shape.what)?;
        let (good, unknown): (Vec<_>, Vec<_>) = entries
            .into_iter()
            .partition(|(key, _)| shape.has(&key.name));
        for (key, node) in &unknown {
            self.report(shape.refuse(key));
            // What was meant is not known: it may be a key.
            self.secrets_in(node, is_harmless);
        }
        Some(Fields {
            at: node.at,
            entries: good,
            refused: unknown
                .into_iter()
                .map(|(key, _)| key.name.as_str())
                .collect(),
        })
    }

    /// The entries of the mapping at `node` in the file's order; doubled keys are reported, the first one stays.
    pub(super) fn entries<'n>(
        &mut self,
        node: &'n Node,
        what: &str,
    ) -> Option<Vec<(&'n Key, &'n Node)>> {
        let Value::Map(entries) = &node.value else {
            self.wrong_kind(node, what, "a mapping");
            return None;
        };
        let mut kept: Vec<(&Key, &Node)> = Vec::new();
        for (key, value) in entries {
            match kept.iter().find(|(earlier, _)| earlier.name == key.name) {
                Some((earlier, _)) => self.report(doubled(key, earlier)),
                None => kept.push((key, value)),
            }
        }
        Some(kept)
    }

    /// The items of the list at `node`.
    pub(super) fn list<'n>(&mut self, node: &'n Node, what: &str) -> Option<&'n [Node]> {
        match &node.value {
            Value::List(items) => Some(items),
            _ => {
                self.wrong_kind(node, what, "a list");
                None
            }
        }
    }

    /// The texts of the list at `node`; a single text stands for a list of one.
    pub(super) fn texts<'n>(&mut self, node: &'n Node, what: &str) -> Vec<(&'n str, Place)> {
        if matches!(node.value, Value::Scalar(_)) {
            return self
                .text(node, what)
                .map(|text| (text, node.at))
                .into_iter()
                .collect();
        }
        let items = self.list(node, what).unwrap_or_default();
        items
            .iter()
            .filter_map(|item| self.text(item, what).map(|text| (text, item.at)))
            .collect()
    }

    /// The non-empty text at `node`.
    pub(super) fn text<'n>(&mut self, node: &'n Node, what: &str) -> Option<&'n str> {
        match &node.value {
            Value::Scalar(text) if !text.is_empty() => Some(text),
            Value::Scalar(_) => {
                self.report(Problem::error(
                    Kind::Value,
                    node.at,
                    format!("{what} is empty"),
                ));
                None
            }
            _ => {
                self.wrong_kind(node, what, "a single value");
                None
            }
        }
    }

    /// The text at `node` with each `${VAR}` replaced by that environment variable.
    pub(super) fn expanded(&mut self, node: &Node, what: &str) -> Option<String> {
        let mut rest = self.text(node, what)?;
        let mut whole = String::new();
        while let Some((before, after)) = rest.split_once("${") {
            let Some((name, behind)) = after.split_once('}') else {
                let message = format!("{what} opens `${{` and never closes it");
                self.report(Problem::error(Kind::Value, node.at, message).mend("write ${NAME}"));
                return None;
            };
            whole.push_str(before);
            whole.push_str(&self.variable(node, name)?);
            rest = behind;
        }
        whole.push_str(rest);
        Some(whole)
    }

    fn variable(&mut self, node: &Node, name: &str) -> Option<String> {
        let value = (self.env)(name).filter(|value| !value.is_empty());
        if value.is_none() {
            let message = format!("the environment variable `{name}` is not set");
            let how = format!("set it before the start: export {name}=…");
            self.report(Problem::error(Kind::Environment, node.at, message).mend(how));
        }
        value
    }

    /// The number at `node` as `read` understands it; `what` names the setting, `mend` says what is possible.
    pub(super) fn number<T>(&mut self, node: &Node, number: &Number<T>) -> Option<T> {
        let text = self.text(node, number.what)?;
        match (number.read)(text) {
            Ok(value) => Some(value),
            Err(refusal) => {
                let message = format!("{} `{text}` {refusal}", number.what);
                self.report(Problem::error(Kind::Value, node.at, message).mend(number.mend));
                None
            }
        }
    }

    /// `true` or `false`.
    pub(super) fn flag(&mut self, node: &Node, what: &str) -> Option<bool> {
        self.word(node, what, &[("true", true), ("false", false)])
    }

    /// One of a few words.
    pub(super) fn word<T: Copy>(
        &mut self,
        node: &Node,
        what: &str,
        words: &[(&str, T)],
    ) -> Option<T> {
        let text = self.text(node, what)?;
        if let Some((_, value)) = words.iter().find(|(word, _)| *word == text) {
            return Some(*value);
        }
        let possible: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
        let message = format!("{what} cannot be `{text}`");
        self.report(Problem::error(Kind::Unknown, node.at, message).mend(one_of(text, &possible)));
        None
    }

    fn wrong_kind(&mut self, node: &Node, what: &str, wanted: &str) {
        let message = format!("{what} is {}, but {wanted} is expected", node.kind());
        self.report(Problem::error(Kind::Value, node.at, message));
    }
}

/// How a number is read.
pub(super) struct Number<T> {
    /// The setting's name.
    pub(super) what: &'static str,
    /// The reader.
    pub(super) read: fn(&str) -> Result<T, Refusal>,
    /// What is possible.
    pub(super) mend: &'static str,
}

/// A mapping whose keys were checked.
pub(super) struct Fields<'n> {
    /// Where the mapping stands.
    pub(super) at: Place,
    entries: Vec<(&'n Key, &'n Node)>,
    /// Keys that were reported: what seems missing may be one of them, misspelt.
    refused: Vec<&'n str>,
}

impl<'n> Fields<'n> {
    /// The value of `name`; a value of nothing counts as absent.
    pub(super) fn get(&self, name: &str) -> Option<&'n Node> {
        let found = self.entries.iter().find(|(key, _)| key.name == name);
        found
            .map(|(_, node)| *node)
            .filter(|node| !matches!(node.value, Value::Null))
    }

    /// The value of `name`, reported as missing when it is.
    pub(super) fn need(&self, name: &str, reading: &mut Reading<'_>) -> Option<&'n Node> {
        let found = self.get(name);
        if found.is_none() && !self.is_misspelt(name) {
            reading.report(Problem::error(
                Kind::Missing,
                self.at,
                format!("`{name}` is missing"),
            ));
        }
        found
    }

    /// Whether a reported key is like `name`, so that it need not be reported as missing too.
    pub(super) fn is_misspelt(&self, name: &str) -> bool {
        let mut refused = self.refused.iter();
        refused.any(|key| nearest(key, std::iter::once(name)).is_some())
    }

    /// Where the key `name` stands.
    pub(super) fn key_at(&self, name: &str) -> Place {
        let found = self.entries.iter().find(|(key, _)| key.name == name);
        found.map_or(self.at, |(key, _)| key.at)
    }

    /// All entries, in the order of the file.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&'n Key, &'n Node)> {
        self.entries.iter().copied()
    }
}

/// The keys a mapping may have.
pub(super) struct Known<'k> {
    /// What the mapping is, for messages: "a limit".
    pub(super) what: &'k str,
    /// Its keys.
    pub(super) keys: &'k [&'k str],
    /// Keys of later versions, with what they would be.
    pub(super) later: &'k [(&'k str, &'k str)],
}

impl Known<'_> {
    fn has(&self, name: &str) -> bool {
        self.keys.contains(&name)
    }

    fn refuse(&self, key: &Key) -> Problem {
        if let Some((_, what)) = self.later.iter().find(|(name, _)| *name == key.name) {
            return not_built(key.at, &format!("`{}` ({what})", key.name))
                .mend(format!("remove `{}`", key.name));
        }
        let message = format!("`{}` is not a key of {}", key.name, self.what);
        Problem::error(Kind::Unknown, key.at, message).mend(one_of(&key.name, self.keys))
    }
}

/// A feature that is designed but not here yet.
pub(super) fn not_built(at: Place, what: &str) -> Problem {
    Problem::error(Kind::NotBuilt, at, format!("{what} is not in this version"))
}

fn doubled(key: &Key, earlier: &Key) -> Problem {
    let message = format!("`{}` is given twice", key.name);
    Problem::error(Kind::Duplicate, key.at, message).mend(format!(
        "keep one; the other is on line {}",
        earlier.at.line
    ))
}

/// "did you mean `x`?" where something is near, else the list of what is possible.
pub(super) fn one_of(text: &str, possible: &[&str]) -> String {
    match nearest(text, possible.iter().copied()) {
        Some(near) => format!("did you mean `{near}`?"),
        None if possible.is_empty() => "there are none".to_owned(),
        None => format!("possible: {}", possible.join(", ")),
    }
}

/// The name most like `text`, if any is near enough to be a slip of the pen (a third of its letters, at least one) or only
/// longer than it.
pub(super) fn nearest<'a>(text: &str, names: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    // Longer texts are no slips, and comparing costs the product of both lengths.
    if text.len() > MAX_NAME {
        return None;
    }
    let lower = text.to_lowercase();
    let allowed = (text.chars().count() / 3).max(1);
    names
        .filter(|name| name.len() <= MAX_NAME)
        .map(|name| (distance(&lower, &name.to_lowercase()), name))
        .filter(|(distance, _)| *distance <= allowed)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, name)| name)
}

/// The longest text that is compared with others, in bytes.
const MAX_NAME: usize = 64;

fn distance(text: &str, name: &str) -> usize {
    if text.len() >= 3 && name.starts_with(text) {
        return 1;
    }
    damerau_levenshtein(text, name)
}
