//! Who waits for capacity of one limiter, for whoever asks what holds them up.
use crate::engine::FOREVER;
use crate::family::Traits;
use crate::gate::Inner;
use parking_lot::Mutex;
use pyo3::prelude::*;
use pyo3::types::PyDict;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tallygate_core::Amounts;

/// Those who wait, in the order in which they came.
#[derive(Default)]
pub(crate) struct Line(Mutex<Numbered>);

#[derive(Default)]
struct Numbered {
    next: u64,
    waiting: BTreeMap<u64, Arc<Waiter>>,
}

/// One who waits.
pub(crate) struct Waiter {
    pub(crate) traits: Arc<Traits>,
    pub(crate) model: String,
    pub(crate) demand: Amounts,
    pub(crate) max_wait: Duration,
    pub(crate) since: Instant,
}

/// Its place, which it leaves when this is dropped.
pub(crate) struct Place {
    gate: Arc<Inner>,
    number: u64,
}

impl Place {
    pub(crate) fn take(waiter: Waiter) -> Self {
        let gate = waiter.traits.gate.clone();
        let mut line = gate.line.0.lock();
        let number = line.next;
        line.next += 1;
        line.waiting.insert(number, Arc::new(waiter));
        drop(line);
        Self { gate, number }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let left = self.gate.line.0.lock().waiting.remove(&self.number);
        drop(left);
    }
}

/// Family, model, usage, seconds waited, and seconds until it gives up, if it does.
pub(crate) type Told<'py> = (String, String, Bound<'py, PyDict>, f64, Option<f64>);

impl Line {
    /// How many wait, and the first `most` of them.
    ///
    /// # Errors
    /// When Python has no memory left.
    pub(crate) fn told<'py>(
        &self,
        py: Python<'py>,
        most: usize,
    ) -> PyResult<(usize, Vec<Told<'py>>)> {
        let line = self.0.lock();
        let count = line.waiting.len();
        let first: Vec<Arc<Waiter>> = line.waiting.values().take(most).cloned().collect();
        drop(line);
        let told = first.iter().map(|waiter| waiter.told(py));
        Ok((count, told.collect::<PyResult<_>>()?))
    }
}

impl Waiter {
    fn told<'py>(&self, py: Python<'py>) -> PyResult<Told<'py>> {
        let waited = self.since.elapsed();
        let left = (self.max_wait < FOREVER).then(|| self.max_wait.saturating_sub(waited));
        Ok((
            self.traits.name.clone(),
            self.model.clone(),
            self.traits.usage(py, &self.demand)?,
            waited.as_secs_f64(),
            left.map(|left| left.as_secs_f64()),
        ))
    }
}
