//! Where counters live: the [`Store`] trait, the memory store, and the suite that every store runs.
mod clock;
pub mod conformance;
pub mod folder;
mod mailbox;
mod memory;
mod pack;
mod redis;
pub mod registry;
mod store;
mod sync;
pub mod usage;

pub use clock::{Clock, Hands};
pub use memory::{
    Durability, MemoryOptions, MemoryStore, OpenError, RELAXED_AT_ONCE, RELAXED_BOUND,
};
pub use redis::{
    FoundServer, RedisFindings, RedisOpenError, RedisOptions, RedisStore, RedisUrlError, Regime,
};
pub use store::{
    BoxFuture, LeaseStats, OutageStats, Reserve, SettleError, SettledBy, Settlement, Store,
    StoreError, StoreHealth, StoreStats, WaitsFor,
};
