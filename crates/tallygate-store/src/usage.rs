//! The ledger of usage: one compact [`Record`] a call, kept on a [`Shelf`] and summed by a [`Query`].
//!
//! Records are written in [`Block`]s, column by column with a dictionary of their own, some 20 to 30 bytes a record, and
//! are read in the same form wherever they are kept. No record holds a text of a prompt or an answer.
//!
//! ```
//! use tallygate_store::usage::{Dimension, MemoryShelf, Query, Record, Shelf};
//!
//! # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
//! let shelf = MemoryShelf::default();
//! shelf.append(&[Record::default()]).await.unwrap();
//! let query = Query { by: vec![Dimension::Model], ..Query::default() };
//! assert_eq!(shelf.answer(&query).await.unwrap().totals.calls, 1);
//! # });
//! ```
mod block;
mod column;
mod dimension;
mod folder;
mod memory;
mod period;
mod query;
mod record;
mod report;
mod rows;
mod shelf;
mod tally;
#[cfg(all(test, not(tallygate_loom)))]
mod tests;
mod totals;
mod varint;

pub use block::{Block, BlockError, BlockView, MAX_RECORDS};
pub use dimension::Dimension;
pub use folder::FolderShelf;
pub use memory::MemoryShelf;
pub use query::{Query, QueryError};
pub use record::{Call, Labels, Method, Outcome, Record, Used};
pub use report::{Report, Row};
pub use shelf::{Memo, MemosFor, Shelf, ShelfError};
pub use tally::{MAX_ROWS, Tally};
pub use totals::{Savings, Totals};

pub use crate::redis::RedisShelf;
