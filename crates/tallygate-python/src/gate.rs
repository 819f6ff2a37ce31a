//! What the families of models of one limiter share.
use crate::amounts::Scale;
use crate::capacity::CapacityReservation;
use crate::ending;
use crate::engine::{self, Core, Engine};
use crate::failure;
use crate::family::{Counted, Family, Traits};
use crate::hold::{End, Taken};
use crate::line::{Line, Told};
use crate::open::{Open, Span};
use crate::pending;
use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::types::{PyFrozenSet, PyString};
use std::ops::ControlFlow::{Break, Continue};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tallygate_core::Time;
use tallygate_store::Settlement;

/// One limiter: its name, its bounds, and how many reservations it has open.
#[pyclass(frozen, module = "tallygate._native")]
pub(crate) struct Gate {
    inner: Arc<Inner>,
}

/// What a gate shares with its families and reservations.
pub(crate) struct Inner {
    pub(crate) core: Arc<Core>,
    pub(crate) instance: String,
    pub(crate) lifetime: Duration,
    pub(crate) line: Line,
    open: Open,
    most: usize,
}

/// Reservations stand a day unless the limiter says otherwise.
const LIFETIME: Duration = Duration::from_secs(86_400);

#[pymethods]
impl Gate {
    #[new]
    #[pyo3(signature = (engine, instance, most, lifetime=None))]
    fn new(
        engine: &Engine,
        instance: String,
        most: usize,
        lifetime: Option<f64>,
    ) -> PyResult<Self> {
        let lifetime = lifetime.map(|lifetime| engine::duration("lifetime", lifetime));
        let lifetime = lifetime.transpose()?.unwrap_or(LIFETIME);
        let inner = Inner {
            core: engine.core().clone(),
            instance,
            lifetime,
            line: Line::default(),
            open: Open::new(lifetime),
            most,
        };
        Ok(Self {
            inner: Arc::new(inner),
        })
    }

    /// How many reservations are open or waited for; those whose lifetime is over are not.
    #[getter]
    fn open(&self) -> usize {
        // A store that is closed has no time.
        if let Ok(store) = self.inner.core.store() {
            self.inner.open.forget(since_epoch(store.now()));
        }
        self.inner.open.count()
    }

    /// How many wait, and of the first `most` of them: family, model, usage, seconds waited, and seconds until they give up.
    fn waiting<'py>(&self, py: Python<'py>, most: usize) -> PyResult<(usize, Vec<Told<'py>>)> {
        self.inner.line.told(py, most)
    }

    /// The models of one family, which `label` names in the rules; `metrics` are what its usages must name, each with how
    /// many counts of the rules make one of it.
    fn family(
        &self,
        name: String,
        label: &str,
        metrics: Vec<(String, u32)>,
        buckets: Py<PyFrozenSet>,
    ) -> PyResult<Family> {
        Ok(Family::new(self.traits((name, label), metrics, buckets)?))
    }

    /// The same in the place of one that was retired.
    fn family_after(
        &self,
        former: &Bound<'_, Family>,
        label: &str,
        metrics: Vec<(String, u32)>,
        buckets: Py<PyFrozenSet>,
    ) -> PyResult<Family> {
        let former = former.get();
        let traits = self.traits((former.name().to_owned(), label), metrics, buckets)?;
        Ok(Family::new(traits.succeeding(former)))
    }

    /// A reservation where nothing is limited.
    fn unlimited(&self, model: Py<PyString>) -> PyResult<CapacityReservation> {
        let now = self.inner.core.store()?.now();
        let mut slot = Slot::take(&self.inner, None)?;
        slot.begin(since_epoch(now));
        Ok(CapacityReservation::unlimited(slot, model, now))
    }

    /// Replaces what a reservation of this limiter holds by what was used, once. Both orders of the arguments are taken.
    fn refund(
        &self,
        py: Python<'_>,
        actual_usage: &Bound<'_, PyAny>,
        reservation: &Bound<'_, PyAny>,
    ) -> PyResult<Py<PyAny>> {
        let (reservation, actual_usage) = match reservation.cast::<CapacityReservation>() {
            Ok(reservation) => (reservation, actual_usage),
            Err(_) => match actual_usage.cast::<CapacityReservation>() {
                Ok(swapped) => (swapped, reservation),
                Err(_) => return Err(no_reservation(reservation)),
            },
        };
        self.settle(py, reservation.get(), actual_usage)
    }
}

