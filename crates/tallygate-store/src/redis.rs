//! The store on Redis or Valkey: standalone, behind Sentinel, or a Cluster.
mod options;

pub use options::{RedisOptions, RedisUrlError};
