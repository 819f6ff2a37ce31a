//! A store and the policy in force.
use crate::failure;
use crate::family::Family;
use crate::fork::{self, Generation};
use crate::kept::{Kept, Named};
use crate::overrides::{self, Following, Overrides};
use crate::pending;
use crate::rules::{self, Written};
use crate::subject::Subject;
use parking_lot::RwLock;
use pyo3::exceptions::PyConnectionError;
use pyo3::prelude::*;
use pyo3::types::PyDict;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tallygate_core::{Bounds, Metrics, Policy};
use tallygate_store::folder::{DataFolder, Purpose};
use tallygate_store::registry::{RedisRegistry, Stamp};
use tallygate_store::{
    Durability, MemoryOptions, MemoryStore, RedisOpenError, RedisOptions, RedisStore,
    RedisUrlError, Store, StoreError, StoreHealth,
};
use tokio::runtime::Handle;
use tokio::sync::watch;

/// A store of counters and the rules that hold in it. All its methods may be called from any thread.
#[pyclass(frozen, weakref, module = "tallygate._native")]
pub(crate) struct Engine {
    core: Arc<Core>,
}

/// What an engine shares with what it made.
pub(crate) struct Core {
    kind: &'static str,
    generation: Generation,
    runtime: Option<Handle>,
    state: RwLock<State>,
    closed: watch::Sender<bool>,
}

struct State {
    store: Option<Held>,
    policy: Arc<Policy>,
    /// What this process has in force.
    named: Named,
    kept: Kept,
    overrides: Overrides,
    following: Option<Following>,
}

/// Why rules are not in force.
enum Unenforced {
    /// They are no policy, or cannot be kept.
    Rules(PyErr),
    /// The store fails.
    Store(StoreError),
}

impl From<Unenforced> for PyErr {
    fn from(unenforced: Unenforced) -> Self {
        match unenforced {
            Unenforced::Rules(error) => error,
            Unenforced::Store(error) => failure::Failure::from(error).into(),
        }
    }
}

impl State {
    /// As [`Core::change`]. Needs no Python.
    fn change(&mut self, put: Vec<Written>, gone: &[String]) -> Result<(), Unenforced> {
        let amounts = overrides::applied(put.clone(), &self.overrides);
        let policy = rules::amended(&self.policy, amounts, gone);
        let policy = Arc::new(policy.map_err(Unenforced::Rules)?);
        let kept = self.kept.change(&self.named, (&put, gone));
        kept.map_err(Unenforced::Rules)?;
        if let Some(held) = &self.store {
            let replaced = held.store.replace_policy(policy.clone());
            replaced.map_err(Unenforced::Store)?;
        }
        self.policy = policy;
        for name in gone {
            self.named.remove(name);
        }
        let put = put.into_iter().map(|rule| (rule.0.clone(), rule));
        self.named.extend(put);
        Ok(())
    }
}

/// The store; beside it, as itself, the one that answers without a future.
#[derive(Clone)]
pub(crate) struct Held {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) memory: Option<Arc<MemoryStore>>,
}

impl Core {
    fn new(kind: &'static str, held: Held, runtime: Option<Handle>) -> Arc<Self> {
        let state = State {
            store: Some(held),
            policy: Arc::new(empty()),
            named: Named::new(),
            kept: Kept::default(),
            overrides: Overrides::new(),
            following: None,
        };
        Arc::new(Self {
            kind,
            generation: Generation::current(),
            runtime,
            state: RwLock::new(state),
            closed: watch::Sender::new(false),
        })
    }

    /// Does something with the store and the policy: nothing that needs Python, which other threads may have while they wait for
    /// the lock.
    ///
    /// # Errors
    /// When it is closed, or another process's.
    pub(crate) fn with<T>(&self, work: impl FnOnce(&Held, &Arc<Policy>) -> T) -> PyResult<T> {
        if !self.generation.is_current() {
            return Err(failure::forked());
        }
        let state = self.state.read();
        let held = state.store.as_ref();
        let done = held.map(|held| work(held, &state.policy));
        drop(state);
        done.ok_or_else(failure::closed)
    }