impl Gate {
    fn traits(
        &self,
        (name, label): (String, &str),
        metrics: Vec<(String, u32)>,
        buckets: Py<PyFrozenSet>,
    ) -> PyResult<Traits> {
        let made = self.inner.core.store()?.now();
        let policy = self.inner.core.policy();
        let find = |(name, counts): (String, u32)| {
            let found = policy.metrics().find(&name);
            let metric = found
                .ok_or_else(|| failure::value(format!("no rule limits the metric \"{name}\"")))?;
            let scale = Scale::new(counts);
            Ok(Counted {
                name,
                metric,
                scale,
            })
        };
        let metrics = metrics
            .into_iter()
            .map(find)
            .collect::<PyResult<Vec<Counted>>>()?;
        Ok(Traits::new(
            self.inner.clone(),
            (name, label, made.as_nanos()),
            metrics,
            buckets,
        ))
    }

    fn settle(
        &self,
        py: Python<'_>,
        reservation: &CapacityReservation,
        actual_usage: &Bound<'_, PyAny>,
    ) -> PyResult<Py<PyAny>> {
        let core = &self.inner.core;
        let Some(held) = reservation.limited_by(&self.inner)? else {
            return core.with(|_, _| py.None());
        };
        let used = Settlement::Exact(held.traits.read(actual_usage, "actual_usage")?);
        let ending = core.with(|engine, _| {
            held.hold.claim()?;
            Ok::<_, Taken>(match &engine.memory {
                Some(memory) => Break(memory.settle_now(held.hold.id(), used)),
                None => Continue(engine.store.clone()),
            })
        })??;
        let store = match ending {
            Continue(store) => store,
            Break(answer) => {
                held.note(answer)?;
                return Ok(py.None());
            }
        };
        let ending = ending::of(held.clone(), store, End::Settle(used));
        let ending = async move {
            let ended = ending.await;
            move |py: Python<'_>| ended.map(|_| py.None()).map_err(PyErr::from)
        };
        pending::start(py, core.runtime(), ending)
    }
}

fn no_reservation(given: &Bound<'_, PyAny>) -> PyErr {
    let kind = given.get_type().name();
    let kind = kind.map_or_else(|_| "?".to_owned(), |name| name.to_string());
    PyTypeError::new_err(format!(
        "reservation must be a CapacityReservation of this limiter, not {kind}"
    ))
}

fn since_epoch(time: Time) -> Duration {
    Duration::from_nanos(time.as_nanos())
}

/// A place among the reservations that a limiter may have open. Given back when it is dropped, or its reservation's lifetime is over.
pub(crate) struct Slot {
    pub(crate) gate: Arc<Inner>,
    traits: Option<Arc<Traits>>,
    began: Option<Span>,
}

impl Slot {
    /// Takes one.
    ///
    /// # Errors
    /// When all are taken.
    pub(crate) fn take(gate: &Arc<Inner>, traits: Option<&Arc<Traits>>) -> PyResult<Self> {
        let before = gate.open.enter();
        if let Some(traits) = traits {
            traits.open.fetch_add(1, Ordering::Relaxed);
        }
        let slot = Self {
            gate: gate.clone(),
            traits: traits.cloned(),
            began: None,
        };
        if before < gate.most {
            return Ok(slot);
        }
        gate.open.forget(since_epoch(gate.core.store()?.now()));
        match gate.open.count() <= gate.most {
            true => Ok(slot),
            false => Err(failure::too_many(gate.most)),
        }
    }

    /// Its reservation was given out at this time, and is no longer waited for.
    pub(crate) fn begin(&mut self, created: Duration) {
        self.began = self.gate.open.begin(created);
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.gate.open.exit(self.began);
        if let Some(traits) = &self.traits {
            traits.open.fetch_sub(1, Ordering::Relaxed);
        }
    }
}
