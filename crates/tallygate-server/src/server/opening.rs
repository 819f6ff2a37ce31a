//! Opening the store that a configuration names.

use std::sync::Arc;

use tallygate_core::Bounds;
use tallygate_store::registry::{MemoryRegistry, Registry};
use tallygate_store::{MemoryOptions, MemoryStore, RedisOptions, RedisStore, Store};

use super::StartError;
use crate::config::{Config, StoreChoice};

/// What a server keeps its state in.
pub(super) struct Opened {
    pub(super) store: Arc<dyn Store>,
    pub(super) registry: Arc<dyn Registry>,
}

/// A store of this kind with the limits of `config`, and what belongs to it.
///
/// # Errors
/// When it cannot be used.
pub(super) async fn open(choice: &StoreChoice, config: &Config) -> Result<Opened, StartError> {
    match choice {
        StoreChoice::Memory => Ok(Opened {
            store: memory(config),
            registry: MemoryRegistry::new(),
        }),
        StoreChoice::Redis(options) => {
            let options = RedisOptions::clone(options).with_waiters(config.waiting().queue);
            let options = match config.data() {
                Some(folder) => options.with_data(folder),
                None => options,
            };
            let store = RedisStore::open(options, config.policy()).await?;
            for warning in &store.findings().warnings {
                tracing::warn!(target: "tallygate::store", "{warning}");
            }
            Ok(Opened {
                store,
                registry: MemoryRegistry::new(),
            })
        }
    }
}

fn memory(config: &Config) -> Arc<dyn Store> {
    let bounds = Bounds {
        waiters: config.waiting().queue,
        ..Bounds::default()
    };
    let options = MemoryOptions {
        bounds,
        ..MemoryOptions::default()
    };
    MemoryStore::new(config.policy(), options)
}
