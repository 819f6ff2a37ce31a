//! A question about usage.

use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::TimeZone;

use super::{Dimension, Outcome};

/// What is wrong with a question.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum QueryError {
    /// What it sums or filters by is no name.
    #[error(
        "`{0}` is nothing that usage can be told by: name a label, or model, asked, upstream, outcome, limit, method, hour, day, week or month"
    )]
    Dimension(String),
    /// It sums by more than it may.
    #[error("usage is told by at most {most} things at once", most = Query::MOST_BY)]
    TooMany,
    /// A moment that is none.
    #[error(
        "`{name}` must be a date (2026-11-22), a time (2026-11-22T13:00:00Z) or a length back from now (24h, 30d), and `{value}` is none"
    )]
    Moment {
        /// The parameter.
        name: &'static str,
        /// What stands there.
        value: String,
    },
    /// It ends before it begins.
    #[error("`to` is earlier than `from`, so that nothing can count")]
    Backwards,
    /// A time zone that is not known.
    #[error("`{0}` is no time zone: name one as Europe/Berlin")]
    Zone(String),
    /// It filters by an outcome that no call has.
    #[error(
        "no call's outcome is `{0}`: name settled, cancelled, refused, failed, denied, never or expired"
    )]
    Outcome(String),
    /// It says something twice of which only one can be meant.
    #[error("`{0}` is given twice: name all in one, or leave one out")]
    Twice(&'static str),
    /// It filters by a length of the calendar.
    #[error("usage is not filtered by `{0}`: say `from` and `to`")]
    Filter(String),
}

impl QueryError {
    /// The parameter it speaks of.
    #[must_use]
    pub fn parameter(&self) -> Option<&str> {
        match self {
            Self::Dimension(_) | Self::TooMany => Some("by"),
            Self::Moment { name, .. } => Some(name),
            Self::Backwards => Some("to"),
            Self::Zone(_) => Some("timezone"),
            Self::Outcome(_) => Some("outcome"),
            Self::Twice(name) => Some(name),
            Self::Filter(name) => Some(name),
        }
    }
}

/// A question: which records, and what they are summed by.
#[derive(Debug, Clone)]
pub struct Query {
    /// One row for each combination of these that there is.
    pub by: Vec<Dimension>,
    /// The first millisecond since the Unix epoch that counts.
    pub from: u64,
    /// The first that counts no more.
    pub to: u64,
    /// Whose days and months are meant.
    pub zone: TimeZone,
    /// Only records that have one of these values in each. An absent label has the value "".
    pub only: Vec<(Dimension, Vec<String>)>,
}

impl Query {
    /// The most dimensions of one query.
    pub const MOST_BY: usize = 8;

    /// Reads a question of names and values: `by` (names with commas between), `from`, `to` and `timezone`; any other name is
    /// a dimension, and the record must have its value, or one of its values where it is given more than once. `now` is in
    /// milliseconds since the Unix epoch.
    ///
    /// # Errors
    /// [`QueryError`].
    pub fn read<'a>(
        pairs: impl IntoIterator<Item = (&'a str, &'a str)>,
        now: u64,
    ) -> Result<Self, QueryError> {
        let mut query = Self::default();
        let [mut by, mut from, mut to, mut timezone] = [None; 4];
        for (name, value) in pairs {
            match name {
                "by" => once("by", &mut by, value)?,
                "from" => once("from", &mut from, value)?,
                "to" => once("to", &mut to, value)?,
                "timezone" => once("timezone", &mut timezone, value)?,
                name => query.require(name.parse()?, value),
            }
        }
        if let Some(by) = by {
            let names = by.split(',').map(str::trim);
            let names = names.filter(|name| !name.is_empty());
            query.by = names.map(str::parse).collect::<Result<_, _>>()?;
        }
        if let Some(timezone) = timezone {
            query.zone = zone(timezone)?;
        }
        if let Some(from) = from {
            query.from = moment("from", from, (now, &query.zone))?;
        }
        if let Some(to) = to {
            query.to = moment("to", to, (now, &query.zone))?;
        }
        query.check()?;
        Ok(query)
    }

    /// Leaves out what has another value.
    fn require(&mut self, dimension: Dimension, value: &str) {
        let mut only = self.only.iter_mut();
        match only.find(|(known, _)| *known == dimension) {
            Some((_, values)) => values.push(value.to_owned()),
            None => self.only.push((dimension, vec![value.to_owned()])),
        }
    }

    /// Checks what the types leave open.
    ///
    /// # Errors
    /// [`QueryError`].
    pub fn check(&self) -> Result<(), QueryError> {
        if self.by.len() > Self::MOST_BY {
            return Err(QueryError::TooMany);
        }
        if self.to < self.from {
            return Err(QueryError::Backwards);
        }
        let outcomes = self.only.iter().filter(|(of, _)| *of == Dimension::Outcome);
        let mut outcomes = outcomes.flat_map(|(_, values)| values);
        let is_known = |value: &&String| Outcome::ALL.iter().any(|known| known.word() == *value);
        if let Some(unknown) = outcomes.find(|value| !is_known(value)) {
            return Err(QueryError::Outcome(unknown.chars().take(64).collect()));
        }
        match self
            .only
            .iter()
            .find(|(dimension, _)| dimension.is_period())
        {
            Some((dimension, _)) => Err(QueryError::Filter(dimension.to_string())),
            None => Ok(()),
        }
    }
}

