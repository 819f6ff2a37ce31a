//! Which process this is, and the runtime that its stores' tasks run in.
//!
//! A forked child has none of its parent's threads: nothing made before the fork may be used or ended in it.
use parking_lot::Mutex;
use pyo3::prelude::*;
use pyo3::types::PyDict;
use std::sync::atomic::{AtomicU32, Ordering};
use tokio::runtime::{Builder, Handle, Runtime};

/// How often Python has forked on the way to this process.
static GENERATION: AtomicU32 = AtomicU32::new(0);

/// The runtime, and the generation that it was started in.
static RUNTIME: Mutex<Option<(u32, Runtime)>> = Mutex::new(None);

/// The generation of processes that something was made in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Generation(u32);

impl Generation {
    /// That of this process.
    pub(crate) fn current() -> Self {
        Self(GENERATION.load(Ordering::Relaxed))
    }

    /// Whether this is still the process that it was made in.
    pub(crate) fn is_current(self) -> bool {
        self == Self::current()
    }
}

/// Lets Python say when it has forked.
///
/// # Errors
/// What Python says.
pub(crate) fn watch(module: &Bound<'_, PyModule>) -> PyResult<()> {
    let os = module.py().import("os")?;
    // There is none where no process can fork.
    if let Ok(register) = os.getattr("register_at_fork") {
        let named = PyDict::new(module.py());
        named.set_item("after_in_child", wrap_pyfunction!(forked, module)?)?;
        register.call((), Some(&named))?;
    }
    Ok(())
}

#[pyfunction]
fn forked() {
    GENERATION.fetch_add(1, Ordering::Relaxed);
}

/// The runtime of this process; started when it is first asked for, never ended.
///
/// # Errors
/// When the machine can start no thread.
pub(crate) fn runtime() -> std::io::Result<Handle> {
    let Generation(now) = Generation::current();
    let mut slot = RUNTIME.lock();
    if let Some((made, runtime)) = &*slot
        && *made == now
    {
        return Ok(runtime.handle().clone());
    }
    let runtime = Builder::new_multi_thread()
        .worker_threads(1)
        .thread_name("tallygate")
        .enable_all()
        .build()?;
    let handle = runtime.handle().clone();
    // The parent's threads are not here to be joined.
    std::mem::forget(slot.replace((now, runtime)));
    Ok(handle)
}