    /// Does something while nobody is in [`Self::with`]: nothing that needs Python, as there.
    pub(crate) fn alone<T>(&self, work: impl FnOnce() -> T) -> T {
        let _state = self.state.write();
        work()
    }

    /// The store, for as long as an operation takes.
    ///
    /// # Errors
    /// As [`Self::with`].
    pub(crate) fn store(&self) -> PyResult<Arc<dyn Store>> {
        self.with(|held, _| held.store.clone())
    }

    /// The policy in force.
    pub(crate) fn policy(&self) -> Arc<Policy> {
        self.state.read().policy.clone()
    }

    /// Puts rules in force, in the place of those of the same names or beside the others, and those named in `gone` out of force.
    /// Does `also` in the same breath: nobody is in [`Self::with`] between the two, and nothing of it needs Python.
    ///
    /// # Errors
    /// When they are no policy, or the store fails; all is as it was.
    fn change(&self, put: Vec<Written>, gone: &[String], also: impl FnOnce()) -> PyResult<()> {
        self.store()?;
        let mut state = self.state.write();
        let changed = state.change(put, gone);
        if changed.is_ok() {
            also();
        }
        drop(state);
        Ok(changed?)
    }

    /// Puts amounts in the place of those that the rules name.
    pub(crate) fn override_with(&self, overrides: Overrides) {
        let mut state = self.state.write();
        if state.overrides == overrides {
            return;
        }
        let before = std::mem::replace(&mut state.overrides, overrides);
        let spoken_of = before.keys().chain(state.overrides.keys());
        let names: BTreeSet<&String> = spoken_of.map(|(rule, _)| rule).collect();
        let rules = names.into_iter().filter_map(|name| state.named.get(name));
        let rules = rules.cloned().collect();
        // Amounts that no policy can have are not in force; the rules are, as they were.
        let _ = state.change(rules, &[]);
    }

    /// What follows the overrides of the engine's prefix.
    pub(crate) fn registry(&self) -> Option<Arc<RedisRegistry>> {
        let state = self.state.read();
        state.following.as_ref().map(Following::registry)
    }

    /// The store's time; none if it is closed.
    pub(crate) fn stamp(&self) -> Option<Stamp> {
        let state = self.state.read();
        state.store.as_ref().map(|held| held.store.now().into())
    }

    /// What the store's tasks run in.
    pub(crate) fn runtime(&self) -> Option<&Handle> {
        self.runtime.as_ref()
    }

    /// Ends when the engine is closed.
    pub(crate) async fn until_closed(&self) {
        let mut closed = self.closed.subscribe();
        // It ends otherwise only when the engine is gone, and then nobody waits.
        let _ = closed.wait_for(|closed| *closed).await;
    }
}

impl Drop for Core {
    fn drop(&mut self) {
        if !self.generation.is_current() {
            // Its threads are the parent's, and cannot be joined here.
            let state = self.state.get_mut();
            std::mem::forget((state.store.take(), state.following.take()));
        }
    }
}

impl Engine {
    pub(crate) fn core(&self) -> &Arc<Core> {
        &self.core
    }
}

#[pymethods]
impl Engine {
    /// Counters in this process.
    #[staticmethod]
    fn memory() -> Self {
        let store = MemoryStore::new(&empty(), options());
        let held = Held {
            store: store.clone(),
            memory: Some(store),
        };
        Self {
            core: Core::new("memory", held, None),
        }
    }