impl Default for Query {
    /// Everything there is, in one sum.
    fn default() -> Self {
        Self {
            by: Vec::new(),
            from: 0,
            to: u64::MAX,
            zone: TimeZone::UTC,
            only: Vec::new(),
        }
    }
}

/// Takes what is said once at most.
fn once<'a>(
    name: &'static str,
    said: &mut Option<&'a str>,
    value: &'a str,
) -> Result<(), QueryError> {
    match said.replace(value) {
        Some(_) => Err(QueryError::Twice(name)),
        None => Ok(()),
    }
}

fn zone(name: &str) -> Result<TimeZone, QueryError> {
    TimeZone::get(name).map_err(|_| QueryError::Zone(name.chars().take(64).collect()))
}

/// The first millisecond of a date in the zone, a time, or a length back from now.
fn moment(
    name: &'static str,
    value: &str,
    (now, zone): (u64, &TimeZone),
) -> Result<u64, QueryError> {
    let back = back(value).map(|back| now.saturating_sub(back));
    let time = || value.parse::<Timestamp>().ok().and_then(millis);
    let date = || {
        let date: Date = value.parse().ok()?;
        millis(date.to_zoned(zone.clone()).ok()?.timestamp())
    };
    let wrong = || QueryError::Moment {
        name,
        value: value.chars().take(64).collect(),
    };
    back.or_else(time).or_else(date).ok_or_else(wrong)
}

/// A length of hours or days (`24h`, `30d`), in milliseconds.
fn back(value: &str) -> Option<u64> {
    let (number, unit) = value.split_at_checked(value.len().checked_sub(1)?)?;
    let unit = match unit {
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return None,
    };
    number.parse::<u64>().ok()?.checked_mul(unit)
}

fn millis(at: Timestamp) -> Option<u64> {
    u64::try_from(at.as_millisecond()).ok()
}

#[cfg(test)]
mod tests {
    use super::{Query, QueryError};
    use crate::usage::Dimension;

    const NOW: u64 = 1_800_000_000_000;

    #[test]
    fn spaces_between_names_are_no_part_of_them() {
        let query = Query::read([("by", "tenant, model ,team")], NOW).expect("a question");
        let team = Dimension::Label("team".to_owned());
        let tenant = Dimension::Label("tenant".to_owned());
        assert_eq!(query.by, [tenant, Dimension::Model, team]);
    }

    #[test]
    fn what_ends_before_it_begins_is_refused() {
        let refused = Query::read([("from", "1d"), ("to", "2d")], NOW).expect_err("backwards");
        assert_eq!(
            (refused.parameter(), &refused),
            (Some("to"), &QueryError::Backwards)
        );
        for (from, to) in [("2d", "1d"), ("1d", "1d"), ("2026-11-01", "2026-11-02")] {
            assert!(Query::read([("from", from), ("to", to)], NOW).is_ok());
        }
    }
}
