//! The store on Redis or Valkey: standalone, behind Sentinel, or a Cluster.
mod desk;
#[expect(dead_code, reason = "the store that calls it is built upon it")]
mod link;
mod names;
mod opening;
mod options;
mod pack;
mod record;
mod script;
mod sheet;

pub use opening::RedisOpenError;
pub use options::{RedisOptions, RedisUrlError};