    /// Counters in a folder, which is this engine's alone until it is closed.
    #[staticmethod]
    #[pyo3(signature = (path, durability="relaxed"))]
    fn folder(py: Python<'_>, path: PathBuf, durability: &str) -> PyResult<Self> {
        let durability = match durability {
            "relaxed" => Durability::Relaxed,
            "sync" => Durability::Sync,
            other => {
                let words =
                    format!("durability is \"{other}\": it must be \"relaxed\" or \"sync\"");
                return Err(failure::value(words));
            }
        };
        let (store, policy, kept) = py.detach(|| open_folder(&path, durability))?;
        let held = Held {
            store,
            memory: None,
        };
        let core = Core::new("folder", held, None);
        let mut state = core.state.write();
        (state.policy, state.kept) = (Arc::new(policy), kept);
        drop(state);
        Ok(Self { core })
    }

    /// Counters on a Redis or Valkey server, shared with all that name the same one and the same prefix.
    #[staticmethod]
    #[pyo3(signature = (url, key_prefix=None))]
    fn redis(py: Python<'_>, url: &str, key_prefix: Option<&str>) -> PyResult<Self> {
        let options = redis_options(url, key_prefix);
        let options = options.map_err(|error| failure::value(error.to_string()))?;
        let runtime = fork::runtime()?;
        let opening = async {
            let store = RedisStore::open(options.clone(), &empty()).await?;
            Ok::<_, RedisOpenError>((store, RedisRegistry::open(&options).await?))
        };
        let opened = py.detach(|| runtime.block_on(opening));
        let (store, registry) =
            opened.map_err(|error| PyConnectionError::new_err(error.to_string()))?;
        let held = Held {
            store,
            memory: None,
        };
        let core = Core::new("redis", held, Some(runtime.clone()));
        let following = py.detach(|| runtime.block_on(Following::start(registry, &core)));
        core.state.write().following = Some(following);
        Ok(Self { core })
    }

    /// Changes an amount of a rule for all that share the store, for a week.
    fn override_limit(
        &self,
        py: Python<'_>,
        rule: String,
        metric: String,
        amount: u64,
    ) -> PyResult<Py<PyAny>> {
        self.core.store()?;
        let Some(registry) = self.core.registry() else {
            return Err(failure::value("limits can be overridden on Redis only"));
        };
        let core = self.core.clone();
        let setting = async move {
            let set = overrides::set(core, registry, (rule, metric), amount).await;
            move |py: Python<'_>| set.map(|()| py.None())
        };
        pending::start(py, self.core.runtime(), setting)
    }

    /// Puts rules in force, in the place of those of the same names or beside the others, and those named in `gone` out of force.
    /// Costs what these rules do; counters of others are untouched. A folder's rules of a process before stay in force, until they
    /// are put anew or gone. The family `retired`, which the rules were made for, is ended in the same breath.
    #[pyo3(signature = (rules, gone=Vec::new(), retired=None))]
    fn change_rules(
        &self,
        py: Python<'_>,
        rules: Vec<Written>,
        gone: Vec<String>,
        retired: Option<&Bound<'_, Family>>,
    ) -> PyResult<()> {
        let retired = retired.map(Bound::get);
        let end = || {
            if let Some(family) = retired {
                family.end();
            }
        };
        py.detach(|| self.core.change(rules, &gone, end))
    }

    /// The names of a process before's rules for this value of a label that this one has not named.
    fn kept_rules(&self, label: &str, value: &str) -> Vec<String> {
        self.core.state.read().kept.names_for(label, value)
    }

    /// How many rules are looked at to find those that apply to these labels.
    fn rules_looked_at(&self, labels: BTreeMap<String, String>) -> usize {
        let labels = labels.iter().map(|(label, value)| (&**label, &**value));
        let labels: Vec<(&str, &str)> = labels.collect();
        self.core.policy().looked_at(&labels)
    }

    /// Who asks, prepared once.
    fn subject(&self, labels: BTreeMap<String, String>) -> Subject {
        Subject::new(self.core.clone(), labels)
    }

