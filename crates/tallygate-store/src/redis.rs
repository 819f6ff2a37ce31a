//! The store on Redis or Valkey: standalone, behind Sentinel, or a Cluster.
mod desk;
mod names;
mod options;
mod pack;
mod record;
mod script;
mod sheet;

pub use options::{RedisOptions, RedisUrlError};
