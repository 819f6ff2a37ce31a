//! The built-in prices: a text with one line a price, made by `cargo xtask prices`.
//!
//! ```text
//! date 2026-11-22
//! source genai-prices 0.2.3
//! gpt-4o i2.5 c1.25 o10
//! gemini-2.5-pro i1.25 c0.125 o10 >200000 i2.5 c0.25 o15
//! gpt-audio -
//! ```
//!
//! `i` is input, `c` cached input, `w` cache write, `o` output and `r` reasoning, in dollars for a million tokens; `>` begins
//! the rates above a length of input, `-` says that the model is not sold by tokens of text alone. What is not written
//! follows as in [`PerMillion::new`].

use std::fmt;
use std::sync::Arc;

use super::decimal;
use super::rates::{PerMillion, Rates};
use super::table::PriceTable;

const TEXT: &str = include_str!("snapshot.txt");

/// The table of the built-in text.
pub(super) fn built_in() -> PriceTable {
    read(TEXT)
}

/// Reads a snapshot; lines that are none are left out.
pub(super) fn read(text: &str) -> PriceTable {
    let said = |word: &str| -> Vec<&str> {
        text.lines()
            .filter_map(|line| line.strip_prefix(word))
            .collect()
    };
    let date = said("date ").first().copied().unwrap_or_default();
    let mut table = PriceTable::new(date, &said("source "));
    for (name, rates) in text.lines().filter_map(line) {
        table.insert(name, rates.map(Arc::new));
    }
    table
}

/// The name and the price of one line. `None` for a line of another kind.
pub(super) fn line(line: &str) -> Option<(&str, Option<Rates>)> {
    let (name, rates) = line.split_once(' ')?;
    if name == "#" || name == "date" || name == "source" {
        return None;
    }
    match rates {
        "-" => Some((name, None)),
        _ => Some((name, Some(rates_of(rates)?))),
    }
}

fn rates_of(text: &str) -> Option<Rates> {
    let mut sets = text.split(" >");
    let base = set(sets.next()?)?;
    let above = sets.map(|text| {
        let (tokens, rates) = text.split_once(' ')?;
        Some((tokens.parse().ok()?, set(rates)?))
    });
    Rates::tiered(base, above.collect::<Option<_>>()?).ok()
}

fn set(text: &str) -> Option<PerMillion> {
    let rate = |kind: char| {
        text.split(' ')
            .find_map(|part| part.strip_prefix(kind))
            .map(decimal::exact_micros)
    };
    let plain = PerMillion::new(rate('i')??, rate('o')??);
    Some(PerMillion {
        cached_input: rate('c').unwrap_or(Some(plain.cached_input))?,
        cache_write: rate('w').unwrap_or(Some(plain.cache_write))?,
        reasoning: rate('r').unwrap_or(Some(plain.reasoning))?,
        ..plain
    })
}

impl PriceTable {
    /// This table as the text of a snapshot.
    #[doc(hidden)]
    #[must_use]
    pub fn to_snapshot(&self) -> String {
        let mut lines: Vec<String> = self
            .entries()
            .map(|(name, rates)| match rates {
                Some(rates) => format!("{name} {rates}\n"),
                None => format!("{name} -\n"),
            })
            .collect();
        lines.sort();
        let sources = self
            .sources()
            .iter()
            .map(|source| format!("source {source}\n"));
        format!(
            "date {}\n{}{}",
            self.date(),
            sources.collect::<String>(),
            lines.concat()
        )
    }
}

/// As a line of a snapshot has it: `i1.25 c0.125 o10 >200000 i2.5 c0.25 o15`.
impl fmt::Display for Rates {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&set_written(self.base()))?;
        self.above()
            .iter()
            .try_for_each(|(tokens, rates)| write!(f, " >{tokens} {}", set_written(rates)))
    }
}

fn set_written(rates: &PerMillion) -> String {
    let plain = PerMillion::new(rates.input, rates.output);
    let kinds = [
        ('i', rates.input, None),
        ('c', rates.cached_input, Some(plain.cached_input)),
        ('w', rates.cache_write, Some(plain.cache_write)),
        ('o', rates.output, None),
        ('r', rates.reasoning, Some(plain.reasoning)),
    ];
    let told = kinds
        .into_iter()
        .filter(|(_, rate, usual)| Some(*rate) != *usual);
    let told = told.map(|(kind, rate, _)| format!("{kind}{}", decimal::short(rate)));
    told.collect::<Vec<_>>().join(" ")
}
