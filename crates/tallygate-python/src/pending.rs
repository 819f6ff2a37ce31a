//! Operations that are not done at once.
use crate::bell::{Bell, Rope};
use crate::engine;
use crate::failure;
use crate::fork::Generation;
use parking_lot::{Condvar, Mutex};
use pyo3::prelude::*;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::time::{Duration, Instant};
use tokio::runtime::Handle;
use tokio::task::JoinHandle;

/// What came of an operation: Python is told of it once, by the thread that asks.
pub(crate) trait Answer: Send {
    /// What Python gets.
    fn give(self: Box<Self>, py: Python<'_>) -> PyResult<Py<PyAny>>;
}

impl<F: FnOnce(Python<'_>) -> PyResult<Py<PyAny>> + Send> Answer for F {
    fn give(self: Box<Self>, py: Python<'_>) -> PyResult<Py<PyAny>> {
        self(py)
    }
}

type Operation = Pin<Box<dyn Future<Output = Box<dyn Answer>> + Send>>;

/// Polls an operation on this thread: what Python gets if it is ready, else a [`Pending`] of it.
///
/// # Errors
/// What the operation says.
pub(crate) fn start<A: Answer + 'static>(
    py: Python<'_>,
    runtime: Option<&Handle>,
    operation: impl Future<Output = A> + Send + 'static,
) -> PyResult<Py<PyAny>> {
    let mut operation = Box::pin(operation);
    let entered = runtime.map(Handle::enter);
    let mut nobody = Context::from_waker(Waker::noop());
    if let Poll::Ready(answer) = operation.as_mut().poll(&mut nobody) {
        return Box::new(answer).give(py);
    }
    drop(entered);
    let operation: Operation =
        Box::pin(async move { Box::new(operation.await) as Box<dyn Answer> });
    let pending = Pending {
        operation: Mutex::new(Some(operation)),
        signal: Arc::default(),
        runtime: runtime.cloned(),
        generation: Generation::current(),
    };
    Ok(Py::new(py, pending)?.into_any())
}

/// An operation under way. Dropped, it leaves the line and holds nothing.
#[pyclass(frozen, module = "tallygate._native")]
pub(crate) struct Pending {
    /// None: it has answered, or was dropped.
    operation: Mutex<Option<Operation>>,
    signal: Arc<Signal>,
    runtime: Option<Handle>,
    generation: Generation,
}

#[pymethods]
impl Pending {
    /// Rings `bell` with `number` from now on when it has come further. Answers as [`Self::poll`].
    fn attach(this: &Bound<'_, Self>, bell: &Bell, number: u64) -> PyResult<Py<PyAny>> {
        this.get().signal.attach(bell.rope.clone(), number);
        Self::poll(this)
    }

    /// The answer; itself if that is not there yet.
    fn poll(this: &Bound<'_, Self>) -> PyResult<Py<PyAny>> {
        this.get().check()?;
        match this.get().advance() {
            Some(answer) => answer.give(this.py()),
            None => Ok(this.clone().into_any().unbind()),
        }
    }

    /// Waits for the answer on this thread; itself if that was not there in time. Signals are looked for meanwhile.
    #[pyo3(signature = (timeout=None))]
    fn block(this: &Bound<'_, Self>, timeout: Option<f64>) -> PyResult<Py<PyAny>> {
        let (py, pending) = (this.py(), this.get());
        pending.check()?;
        let limit = timeout.map(|timeout| engine::duration("timeout", timeout));
        let limit = limit.transpose()?;
        let until = limit.and_then(|limit| Instant::now().checked_add(limit));
        let longest = is_main_thread(py)?.then_some(SIGNALS);
        loop {
            if let Some(answer) = py.detach(|| pending.advance()) {
                return answer.give(py);
            }
            if until.is_some_and(|until| Instant::now() >= until) {
                return Ok(this.clone().into_any().unbind());
            }
            py.detach(|| pending.signal.sleep(until, longest));
            py.check_signals()?;
        }
    }

    /// Has it go on by itself until somebody asks for the answer. Where no server is asked it does anyway: its first step has brought it
    /// into line.
    fn follow(&self) -> PyResult<()> {
        self.check()?;
        if let Some(runtime) = &self.runtime {
            let mut slot = self.operation.lock();
            *slot = slot
                .take()
                .map(|operation| Box::pin(Followed(runtime.spawn(operation))) as Operation);
        }
        Ok(())
    }

    /// Gives it up.
    fn drop(&self) {
        if self.generation.is_current() {
            self.end();
        }
    }
}

/// How often the main thread looks for signals.
const SIGNALS: Duration = Duration::from_millis(50);

impl Pending {
    fn check(&self) -> PyResult<()> {
        match self.generation.is_current() {
            true => Ok(()),
            false => Err(failure::forked()),
        }
    }

    fn advance(&self) -> Option<Box<dyn Answer>> {
        let mut slot = self.operation.lock();
        let operation = slot.as_mut()?;
        self.signal.lower();
        let _entered = self.runtime.as_ref().map(Handle::enter);
        let waker = Waker::from(self.signal.clone());
        match operation.as_mut().poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(answer) => {
                *slot = None;
                Some(answer)
            }
            Poll::Pending => None,
        }
    }

    fn end(&self) {
        let _entered = self.runtime.as_ref().map(Handle::enter);
        drop(self.operation.lock().take());
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        match self.generation.is_current() {
            true => self.end(),
            // What it holds is the parent's.
            false => std::mem::forget(self.operation.get_mut().take()),
        }
    }
}

/// An operation that the runtime carries on. Dropped, it is given up.
struct Followed(JoinHandle<Box<dyn Answer>>);

impl Future for Followed {
    type Output = Box<dyn Answer>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let joined = std::task::ready!(Pin::new(&mut self.0).poll(cx));
        // It is given up by its drop alone, so that nothing but a panic can be wrong with it.
        Poll::Ready(joined.unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic())))
    }
}

impl Drop for Followed {
    fn drop(&mut self) {
        self.0.abort();
    }
}

fn is_main_thread(py: Python<'_>) -> PyResult<bool> {
    let threading = py.import("threading")?;
    let main = threading.call_method0("main_thread")?;
    Ok(threading.call_method0("current_thread")?.is(&main))
}

/// What an operation calls when it has come further.
#[derive(Default)]
struct Signal {
    state: Mutex<Raised>,
    changed: Condvar,
}

#[derive(Default)]
struct Raised {
    is_up: bool,
    bell: Option<(Arc<Rope>, u64)>,
}

impl Signal {
    fn attach(&self, rope: Arc<Rope>, number: u64) {
        self.state.lock().bell = Some((rope, number));
    }

    fn lower(&self) {
        self.state.lock().is_up = false;
    }

    /// Until it is raised, `until`, or `longest` from now.
    fn sleep(&self, until: Option<Instant>, longest: Option<Duration>) {
        let round = longest.map(|longest| Instant::now() + longest);
        let until = [until, round].into_iter().flatten().min();
        let mut state = self.state.lock();
        while !state.is_up {
            match until {
                None => self.changed.wait(&mut state),
                Some(until) if self.changed.wait_until(&mut state, until).timed_out() => return,
                Some(_) => {}
            }
        }
    }
}

impl Wake for Signal {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        let mut state = self.state.lock();
        state.is_up = true;
        let bell = state.bell.clone();
        drop(state);
        self.changed.notify_all();
        if let Some((rope, number)) = bell {
            rope.pull(number);
        }
    }
}
