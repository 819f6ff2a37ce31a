//! `store:`, `durability:`, `data:` and `store_down:`: where counters live, and what is done while that is away.

use std::fmt;
use std::path::PathBuf;

use tallygate_core::{Metric, Shape, StoreDown};
use tallygate_store::{Durability, RedisOptions};

use super::ConfigErrors;
use super::fields::{Fields, Reading};
use super::limits::{STORE_DOWN, Written};
use super::problem::{Kind, Place, Problem};
use super::tree::{Node, Value};

/// Where counters live. Shown without secrets.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum StoreChoice {
    /// In this process: lost with it.
    #[default]
    Memory,
    /// In this process, and in a folder that outlives it.
    Folder(PathBuf),
    /// On Redis or Valkey, shared by all that name the same servers and prefix.
    Redis(Box<RedisOptions>),
}

impl StoreChoice {
    /// Reads what may stand behind `store:`, with `${VAR}` looked up by `env`; `name` is what the text is called in errors.
    ///
    /// # Errors
    /// When it is no store, or none of this version. No error shows a password.
    pub fn parse(
        text: &str,
        name: &str,
        env: &dyn Fn(&str) -> Option<String>,
    ) -> Result<Self, ConfigErrors> {
        let at = Place {
            length: text.len(),
            ..Place::start()
        };
        let node = Node {
            at,
            value: Value::Scalar(text.to_owned()),
        };
        let mut reading = Reading::new(env);
        let choice = choice(&node, &mut reading);
        let findings = reading.findings(name, text);
        choice.ok_or(findings)
    }

    /// Whether what is made while the server runs outlives it: keys and overrides.
    #[must_use]
    pub fn keeps_keys(&self) -> bool {
        !matches!(self, Self::Memory)
    }

    /// Whether it can be away while this process is not.
    #[must_use]
    pub fn is_elsewhere(&self) -> bool {
        matches!(self, Self::Redis(_))
    }
}

impl fmt::Display for StoreChoice {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Memory => out.write_str("memory"),
            Self::Folder(path) => write!(out, "{}", path.display()),
            Self::Redis(options) => out.write_str(&options.shown()),
        }
    }
}

/// What the file says of its store.
#[derive(Default)]
pub(super) struct Stored {
    /// `None`: what stands there was reported.
    choice: Option<StoreChoice>,
    pub(super) data: Option<PathBuf>,
    pub(super) durability: Durability,
    /// `store_down` for limits that do not say.
    pub(super) down: Option<StoreDown>,
    down_at: Option<Place>,
}

impl Stored {
    /// The store, which is memory unless the file says otherwise.
    pub(super) fn choice(self) -> StoreChoice {
        self.choice.unwrap_or_default()
    }

    /// Whether keys may be in the store beside those of the file.
    pub(super) fn keeps_keys(&self) -> bool {
        self.choice.as_ref().is_some_and(StoreChoice::keeps_keys)
    }

    /// Tells of each `store_down` that nothing can come of.
    pub(super) fn check(&self, written: &[Written], reading: &mut Reading<'_>) {
        match self.choice {
            Some(StoreChoice::Memory) => self.check_memory(written, reading),
            Some(StoreChoice::Folder(_)) => {}
            Some(StoreChoice::Redis(_)) | None => check_shares(written, reading),
        }
    }

    fn check_memory(&self, written: &[Written], reading: &mut Reading<'_>) {
        let of_limits = written.iter().filter_map(|limit| limit.store_down_at);
        for at in self.down_at.into_iter().chain(of_limits) {
            let message = "`store_down` has no effect on counters in memory, which are never away";
            let how =
                "remove it, or write `store: redis://HOST` to share counters between machines";
            reading.report(Problem::warning(Kind::Conflict, at, message).mend(how));
        }
    }
}

/// A slot comes back by its call alone, so none is ever leased.
fn check_shares(written: &[Written], reading: &mut Reading<'_>) {
    let counts_calls = |(metric, _, _): &(Metric, u64, Shape)| *metric == Metric::CONCURRENCY;
    let in_vain = |limit: &&Written| {
        limit.rule.store_down == StoreDown::Share && limit.rule.limits.iter().any(counts_calls)
    };
    for limit in written.iter().filter(in_vain) {
        let at = limit.store_down_at.unwrap_or(limit.name_at);
        let name = &limit.rule.name;
        let message = format!(
            "without its store the limit `{name}` refuses every call: `concurrency` has no share to spend"
        );
        let how = "say `store_down: closed`, which does the same, or `open`; or make it a limit of its own";
        reading.report(Problem::warning(Kind::Conflict, at, message).mend(how));
    }
}

