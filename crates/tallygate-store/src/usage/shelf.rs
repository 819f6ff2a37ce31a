//! Where records are kept.

use std::io;

use super::{BlockError, Query, QueryError, Record, Report};
use crate::BoxFuture;

/// Why a shelf does not do what it is asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ShelfError {
    /// The question cannot be answered by any shelf.
    #[error(transparent)]
    Query(#[from] QueryError),
    /// The disk failed.
    #[error("the ledger's folder cannot be used: {0}")]
    Disk(#[from] io::Error),
    /// The server that keeps it failed.
    #[error("the ledger's server cannot be used: {0}")]
    Server(String),
    /// What is kept cannot be read.
    #[error(transparent)]
    Block(#[from] BlockError),
}

/// Keeps records and answers questions about them.
///
/// What [`Shelf::append`] was given is in every answer that is asked for after it returned.
pub trait Shelf: Send + Sync {
    /// Keeps `records`: all of them, or none and an error.
    ///
    /// # Errors
    /// [`ShelfError`]; nothing was kept.
    ///
    /// # Cancel safety
    /// Dropped half-way, they are kept or not.
    fn append<'a>(&'a self, records: &'a [Record]) -> BoxFuture<'a, Result<(), ShelfError>>;

    /// Sums what the query asks for.
    ///
    /// # Errors
    /// [`ShelfError`]. Damage is no error: it is told in the report.
    fn answer<'a>(&'a self, query: &'a Query) -> BoxFuture<'a, Result<Report, ShelfError>>;

    /// Forgets records of times before `time` (milliseconds since the Unix epoch), in pieces of the shelf's own size: some of
    /// them may stay for a day. Also does what else is to be done from time to time.
    ///
    /// # Errors
    /// [`ShelfError`].
    fn drop_before(&self, time: u64) -> BoxFuture<'_, Result<(), ShelfError>>;
}
