//! Where counters live: the [`Store`] trait and the memory store.
mod store;

pub use store::{BoxFuture, Reserve, SettleError, Settlement, Store, StoreError, StoreStats};
