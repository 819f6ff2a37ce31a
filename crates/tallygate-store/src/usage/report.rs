//! The answer to a question about usage.

use super::{Dimension, Totals};

/// What a query found.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Report {
    /// What the rows are apart by.
    pub by: Vec<Dimension>,
    /// One for each combination, in the order of their keys.
    pub rows: Vec<Row>,
    /// The sum of all rows.
    pub totals: Totals,
    /// Calls that are in no row but in the totals, because there would be more than [`super::MAX_ROWS`] rows.
    pub without_row: u64,
    /// Blocks and pieces of files that could not be read: what they hold is in no sum.
    pub damaged: u64,
}

/// One combination and its sums.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// A value for each dimension of the query, in its order; empty where a record has none.
    pub key: Vec<String>,
    /// The sums.
    pub totals: Totals,
}
