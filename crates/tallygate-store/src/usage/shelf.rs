//! Where records are kept.

use std::future::ready;
use std::io;

use futures_util::future::try_join_all;
use tallygate_core::{ReservationId, Time};

use super::{BlockError, Query, QueryError, Record, Report};
use crate::BoxFuture;

/// What the record of an open reservation needs to say, for whichever node ends it. Its bytes are its maker's own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Memo {
    /// Whose.
    pub id: ReservationId,
    /// When that ends by itself. The memo is kept a little longer.
    pub expires_at: Time,
    /// What is to be known, in at most [`Memo::MOST_BYTES`]; not empty.
    pub bytes: Vec<u8>,
}

/// Who finds memos.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MemosFor {
    /// None are kept.
    Nobody,
    /// The next process on the same folder.
    NextProcess,
    /// All nodes that share the shelf.
    OtherNodes,
}

impl Memo {
    /// The most that a memo may say.
    pub const MOST_BYTES: usize = 4_096;
}

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

    /// As [`Self::append`], of reservations that end with these records: their memos are forgotten. Whatever crashes, none of them
    /// has both its record and its memo afterwards.
    ///
    /// # Errors
    /// As [`Self::append`]; no memo was forgotten either.
    fn append_ends<'a>(
        &'a self,
        records: &'a [Record],
        ended: &'a [ReservationId],
    ) -> BoxFuture<'a, Result<(), ShelfError>> {
        let _ = ended;
        self.append(records)
    }

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

    /// Who finds the memos that are kept. If nobody, none are.
    fn memos_for(&self) -> MemosFor {
        MemosFor::Nobody
    }

    /// Keeps a memo, unless the reservation has one.
    ///
    /// # Errors
    /// [`ShelfError`]; it may be kept all the same.
    fn keep_memo<'a>(&'a self, memo: &'a Memo) -> BoxFuture<'a, Result<(), ShelfError>> {
        let _ = memo;
        Box::pin(ready(Ok(())))
    }

    /// Keeps many.
    ///
    /// # Errors
    /// As [`Self::keep_memo`]; some may be kept.
    fn keep_memos<'a>(&'a self, memos: &'a [Memo]) -> BoxFuture<'a, Result<(), ShelfError>> {
        let kept = memos.iter().map(|memo| self.keep_memo(memo));
        Box::pin(async move { try_join_all(kept).await.map(drop) })
    }

    /// Puts a memo in the place of the reservation's, if it has one.
    ///
    /// # Errors
    /// [`ShelfError`]; it may be done all the same.
    fn renew_memo<'a>(&'a self, memo: &'a Memo) -> BoxFuture<'a, Result<(), ShelfError>> {
        let _ = memo;
        Box::pin(ready(Ok(())))
    }

    /// What the memo of a reservation says, if it has one.
    ///
    /// # Errors
    /// [`ShelfError`].
    fn find_memo(&self, id: ReservationId) -> BoxFuture<'_, Result<Option<Vec<u8>>, ShelfError>> {
        let _ = id;
        Box::pin(ready(Ok(None)))
    }

    /// What the memo of a reservation says, which is gone then: of several that take it one gets it.
    ///
    /// # Errors
    /// [`ShelfError`]; it may be gone all the same.
    fn take_memo(&self, id: ReservationId) -> BoxFuture<'_, Result<Option<Vec<u8>>, ShelfError>> {
        let _ = id;
        Box::pin(ready(Ok(None)))
    }

    /// The memos that an earlier process left, where no other node could end their reservations.
    fn memos(&self) -> Vec<Memo> {
        Vec::new()
    }

    /// Reservations that have memos, of those with deadlines before `before` the first, at most so many; none where
    /// [`Self::memos`] tells of them.
    ///
    /// # Errors
    /// [`ShelfError`].
    fn overdue_memos(
        &self,
        before: Time,
        most: usize,
    ) -> BoxFuture<'_, Result<Vec<ReservationId>, ShelfError>> {
        let _ = (before, most);
        Box::pin(ready(Ok(Vec::new())))
    }
}
