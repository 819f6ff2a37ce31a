//! Opening the store that a configuration names.

use std::path::PathBuf;
use std::sync::Arc;

use tallygate_core::Bounds;
use tallygate_store::folder::{DataFolder, Purpose};
use tallygate_store::registry::{FolderRegistry, MemoryRegistry, RedisRegistry, Registry};
use tallygate_store::usage::{FolderShelf, MemoryShelf, RedisShelf, Shelf};
use tallygate_store::{MemoryOptions, MemoryStore, RedisOptions, RedisStore, Store};

use super::StartError;
use crate::config::{Config, StoreChoice};
use crate::ledger::Promise;

/// What a server keeps its state in.
pub(super) struct Opened {
    pub(super) store: Arc<dyn Store>,
    pub(super) registry: Arc<dyn Registry>,
    pub(super) shelf: Arc<dyn Shelf>,
    pub(super) promise: Promise,
}

/// A store of this kind with the limits of `config`, and what belongs to it.
///
/// # Errors
/// When it cannot be used.
pub(super) async fn open(choice: &StoreChoice, config: &Config) -> Result<Opened, StartError> {
    match choice {
        StoreChoice::Memory => Ok(Opened {
            store: MemoryStore::new(config.policy(), in_memory(config)),
            registry: MemoryRegistry::new(),
            shelf: Arc::new(MemoryShelf::default()),
            promise: Promise::Nothing,
        }),
        StoreChoice::Folder(path) => in_folder(path.clone(), config).await,
        StoreChoice::Redis(options) => {
            let options = RedisOptions::clone(options).with_waiters(config.waiting().queue);
            let options = match config.data() {
                Some(folder) => options.with_data(folder),
                None => options,
            };
            let registry = RedisRegistry::open(&options).await?;
            let shelf = RedisShelf::open(&options).await?;
            let store = RedisStore::open(options, config.policy()).await?;
            for warning in &store.findings().warnings {
                tracing::warn!(target: "tallygate::store", "{warning}");
            }
            Ok(Opened {
                store,
                registry,
                shelf: Arc::new(shelf),
                promise: Promise::Nothing,
            })
        }
    }
}

/// What is in a folder, which is read before anything is decided.
async fn in_folder(path: PathBuf, config: &Config) -> Result<Opened, StartError> {
    let (policy, options) = (Arc::clone(config.policy()), in_memory(config));
    let durability = config.durability();
    let opening = tokio::task::spawn_blocking(move || {
        let folder = DataFolder::open(&path, Purpose::Own)?;
        let registry = FolderRegistry::open(Arc::clone(&folder))?;
        let shelf = FolderShelf::open(Arc::clone(&folder))?;
        if shelf.damaged() > 0 {
            let pieces = shelf.damaged();
            tracing::error!(target: "tallygate::ledger", pieces, "pieces of the ledger of usage cannot be read; what they hold is in no sum");
        }
        let store = MemoryStore::open(&policy, options, folder, durability)?;
        let calls = store.orphans();
        if calls > 0 {
            tracing::warn!(target: "tallygate::store", calls, "calls were being served when the last process was killed; what was held for them counts as used");
        }
        Ok(Opened {
            store,
            registry,
            shelf: Arc::new(shelf),
            promise: Promise::Folder(durability),
        })
    });
    let opened = opening.await;
    opened.unwrap_or_else(|panic| std::panic::resume_unwind(panic.into_panic()))
}

fn in_memory(config: &Config) -> MemoryOptions {
    let bounds = Bounds {
        waiters: config.waiting().queue,
        ..Bounds::default()
    };
    MemoryOptions {
        bounds,
        ..MemoryOptions::default()
    }
}