/// Reads the four keys.
pub(super) fn read(top: &Fields<'_>, reading: &mut Reading<'_>) -> Stored {
    let choice = match top.get("store") {
        None => Some(StoreChoice::Memory),
        Some(node) => choice(node, reading),
    };
    let down = top.get("store_down");
    let mut stored = Stored {
        choice,
        data: None,
        durability: Durability::default(),
        down: down.and_then(|node| reading.word(node, "`store_down`", &STORE_DOWN)),
        down_at: down.map(|_| top.key_at("store_down")),
    };
    stored.data = data(top, &stored, reading);
    stored.durability = durability(top, &stored, reading);
    stored
}

fn choice(node: &Node, reading: &mut Reading<'_>) -> Option<StoreChoice> {
    reading.secret_url(node);
    let text = reading.expanded(node, "`store`")?;
    if text == "memory" {
        return Some(StoreChoice::Memory);
    }
    if is_folder(&text) {
        return Some(StoreChoice::Folder(PathBuf::from(text)));
    }
    if !text.contains("://") {
        let (what, how) = match text.contains([':', '@']) || text.contains("//") {
            true => (SCHEMES, EXAMPLES),
            false => (NO_STORE, STORES),
        };
        reading.report(Problem::error(Kind::Value, node.at, what).mend(how));
        return None;
    }
    match RedisOptions::parse(&text) {
        Ok(options) => Some(StoreChoice::Redis(Box::new(options))),
        Err(error) => {
            reading.report(refused(node.at, &error.to_string()));
            None
        }
    }
}

/// A folder is named with a slash, so that a typo is none. What looks like a login is none either, nor `redis//HOST`.
fn is_folder(text: &str) -> bool {
    let begins = ["/", "./", "../"]
        .iter()
        .any(|start| text.starts_with(start));
    begins || text.contains('/') && !text.contains([':', '@', '~']) && !text.contains("//")
}

/// The URL's error, with its last part as the mend where it has one.
fn refused(at: Place, said: &str) -> Problem {
    match said.rsplit_once(": ") {
        Some((what, how)) => Problem::error(Kind::Value, at, what).mend(how),
        None => Problem::error(Kind::Value, at, said).mend(EXAMPLES),
    }
}

const SCHEMES: &str =
    "a store URL begins with redis://, rediss://, redis+sentinel:// or redis+cluster://";

const EXAMPLES: &str =
    "write it as redis://HOST, redis+sentinel://HOST,HOST/MASTER or redis+cluster://HOST,HOST";

const NO_STORE: &str = "that is no store";

const STORES: &str = "write `memory` for counters in this process, ./tallygate-data (with a slash) for a folder, or redis://HOST";

const DURABILITY: [(&str, Durability); 2] =
    [("relaxed", Durability::Relaxed), ("sync", Durability::Sync)];

/// `durability:`: what of the counters in a folder a crash may cost.
fn durability(top: &Fields<'_>, stored: &Stored, reading: &mut Reading<'_>) -> Durability {
    let Some(node) = top.get("durability") else {
        return Durability::default();
    };
    let word = reading.word(node, "`durability`", &DURABILITY);
    let of_others = match stored.choice {
        Some(StoreChoice::Memory) => "the store is memory, which nothing outlives",
        Some(StoreChoice::Redis(_)) => "how safe a store on Redis is, its own configuration says",
        Some(StoreChoice::Folder(_)) | None => return word.unwrap_or_default(),
    };
    let message = format!("`durability` is for counters in a folder: {of_others}");
    let problem = Problem::error(Kind::Conflict, top.key_at("durability"), message);
    reading.report(problem.mend("remove `durability`, or write `store: ./tallygate-data`"));
    Durability::default()
}

/// `data:`: the folder for what has to be kept while the store is away.
fn data(top: &Fields<'_>, stored: &Stored, reading: &mut Reading<'_>) -> Option<PathBuf> {
    let node = top.get("data")?;
    let folder = reading.expanded(node, "`data`")?;
    let is_here = |store: &StoreChoice| !store.is_elsewhere();
    if stored.choice.as_ref().is_some_and(is_here) {
        let message = "`data` keeps what a store on Redis could not be told, and the store is in this process";
        let problem = Problem::error(Kind::Conflict, top.key_at("data"), message);
        reading.report(problem.mend("remove `data`, or write `store: redis://HOST`"));
        return None;
    }
    Some(PathBuf::from(folder))
}
