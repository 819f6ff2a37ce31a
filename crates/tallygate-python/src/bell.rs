//! What wakes an event loop: a pipe that it watches, and the numbers of those who have something to look at.
use parking_lot::{Condvar, Mutex};
use pyo3::prelude::*;
use std::io::{PipeReader, PipeWriter, Read, Write};
use std::sync::Arc;

/// One bell an event loop. Ringing never waits and never needs Python.
#[pyclass(frozen, module = "tallygate._native")]
#[derive(Debug)]
pub(crate) struct Bell {
    pub(crate) rope: Arc<Rope>,
}

/// What is pulled from other threads.
#[derive(Debug)]
pub(crate) struct Rope {
    state: Mutex<State>,
    rung: Condvar,
}

/// There is one byte in the pipe while there are callers, and none else.
#[derive(Debug)]
struct State {
    callers: Vec<u64>,
    reader: PipeReader,
    writer: PipeWriter,
}

impl Rope {
    /// Notes that `number` has something to look at, and wakes the loop unless that was done.
    pub(crate) fn pull(&self, number: u64) {
        let mut state = self.state.lock();
        if state.callers.is_empty() {
            // The pipe is empty, so this cannot wait; and it fails only when the reader is gone, which it is not.
            let _ = state.writer.write_all(&[1]);
        }
        state.callers.push(number);
        self.rung.notify_one();
    }
}

#[pymethods]
impl Bell {
    #[new]
    fn new() -> PyResult<Self> {
        let (reader, writer) = std::io::pipe()?;
        let state = State {
            callers: Vec::new(),
            reader,
            writer,
        };
        let state = Mutex::new(state);
        Ok(Self {
            rope: Arc::new(Rope {
                state,
                rung: Condvar::default(),
            }),
        })
    }

    /// What is readable while somebody has something to look at.
    #[cfg(unix)]
    fn fileno(&self) -> i32 {
        use std::os::fd::AsRawFd;
        self.rope.state.lock().reader.as_raw_fd()
    }

    /// Waits for a ring on this thread, for loops that watch no pipes; whether there was one.
    fn wait(&self, py: Python<'_>, timeout: f64) -> PyResult<bool> {
        let timeout = crate::engine::duration("timeout", timeout)?;
        Ok(py.detach(|| {
            let mut state = self.rope.state.lock();
            if state.callers.is_empty() {
                self.rope.rung.wait_for(&mut state, timeout);
            }
            !state.callers.is_empty()
        }))
    }

    /// The numbers that rang since the last time.
    fn drain(&self) -> Vec<u64> {
        let mut state = self.rope.state.lock();
        let callers = std::mem::take(&mut state.callers);
        if !callers.is_empty() {
            // The byte is there.
            let _ = state.reader.read_exact(&mut [0]);
        }
        callers
    }
}
