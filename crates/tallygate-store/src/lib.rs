//! Where counters live: the [`Store`] trait and the memory store.
mod clock;
mod mailbox;
mod memory;
mod store;
mod sync;

pub use clock::{Clock, Hands};
pub use memory::{MemoryOptions, MemoryStore};
pub use store::{BoxFuture, Reserve, SettleError, Settlement, Store, StoreError, StoreStats};
