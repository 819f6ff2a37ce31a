//! Opening the store of a configuration, to look at it.

use std::path::PathBuf;
use std::sync::Arc;

use tallygate_server::Config;
use tallygate_server::config::StoreChoice;
use tallygate_store::folder::{DataFolder, Purpose};
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
        StoreChoice::Folder(path) => look(path.clone(), config).await,
        _ => Ok(untouched(config)),
    }
}

/// The counters of a folder, which may be a running server's.
async fn look(path: PathBuf, config: &Config) -> Result<Arc<dyn Store>, Failure> {
    let policy = Arc::clone(config.policy());
    let looking = tokio::task::spawn_blocking(move || {
        let folder = DataFolder::open(&path, Purpose::Read);
        let folder = folder.map_err(|error| Failure::new(Exit::Store, error))?;
        let store = MemoryStore::look(&policy, MemoryOptions::default(), folder);
        let store = store.map_err(|error| Failure::new(Exit::Store, error))?;
        Ok(store as Arc<dyn Store>)
    });
    let looked = looking.await;
    looked.unwrap_or_else(|panic| std::panic::resume_unwind(panic.into_panic()))
}

/// The store on Redis.
pub(crate) async fn connect(
    options: &RedisOptions,
    config: &Config,
) -> Result<Arc<RedisStore>, Failure> {
    let opened = RedisStore::open(options.clone(), config.policy()).await;
    opened.map_err(|error| Failure::new(Exit::Store, error))
}
