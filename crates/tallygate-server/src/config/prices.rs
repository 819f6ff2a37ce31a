//! `prices:`: what tokens cost, by model.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tallygate_tokens::{MAX_RATE, PerMillion, PriceTable, Rates};

use super::amount;
use super::fields::{Fields, Known, Number, Reading, nearest};
use super::problem::{Kind, Place, Problem};
use super::tree::{Node, Value};

/// What calls cost: the configuration's own prices, else those of its file, else the built-in ones, else what it says of
/// models that are in none of them.
#[derive(Debug, Default)]
pub struct Prices {
    own: PriceTable,
    file: Option<PriceTable>,
    unknown: Option<Arc<Rates>>,
}

/// Where a price is said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum PriceOrigin {
    /// Under `prices: models`.
    Configuration,
    /// In the file that `prices: file` names.
    File,
    /// In the prices that come with this version.
    BuiltIn,
    /// Nowhere: it is what `prices: unknown` says of such models.
    Unknown,
}

/// A model whose price is looked for.
#[derive(Clone, Copy, Debug)]
pub struct Priced<'a> {
    /// The name that it is called by.
    pub name: &'a str,
    /// What it counts as: the entry of `models:` that matched.
    pub label: &'a str,
    /// The upstream that serves it, where that is known.
    pub upstream: Option<&'a str>,
}

impl Prices {
    /// The rates of a model: by its name as its upstream sells it (`groq/llama-3.3-70b-versatile`), by its name, by what it
    /// counts as; each table after the other. `None` where nothing is known of it and no default is set.
    #[must_use]
    pub fn of(&self, model: &Priced<'_>) -> Option<&Arc<Rates>> {
        self.told(model).map(|(_, rates)| rates)
    }

    /// As [`Self::of`], with where the price is said.
    #[must_use]
    pub fn told(&self, model: &Priced<'_>) -> Option<(PriceOrigin, &Arc<Rates>)> {
        let own = (PriceOrigin::Configuration, &self.own);
        let file = self.file.iter().map(|table| (PriceOrigin::File, table));
        let built_in = (PriceOrigin::BuiltIn, PriceTable::built_in());
        let mut tables = std::iter::once(own).chain(file).chain([built_in]);
        let known = tables.find_map(|(origin, table)| Some((origin, standing(table, model)?)));
        let known = known.and_then(|(origin, rates)| Some((origin, rates?)));
        known.or_else(|| Some((PriceOrigin::Unknown, self.unknown.as_ref()?)))
    }

    /// Whether some table has the model, as `host` sells it or whoever made it, if only to say that it has no price.
    pub(super) fn knows(&self, host: Option<&str>, model: &str) -> bool {
        self.tables().any(|table| match host {
            Some(host) => table.standing_at(host, model).is_some(),
            None => table.standing(model).is_some(),
        })
    }

    /// The names that have a price.
    pub(super) fn names(&self) -> Vec<&str> {
        let tables = self.tables();
        tables
            .flat_map(|table| table.iter().into_iter().map(|(name, _)| name))
            .collect()
    }

    /// The tables, the first one that knows a model counts: the configuration's own, its file's, the built-in.
    pub fn tables(&self) -> impl Iterator<Item = &PriceTable> {
        let given = std::iter::once(&self.own).chain(&self.file);
        given.chain(std::iter::once(PriceTable::built_in()))
    }
}

/// What one table says of a model. `Some(None)`: it is known to have no price by tokens of text.
fn standing<'a>(table: &'a PriceTable, model: &Priced<'_>) -> Option<Option<&'a Arc<Rates>>> {
    let sold = model
        .upstream
        .and_then(|upstream| table.standing_at(upstream, model.name));
    sold.or_else(|| table.standing(model.name))
        .or_else(|| table.standing(model.label))
}

