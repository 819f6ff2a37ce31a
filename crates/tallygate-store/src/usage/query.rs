//! A question about usage.

use jiff::tz::TimeZone;

use super::Dimension;

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
    /// It filters by a length of the calendar.
    #[error("usage is not filtered by `{0}`: say `from` and `to`")]
    Filter(String),
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

    /// Checks what the types leave open.
    ///
    /// # Errors
    /// [`QueryError`].
    pub fn check(&self) -> Result<(), QueryError> {
        if self.by.len() > Self::MOST_BY {
            return Err(QueryError::TooMany);
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
