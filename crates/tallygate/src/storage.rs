//! Opening the store of a configuration, to look at it.

use std::path::PathBuf;
use std::sync::Arc;

use tallygate_server::Config;
use tallygate_server::config::StoreChoice;
use tallygate_store::folder::{DataFolder, Purpose};
use tallygate_store::registry::FolderRegistry;
use tallygate_store::usage::FolderShelf;
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

/// What is in a folder that could be opened to serve.
pub(crate) struct FolderFindings {
    /// Whether there is nothing in it yet, or no such folder.
    pub(crate) is_new: bool,
    /// How many keys it has, ended ones included.
    pub(crate) keys: usize,
    /// Pieces of the ledger of usage that cannot be read.
    pub(crate) damaged: u64,
}

/// Opens all of a folder as `serve` does, and changes nothing there.
pub(crate) async fn examine(path: PathBuf, config: &Config) -> Result<FolderFindings, Failure> {
    let policy = Arc::clone(config.policy());
    let examining = tokio::task::spawn_blocking(move || {
        let failed = |error: &dyn std::fmt::Display| Failure::new(Exit::Store, error);
        let folder = DataFolder::probe(&path).map_err(|error| failed(&error))?;
        let Some(folder) = folder else {
            return Ok(FolderFindings {
                is_new: true,
                keys: 0,
                damaged: 0,
            });
        };
        let records = FolderRegistry::peek(&folder).map_err(|error| failed(&error))?;
        let damaged = FolderShelf::probe(&folder).map_err(|error| failed(&error))?;
        let store = MemoryStore::look(&policy, MemoryOptions::default(), folder);
        store.map_err(|error| failed(&error))?;
        Ok(FolderFindings {
            is_new: false,
            keys: records.keys().count(),
            damaged,
        })
    });
    let examined = examining.await;
    examined.unwrap_or_else(|panic| std::panic::resume_unwind(panic.into_panic()))
}

/// The store on Redis.
pub(crate) async fn connect(
    options: &RedisOptions,
    config: &Config,
) -> Result<Arc<RedisStore>, Failure> {
    let opened = RedisStore::open(options.clone(), config.policy()).await;
    opened.map_err(|error| Failure::new(Exit::Store, error))
}