const PRICES: Known<'static> = Known {
    what: "`prices`",
    keys: &["unknown", "models", "file"],
    later: &[],
};
const KINDS: [&str; 5] = [
    "input",
    "cached_input",
    "cache_write",
    "output",
    "reasoning",
];
const RATES: Known<'static> = Known {
    what: "a price",
    keys: &[
        "input",
        "cached_input",
        "cache_write",
        "output",
        "reasoning",
        "above",
    ],
    later: &[],
};
const ABOVE: Known<'static> = Known {
    what: "a price above a length",
    keys: &[
        "input_tokens",
        "input",
        "cached_input",
        "cache_write",
        "output",
        "reasoning",
    ],
    later: &[],
};
const RATE: Number<u64> = Number {
    what: "the price",
    read: rate,
    mend: "write dollars for a million tokens with up to six decimals, such as 2.50",
};
const THRESHOLD: Number<u64> = Number {
    what: "the number of input tokens",
    read: amount::amount,
    mend: "write the number of input tokens above which these prices hold, such as 200_000",
};

/// Dollars for a million tokens, which may be none.
fn rate(text: &str) -> Result<u64, amount::Refusal> {
    match amount::millionths(text)? {
        n if n > u128::from(MAX_RATE) => Err("is more than 9,007,199,254 dollars".to_owned()),
        n => u64::try_from(n).map_err(|_| "is too large".to_owned()),
    }
}

/// Reads `prices:` of a file called `name`.
pub(super) fn read(top: &Fields<'_>, name: &str, reading: &mut Reading<'_>) -> Written {
    let mut read = Written::default();
    let Some(fields) = top
        .get("prices")
        .and_then(|node| reading.fields(node, &PRICES))
    else {
        return read;
    };
    read.prices.unknown = fields
        .get("unknown")
        .and_then(|node| unknown(node, reading));
    read.prices.file = fields
        .get("file")
        .and_then(|node| file(node, name, reading));
    let models = fields
        .get("models")
        .and_then(|node| reading.entries(node, "`prices: models`"));
    for (key, node) in models.unwrap_or_default() {
        let rates = match &node.value {
            Value::Scalar(_) => as_another(node, &read.prices, reading),
            _ => rates(node, reading).map(Arc::new),
        };
        if rates.is_some() {
            read.prices.own.insert(&key.name, rates);
        }
        read.names.push((key.name.clone(), key.at));
    }
    read
}

/// The prices, and the places of the models that they name.
#[derive(Default)]
pub(super) struct Written {
    pub(super) prices: Prices,
    names: Vec<(String, Place)>,
}

impl Written {
    /// Warns of names that no model of the configuration has and no table knows, where they are like one that is there.
    pub(super) fn check_names(&self, models: &[&str], reading: &mut Reading<'_>) {
        for (name, at) in &self.names {
            let known = |table: &PriceTable| table.standing(name).is_some();
            if models.contains(&name.as_str()) || self.prices.tables().skip(1).any(known) {
                continue;
            }
            if let Some(near) = nearest(name, models.iter().copied()) {
                let message = format!("no model is called `{name}`, so this price is never used");
                let problem = Problem::warning(Kind::Unknown, *at, message);
                reading.report(problem.mend(format!("did you mean `{near}`?")));
            }
        }
    }
}

/// `error`, or the rates of every model that has none.
fn unknown(node: &Node, reading: &mut Reading<'_>) -> Option<Arc<Rates>> {
    if let Value::Scalar(_) = &node.value {
        reading.word(node, "`unknown`", &[("error", ())]);
        return None;
    }
    rates(node, reading).map(Arc::new)
}

/// The rates of the model whose name stands at `node`.
fn as_another(node: &Node, prices: &Prices, reading: &mut Reading<'_>) -> Option<Arc<Rates>> {
    let name = reading.text(node, "the price")?;
    let mut tables = prices.tables().skip(1);
    if let Some(rates) = tables.find_map(|table| table.find(name)) {
        return Some(Arc::clone(rates));
    }
    let all = PriceTable::built_in().iter();
    let how = match nearest(name, all.iter().map(|(name, _)| *name)) {
        Some(near) => format!("did you mean `{near}`?"),
        None => "write prices, such as { input: 2.50, output: 10.00 }, or a model that `tallygate prices` lists".to_owned(),
    };
    let message = format!("no price of a model `{name}` is known");
    reading.report(Problem::error(Kind::Unknown, node.at, message).mend(how));
    None
}

