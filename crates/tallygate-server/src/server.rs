//! The server: its listeners, its pipeline, and its end.

use std::future::Future;
use std::io;
use std::sync::Arc;

use futures_util::FutureExt;
use tallygate_core::{Receipt, ReservationId};
use tallygate_store::folder::FolderError;
use tallygate_store::registry::{MemoryRegistry, Records, Registry, RegistryError};
use tallygate_store::usage::{MemoryShelf, Shelf, ShelfError};
use tallygate_store::{OpenError, RedisOpenError, SettleError, Store, StoreError};
use tokio::net::TcpListener;
use tokio::sync::oneshot;

use crate::admin::{self, Readiness, Ready};
use crate::config::{self, Config, Exposed, Ledger, StoreChoice, Unreloadable};
use crate::events::{EventsLog, HookLog, HookTold, Hooks, Pace};
use crate::ledger::{Kept, LedgerLog, Promise, Writer, recorder};
use crate::observe::Observer;
use crate::pipeline::{Means, Pipeline, Settler, SettlerLog, Setup, settler};
use crate::registrar::{Registrar, keyring};

pub(crate) mod connections;
mod data;
mod opening;
mod patience;
mod recording;
mod store_watch;

use data::DataService;
use recording::Recording;

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
    writer: Option<Writer>,
}

/// A running server, to be looked at and reconfigured. Cheap to clone.
#[derive(Clone)]
pub struct ServerHandle {
    pipeline: Arc<Pipeline>,
    readiness: Readiness,
    registrar: Arc<Registrar>,
}