    /// How full the store is.
    fn stats<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let stats = self.core.store()?.stats();
        let dict = PyDict::new(py);
        dict.set_item("counters", stats.counters)?;
        dict.set_item("reservations", stats.reservations)?;
        dict.set_item("waiters", stats.waiters)?;
        Ok(dict)
    }

    /// What is wrong with the store; none if nothing is.
    fn health(&self) -> PyResult<Option<String>> {
        Ok(match self.core.store()?.health() {
            StoreHealth::Up => None,
            StoreHealth::Down { reason } => Some(reason),
        })
    }

    /// The store's time, in seconds since the Unix epoch.
    fn now(&self) -> PyResult<f64> {
        let nanos = self.core.store()?.now().as_nanos();
        Ok(Duration::from_nanos(nanos).as_secs_f64())
    }

    /// `memory`, `folder` or `redis`.
    #[getter]
    fn kind(&self) -> &'static str {
        self.core.kind
    }

    /// Whether it was closed.
    #[getter]
    fn closed(&self) -> bool {
        self.core.state.read().store.is_none()
    }

    /// Ends it: who waits is told so, and what is to be written is written. A second time does nothing.
    fn close(&self, py: Python<'_>) -> PyResult<()> {
        if !self.core.generation.is_current() {
            return Ok(());
        }
        let mut state = self.core.state.write();
        let Some(held) = state.store.take() else {
            return Ok(());
        };
        // The folder is free for another once nothing has it.
        state.kept = Kept::default();
        let following = state.following.take();
        drop(state);
        drop(following);
        self.core.closed.send_replace(true);
        if held.memory.is_some() {
            return Ok(());
        }
        py.detach(|| {
            let flushing = held.store.close();
            match &self.core.runtime {
                Some(runtime) => runtime.block_on(flushing),
                None => here()?.block_on(flushing),
            }
            Ok(())
        })
    }
}

/// What waits on this thread alone.
fn here() -> std::io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread().build()
}

/// As many may wait as a limiter may be told to let wait: a batch may put all its calls in line at once.
fn options() -> MemoryOptions {
    let bounds = Bounds {
        waiters: WAITERS,
        ..Bounds::default()
    };
    MemoryOptions {
        bounds,
        ..MemoryOptions::default()
    }
}

/// The most callers in line.
const WAITERS: usize = 1_000_000;

fn empty() -> Policy {
    Policy::new(Vec::new(), Metrics::default()).expect("invariant: no rules are a policy")
}

/// The store of a folder, with the rules of the process before in force.
fn open_folder(path: &Path, durability: Durability) -> PyResult<(Arc<dyn Store>, Policy, Kept)> {
    let folder = DataFolder::open(path, Purpose::Own);
    let folder = folder.map_err(|error| failure::unopened(error.to_string()))?;
    let kept = Kept::of(folder.clone())?;
    let policy = rules::amended(&empty(), kept.before(), &[])?;
    let store = MemoryStore::open(&policy, options(), folder, durability);
    let store = store.map_err(|error| failure::unopened(error.to_string()))?;
    Ok((store, policy, kept))
}

fn redis_options(url: &str, key_prefix: Option<&str>) -> Result<RedisOptions, RedisUrlError> {
    let options = RedisOptions::parse(url)?.with_waiters(WAITERS);
    match key_prefix {
        Some(prefix) => options.with_prefix(prefix),
        None => Ok(options),
    }
}

/// A length of time in seconds; what is longer than ten years is ten years.
///
/// # Errors
/// When it is negative or no number, by the name of the argument.
pub(crate) fn duration(argument: &str, seconds: f64) -> PyResult<Duration> {
    if seconds.is_nan() || seconds < 0.0 {
        return Err(failure::value(format!(
            "{argument} must be a number of seconds, 0 or more (got {seconds})"
        )));
    }
    Ok(Duration::from_secs_f64(seconds.min(LONGEST.as_secs_f64())))
}

/// More than anything is held or waited for.
pub(crate) const LONGEST: Duration = Duration::from_secs(10 * 366 * 86_400);

/// A wait without an end. A debt may take longer than [`LONGEST`] to be paid.
pub(crate) const FOREVER: Duration = Duration::from_secs(200 * 366 * 86_400);
