//! The server: its listeners, its pipeline, and its end.

use std::future::Future;
use std::io;
use std::sync::Arc;

use tallygate_core::{Receipt, ReservationId};
use tallygate_store::{MemoryOptions, MemoryStore, SettleError, Store, StoreError};
use tokio::net::TcpListener;
use tokio::sync::oneshot;

use crate::config::{Config, Exposed, Unreloadable};
use crate::pipeline::{Pipeline, Settler, SettlerLog, Setup, settler};

mod connections;
mod data;

use data::DataService;

/// The sockets a server listens on.
#[derive(Debug)]
pub struct Listeners {
    /// The gateway and the decision API.
    pub data: TcpListener,
    /// Metrics, health and the admin API.
    pub admin: Option<TcpListener>,
}

/// A server that is ready to run.
pub struct Server {
    handle: ServerHandle,
    settler: Settler,
}

/// A running server, to be looked at and reconfigured. Cheap to clone.
#[derive(Clone)]
pub struct ServerHandle {
    pipeline: Arc<Pipeline>,
}

/// Why a server cannot start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// The machine has no source of randomness.
    #[error("failed to get random numbers: {0}")]
    Random(String),
}

/// Why a running server keeps its old configuration.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReloadError {
    /// A setting changed that needs a restart.
    #[error(transparent)]
    Unreloadable(#[from] Unreloadable),
    /// The store did not take the limits over.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Why a server ended otherwise than asked to.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RunError {
    /// The data listener is open to other machines, and there are no keys.
    #[error(transparent)]
    Exposed(#[from] Exposed),
    /// A listener failed.
    #[error("a listener failed: {0}")]
    Io(#[from] io::Error),
}

impl Server {
    /// A server for `config`, with counters in memory.
    ///
    /// # Errors
    /// [`StartError`].
    pub fn new(config: Config) -> Result<Self, StartError> {
        let store = MemoryStore::new(config.policy(), MemoryOptions::default());
        Self::with_store(config, store)
    }

    /// A server for `config`, with its counters in `store`, whose policy must be the configuration's.
    ///
    /// # Errors
    /// [`StartError`].
    pub fn with_store(config: Config, store: Arc<dyn Store>) -> Result<Self, StartError> {
        let (handle, settler) = settler(Arc::clone(&store), Arc::new(SettleLog));
        let seed = [random()?, random()?];
        let pipeline = Pipeline::new(store, Setup::new(config, None), handle, seed);
        Ok(Self {
            handle: ServerHandle { pipeline },
            settler,
        })
    }

    /// What a running server is looked at and reconfigured by.
    #[must_use]
    pub fn handle(&self) -> ServerHandle {
        self.handle.clone()
    }

    /// Its store.
    #[must_use]
    pub fn store(&self) -> &Arc<dyn Store> {
        self.handle.store()
    }

    /// As [`ServerHandle::reload`].
    ///
    /// # Errors
    /// As [`ServerHandle::reload`].
    pub fn reload(&self, config: Config) -> Result<(), ReloadError> {
        self.handle.reload(config)
    }

    /// Serves until `shutdown`, then drains: no new connections, idle ones closed, answers under way finished for at
    /// most `bounds.drain_time` and cut after it. Every call's account is settled before it returns.
    ///
    /// # Errors
    /// [`RunError`] when it cannot serve on these listeners.
    pub async fn run(
        self,
        listeners: Listeners,
        shutdown: impl Future<Output = ()>,
    ) -> Result<(), RunError> {
        let pipeline = self.handle.pipeline;
        let setup = pipeline.setup();
        setup.config().may_listen_on(listeners.data.local_addr()?)?;
        let bounds = *setup.config().bounds();
        let (stop_settling, stopped) = oneshot::channel();
        let settling = tokio::spawn(self.settler.run(stopped));
        let service = Arc::new(DataService::new(pipeline));
        connections::serve(listeners.data, service, bounds, shutdown).await;
        let _ = stop_settling.send(());
        let _ = tokio::time::timeout(bounds.drain_time, settling).await;
        Ok(())
    }
}

impl ServerHandle {
    /// The store.
    #[must_use]
    pub fn store(&self) -> &Arc<dyn Store> {
        self.pipeline.store()
    }

    /// Puts `config` in force, whole or not at all; counters of unchanged limits are untouched.
    ///
    /// # Errors
    /// [`ReloadError`]; the old configuration stays.
    pub fn reload(&self, config: Config) -> Result<(), ReloadError> {
        let before = self.pipeline.setup();
        before.config().reloadable(&config)?;
        self.pipeline
            .store()
            .replace_policy(Arc::clone(config.policy()))?;
        self.pipeline.replace(Setup::new(config, Some(&before)));
        Ok(())
    }
}

fn random() -> Result<u64, StartError> {
    getrandom::u64().map_err(|error| StartError::Random(error.to_string()))
}

/// What the log is told of settling.
struct SettleLog;

impl SettlerLog for SettleLog {
    fn ended(&self, _: &Receipt) {}

    fn lost(&self, id: ReservationId, error: &SettleError) {
        tracing::warn!(%id, %error, "a reservation was left to its deadline");
    }
}