/// Why a server cannot start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// The machine has no source of randomness.
    #[error("failed to get random numbers: {0}")]
    Random(String),
    /// The store cannot be used.
    #[error(transparent)]
    Store(#[from] RedisOpenError),
    /// The ledger of usage cannot be read.
    #[error("the ledger of usage cannot be opened: {0}")]
    Ledger(#[from] ShelfError),
    /// The keys and overrides cannot be read.
    #[error(transparent)]
    Registry(#[from] RegistryError),
    /// The folder of the store cannot be used.
    #[error(transparent)]
    Folder(#[from] FolderError),
    /// The counters in it cannot.
    #[error(transparent)]
    Counters(#[from] OpenError),
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
    /// A server for `config`, with its counters where `store` of the configuration says.
    ///
    /// # Errors
    /// [`StartError`].
    pub async fn open(config: Config) -> Result<Self, StartError> {
        let choice = config.store().clone();
        Self::open_on(&choice, config).await
    }

    /// A server for `config`, with its counters in `choice`, whatever the configuration says.
    ///
    /// # Errors
    /// [`StartError`].
    pub async fn open_on(choice: &StoreChoice, config: Config) -> Result<Self, StartError> {
        let opened = opening::open(choice, &config).await?;
        let records = opened.registry.load().await?;
        let registered = (opened.registry, records);
        Self::assemble(
            config,
            opened.store,
            registered,
            (opened.shelf, opened.promise),
        )
    }

    /// A server for `config`, with its counters in `store`, whose policy must be the configuration's.
    ///
    /// # Errors
    /// [`StartError`].
    pub fn with_store(config: Config, store: Arc<dyn Store>) -> Result<Self, StartError> {
        Self::with_shelf(config, store, Arc::new(MemoryShelf::default()))
    }

    /// A server for `config`, with its counters in `store` and the keys and overrides of `registry`.
    ///
    /// # Errors
    /// [`StartError`].
    pub async fn with_registry(
        config: Config,
        store: Arc<dyn Store>,
        registry: Arc<dyn Registry>,
    ) -> Result<Self, StartError> {
        let records = registry.load().await?;
        let shelf = Arc::new(MemoryShelf::default());
        Self::assemble(
            config,
            store,
            (registry, records),
            (shelf, Promise::Nothing),
        )
    }

    /// A server for `config`, with its counters in `store` and its ledger on `shelf`.
    ///
    /// # Errors
    /// [`StartError`].
    pub fn with_shelf(
        config: Config,
        store: Arc<dyn Store>,
        shelf: Arc<dyn Shelf>,
    ) -> Result<Self, StartError> {
        let registered = (MemoryRegistry::new() as Arc<dyn Registry>, Arc::default());
        Self::assemble(config, store, registered, (shelf, Promise::Nothing))
    }

    fn assemble(
        config: Config,
        store: Arc<dyn Store>,
        (registry, records): (Arc<dyn Registry>, Arc<Records>),
        (shelf, promise): (Arc<dyn Shelf>, Promise),
    ) -> Result<Self, StartError> {
        let observer = Arc::new(Observer::new(&config));
        let (handle, settler) = settler(
            Arc::clone(&store),
            Arc::clone(&observer) as Arc<dyn SettlerLog>,
        );
        let kept = match config.ledger() {
            Ledger::Off => None,
            Ledger::Kept(keep) => Some(Kept {
                shelf,
                promise,
                keep,
            }),
        };
        let (recorder, writer) = recorder(kept, Arc::clone(&observer) as Arc<dyn LedgerLog>);
        recorder.resume(&config);
        let means = Means {
            store,
            settler: handle,
            observer,
            recorder,
            seed: [random()?, random()?],
        };
        let readiness = Readiness::default();
        readiness.follow(config.policy());
        let keyring = keyring(&config, records.keys());
        let setup = Setup::new(Arc::new(config), keyring, None);
        let pipeline = Pipeline::new(setup, means);
        let registrar = Registrar::new(registry, records, Arc::clone(&pipeline), readiness.clone());
        registrar.refresh();
        Ok(Self {
            handle: ServerHandle {
                pipeline,
                readiness,
                registrar: Arc::new(registrar),
            },
            settler,
            writer,
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
        let handle = self.handle;
        let setup = handle.pipeline.setup();
        config::guard(listeners.data.local_addr()?, setup.keyring())?;
        let bounds = *setup.config().bounds();
        let (stop_settling, stopped) = oneshot::channel();
        let settling = tokio::spawn(self.settler.run(stopped));
        let recording = Recording::start(self.writer, &handle.pipeline);
        let (stop_admin, admin_stopped) = oneshot::channel::<()>();
        let told = tokio::spawn(tell(listeners.admin, handle.clone(), admin_stopped));
        let registrar = Arc::clone(&handle.registrar);
        let following = tokio::spawn(async move { registrar.follow().await });
        let ServerHandle {
            pipeline,
            readiness,
            ..
        } = handle;
        let watched = (
            Arc::clone(pipeline.store()),
            Arc::clone(pipeline.observer()),
        );
        let watching = tokio::spawn(store_watch::watch(watched.0, watched.1));
        let hooks = tokio::spawn(tell_hooks(&pipeline));
        let events = Arc::clone(pipeline.events());
        let store = Arc::clone(pipeline.store());
        let service = Arc::new(DataService::new(pipeline));
        readiness.set(Ready::Yes);
        let shutdown = shutdown.map(|()| readiness.set(Ready::No));
        connections::serve(listeners.data, service, bounds, shutdown).await;
        let _ = stop_settling.send(());
        let _ = tokio::time::timeout(bounds.drain_time, settling).await;
        recording.stop(bounds.drain_time).await;
        watching.abort();
        hooks.abort();
        following.abort();
        store.close().await;
        events.end();
        let _ = stop_admin.send(());
        let _ = told.await;
        Ok(())
    }
}

impl ServerHandle {
    /// The store.
    #[must_use]
    pub fn store(&self) -> &Arc<dyn Store> {
        self.pipeline.store()
    }

    /// What is told of everything.
    #[must_use]
    pub fn observer(&self) -> &Observer {
        self.pipeline.observer()
    }

    /// Whether requests are welcome.
    #[must_use]
    pub fn ready(&self) -> Ready {
        self.readiness.get()
    }

    /// Puts `config` in force, whole or not at all; counters of unchanged limits are untouched.
    ///
    /// # Errors
    /// [`ReloadError`]; the old configuration stays.
    pub fn reload(&self, config: Config) -> Result<(), ReloadError> {
        self.take_over(config).map(drop)
    }

    /// As [`Self::reload`]. Returns what became of keys that its author should know.
    pub(crate) fn take_over(&self, config: Config) -> Result<Vec<String>, ReloadError> {
        let left = self.registrar.reload(config)?;
        self.observer().reloaded(self.pipeline.setup().config());
        self.observer().keys_left(&left);
        Ok(left)
    }

    /// What all requests are served with.
    pub(crate) fn pipeline(&self) -> &Arc<Pipeline> {
        &self.pipeline
    }

    /// Whether requests are welcome, with what that depends on.
    pub(crate) fn readiness(&self) -> &Readiness {
        &self.readiness
    }

    /// What keeps the configuration, keys and overrides in force.
    pub(crate) fn registrar(&self) -> &Arc<Registrar> {
        &self.registrar
    }
}

/// Sends what happens to those who asked for it, until dropped.
fn tell_hooks(pipeline: &Pipeline) -> impl Future<Output = ()> + Send + 'static {
    let events = pipeline.events();
    let hooks = Hooks {
        log: Arc::clone(pipeline.observer()) as Arc<dyn HookLog>,
        pace: Pace::default(),
    };
    hooks.run(events.subscribe(), events.hooks())
}

fn random() -> Result<u64, StartError> {
    getrandom::u64().map_err(|error| StartError::Random(error.to_string()))
}

/// Serves the admin listener, if there is one, until told to stop: to the very end, so that a drain can be watched.
async fn tell(listener: Option<TcpListener>, handle: ServerHandle, stopped: oneshot::Receiver<()>) {
    let Some(listener) = listener else { return };
    let stopped = async {
        let _ = stopped.await;
    };
    if let Err(error) = admin::serve(listener, handle, stopped).await {
        tracing::error!(%error, "the admin listener failed");
    }
}

impl SettlerLog for Observer {
    fn ended(&self, receipt: &Receipt) {
        Self::ended(self, receipt);
    }

    fn lost(&self, id: ReservationId, error: &SettleError) {
        Self::lost(self, id, error);
    }
}

impl EventsLog for Observer {
    fn forgot(&self) {
        self.event_forgotten();
    }
}

impl HookLog for Observer {
    fn told(&self, host: &str, told: HookTold, why: &str) {
        self.hook_told(host, told, why);
    }
}