fn rates(node: &Node, reading: &mut Reading<'_>) -> Option<Rates> {
    let fields = reading.fields(node, &RATES)?;
    let base = per_million(&fields, reading);
    let mut above: Vec<(u64, PerMillion)> = Vec::new();
    let sets = fields
        .get("above")
        .and_then(|node| reading.list(node, "`above`"));
    for node in sets.unwrap_or_default() {
        if let Some(set) = above_of(node, above.last().map(|(before, _)| *before), reading) {
            above.push(set);
        }
    }
    // What could be wrong with these has been reported: each rate is in its range, and the lengths rise.
    Rates::tiered(base?, above).ok()
}

fn above_of(
    node: &Node,
    before: Option<u64>,
    reading: &mut Reading<'_>,
) -> Option<(u64, PerMillion)> {
    let fields = reading.fields(node, &ABOVE)?;
    let rates = per_million(&fields, reading);
    let length = fields.need("input_tokens", reading)?;
    let tokens = reading.number(length, &THRESHOLD)?;
    if let Some(before) = before.filter(|before| tokens <= *before) {
        let message =
            format!("the lengths of `above` must rise, and {tokens} comes after {before}");
        let how = "put them in order, each length once";
        reading.report(Problem::error(Kind::Conflict, length.at, message).mend(how));
        return None;
    }
    Some((tokens, rates?))
}

fn per_million(fields: &Fields<'_>, reading: &mut Reading<'_>) -> Option<PerMillion> {
    let mut told = [None; 5];
    for (told, kind) in told.iter_mut().zip(KINDS) {
        let needed = matches!(kind, "input" | "output");
        let node = if needed {
            fields.need(kind, reading)
        } else {
            fields.get(kind)
        };
        *told = node.map(|node| reading.number(node, &RATE));
    }
    let [input, cached_input, cache_write, output, reasoning] = told;
    let plain = PerMillion::new(input??, output??);
    Some(PerMillion {
        cached_input: cached_input.unwrap_or(Some(plain.cached_input))?,
        cache_write: cache_write.unwrap_or(Some(plain.cache_write))?,
        reasoning: reasoning.unwrap_or(Some(plain.reasoning))?,
        ..plain
    })
}

/// The table in the file that `node` names, beside the configuration called `name`.
fn file(node: &Node, name: &str, reading: &mut Reading<'_>) -> Option<PriceTable> {
    let path = beside(name, reading.text(node, "`file`")?);
    let refused = |message: String| {
        Problem::error(Kind::Value, node.at, message)
            .mend("make one: tallygate prices import --from genai-prices DATA.json > prices.json")
    };
    let text = match read_file(&path) {
        Ok(text) => text,
        Err(error) => {
            reading.report(refused(format!(
                "the prices `{}` cannot be read: {error}",
                path.display()
            )));
            return None;
        }
    };
    match PriceTable::from_json(&text) {
        Ok(table) => Some(table),
        Err(error) => {
            reading.report(refused(format!("the prices `{}`: {error}", path.display())));
            None
        }
    }
}

fn beside(name: &str, file: &str) -> PathBuf {
    Path::new(name)
        .parent()
        .map_or_else(|| PathBuf::from(file), |folder| folder.join(file))
}

/// The largest file of prices: more than thirty times the built-in ones.
const MAX_FILE: u64 = 4 << 20;

fn read_file(path: &Path) -> std::io::Result<Vec<u8>> {
    let refused = |why: &str| std::io::Error::other(why.to_owned());
    if !std::fs::metadata(path)?.is_file() {
        return Err(refused("it is no file"));
    }
    let mut text = Vec::new();
    std::fs::File::open(path)?
        .take(MAX_FILE + 1)
        .read_to_end(&mut text)?;
    match text.len() as u64 > MAX_FILE {
        true => Err(refused("it is larger than 4 MiB")),
        false => Ok(text),
    }
}
