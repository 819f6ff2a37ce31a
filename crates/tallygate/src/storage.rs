//! Opening the store of a configuration, to look at it.

use std::sync::Arc;

use tallygate_server::Config;
use tallygate_server::config::StoreChoice;
use tallygate_store::{MemoryOptions, MemoryStore, RedisOptions, RedisStore, Store};

use crate::exit::{Exit, Failure};

/// Every counter as it is before the first call.
pub(crate) fn untouched(config: &Config) -> Arc<dyn Store> {
    MemoryStore::new(config.policy(), MemoryOptions::default())
}

/// The counters where they stand.
pub(crate) async fn open(config: &Config) -> Result<Arc<dyn Store>, Failure> {
    match config.store() {
        StoreChoice::Redis(options) => Ok(connect(options, config).await?),
        _ => Ok(untouched(config)),
    }
}

/// The store on Redis.
pub(crate) async fn connect(
    options: &RedisOptions,
    config: &Config,
) -> Result<Arc<RedisStore>, Failure> {
    let opened = RedisStore::open(options.clone(), config.policy()).await;
    opened.map_err(|error| Failure::new(Exit::Store, error))
}
