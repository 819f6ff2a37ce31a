//! What usage is summed by, and filtered by.

use std::fmt;
use std::str::FromStr;

use super::QueryError;

/// One thing that records differ in.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Dimension {
    /// The model that served.
    Model,
    /// The model asked for.
    Asked,
    /// The provider account.
    Upstream,
    /// What became of the call.
    Outcome,
    /// The limit that blocked it.
    Limit,
    /// How its use is known.
    Method,
    /// The hour it fell in.
    Hour,
    /// The day.
    Day,
    /// The week, from Monday.
    Week,
    /// The month.
    Month,
    /// A label of the subject: tenant, user, key, tier or another.
    Label(String),
}

/// The longest name of a label.
const MAX_NAME: usize = 256;

impl Dimension {
    /// Those that are no labels, with their words.
    const WORDS: [(&'static str, Self); 10] = [
        ("model", Self::Model),
        ("asked", Self::Asked),
        ("upstream", Self::Upstream),
        ("outcome", Self::Outcome),
        ("limit", Self::Limit),
        ("method", Self::Method),
        ("hour", Self::Hour),
        ("day", Self::Day),
        ("week", Self::Week),
        ("month", Self::Month),
    ];

    /// Whether it is a length of the calendar.
    #[must_use]
    pub const fn is_period(&self) -> bool {
        matches!(self, Self::Hour | Self::Day | Self::Week | Self::Month)
    }

    /// Its name in queries and reports.
    #[must_use]
    pub fn name(&self) -> &str {
        match self {
            Self::Label(name) => name,
            known => Self::WORDS
                .iter()
                .find_map(|(word, dimension)| (dimension == known).then_some(*word))
                .unwrap_or_default(),
        }
    }
}

impl FromStr for Dimension {
    type Err = QueryError;

    /// A word of the list, else a label.
    fn from_str(name: &str) -> Result<Self, QueryError> {
        let known = Self::WORDS.iter().find(|(word, _)| *word == name);
        match known {
            Some((_, dimension)) => Ok(dimension.clone()),
            None if name.is_empty() || name.len() > MAX_NAME => {
                Err(QueryError::Dimension(name.chars().take(64).collect()))
            }
            None => Ok(Self::Label(name.to_owned())),
        }
    }
}

impl fmt::Display for Dimension {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(self.name())
    }
}
