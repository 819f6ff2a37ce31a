//! The store on Redis or Valkey: standalone, behind Sentinel, or a Cluster.
mod clock;
mod denials;
mod desk;
mod found;
mod groups;
mod hearing;
mod holds;
mod leases;
mod link;
mod memos;
mod metrics;
mod names;
mod opening;
mod options;
mod outage;
mod pump;
mod record;
mod registry;
mod room;
mod rules;
mod script;
mod sheet;
#[cfg(test)]
mod simulation;
mod spool;
mod store;
mod usage;

pub use found::{FoundServer, RedisFindings};
pub use leases::Regime;
pub use opening::RedisOpenError;
pub use options::{RedisOptions, RedisUrlError};
pub use registry::RedisRegistry;
pub use store::RedisStore;
pub use usage::RedisShelf;
