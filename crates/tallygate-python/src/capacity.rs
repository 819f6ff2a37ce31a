//! Reservations of a limiter, as its users know them.
use crate::failure;
use crate::family::Traits;
use crate::gate::{Inner, Slot};
use crate::hold::Hold;
use parking_lot::Mutex;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyFrozenSet, PyString};
use std::sync::Arc;
use std::time::Duration;
use tallygate_core::{Amounts, Receipt, Time};
use tallygate_store::SettleError;

/// Capacity that one limiter gave out, to be given to its `refund_capacity`. One that is dropped before counts as used.
#[pyclass(frozen, module = "tallygate._native")]
pub(crate) struct CapacityReservation(Body);

enum Body {
    /// Held, or ended since.
    Held(Arc<Held>),
    /// Where nothing is limited.
    Unlimited(Unlimited),
    /// Written by hand: nobody holds anything for it.
    Written(Written),
}

/// A reservation that limits count.
pub(crate) struct Held {
    pub(crate) hold: Hold,
    pub(crate) traits: Arc<Traits>,
    model: Py<PyString>,
    demand: Amounts,
    created: Duration,
    /// None: it has ended.
    slot: Mutex<Option<Slot>>,
}

struct Unlimited {
    slot: Mutex<Option<Slot>>,
    gate: Arc<Inner>,
    model: Py<PyString>,
    created: Time,
}

struct Written {
    id: String,
    usage: Py<PyDict>,
    family: String,
    buckets: Option<Py<PyFrozenSet>>,
    model: Option<String>,
    is_unlimited: bool,
    instance: String,
    created: Option<f64>,
}

impl Held {
    pub(crate) fn new(
        hold: Hold,
        (traits, model): (Arc<Traits>, Py<PyString>),
        (demand, created): (Amounts, Duration),
        slot: Slot,
    ) -> Self {
        Self {
            hold,
            traits,
            model,
            demand,
            created,
            slot: Mutex::new(Some(slot)),
        }
    }

    /// What an answer to its end means for it.
    ///
    /// # Errors
    /// What the store says.
    pub(crate) fn note(&self, answer: Result<Receipt, SettleError>) -> PyResult<()> {
        let noted = self.hold.note(answer);
        self.release();
        Ok(noted.map(drop)?)
    }

    /// It counts as open no more, unless its end is still to come.
    pub(crate) fn release(&self) {
        if !self.hold.is_open() {
            drop(self.slot.lock().take());
        }
    }
}

impl CapacityReservation {
    pub(crate) fn held(held: Held) -> Self {
        Self(Body::Held(Arc::new(held)))
    }

    pub(crate) fn unlimited(slot: Slot, model: Py<PyString>, created: Time) -> Self {
        Self(Body::Unlimited(Unlimited {
            gate: slot.gate.clone(),
            slot: Mutex::new(Some(slot)),
            model,
            created,
        }))
    }

    /// What is held, if this limiter gave it out; none if nothing is limited. The latter counts as ended then.
    ///
    /// # Errors
    /// When it is another limiter's, or nobody's.
    pub(crate) fn limited_by(&self, gate: &Arc<Inner>) -> PyResult<Option<&Arc<Held>>> {
        let id = || self.reservation_id();
        match &self.0 {
            Body::Held(held) if Arc::ptr_eq(&held.traits.gate, gate) => Ok(Some(held)),
            Body::Unlimited(unlimited) if Arc::ptr_eq(&unlimited.gate, gate) => {
                drop(unlimited.slot.lock().take());
                Ok(None)
            }
            Body::Written(_) => Err(failure::unknown(&id(), "no limiter gave it out")),
            _ => Err(failure::unknown(&id(), "another limiter gave it out")),
        }
    }
}

#[pymethods]
impl CapacityReservation {
    #[new]
    #[expect(
        clippy::too_many_arguments,
        reason = "they are the keyword arguments of a Python class"
    )]
    #[pyo3(signature = (*, usage, model_family, limiter_instance_id, reservation_id="written-by-hand".to_owned(), bucket_ids=None, model=None, is_unlimited=false, created_at_seconds=None))]
    fn new(
        usage: Py<PyDict>,
        model_family: String,
        limiter_instance_id: String,
        reservation_id: String,
        bucket_ids: Option<Py<PyFrozenSet>>,
        model: Option<String>,
        is_unlimited: bool,
        created_at_seconds: Option<f64>,
    ) -> Self {
        Self(Body::Written(Written {
            id: reservation_id,
            usage,
            family: model_family,
            buckets: bucket_ids,
            model,
            is_unlimited,
            instance: limiter_instance_id,
            created: created_at_seconds,
        }))
    }

    /// Its name.
    #[getter]
    fn reservation_id(&self) -> String {
        match &self.0 {
            Body::Held(held) => held.hold.id().to_string(),
            Body::Unlimited(_) => "unlimited".to_owned(),
            Body::Written(written) => written.id.clone(),
        }
    }

    /// What it reserved, by metric.
    #[getter(usage)]
    fn amounts<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let usage = match &self.0 {
            Body::Held(held) => held.traits.usage(py, &held.demand)?,
            Body::Unlimited(_) => PyDict::new(py),
            Body::Written(written) => written.usage.bind(py).copy()?,
        };
        let frozen = py.import("tallygate.quotas")?.getattr("FrozenUsage")?;
        frozen.call1((usage,))
    }

    /// The same.
    fn get_usage<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        self.amounts(py)
    }

    /// The family whose quotas count it.
    #[getter]
    fn model_family(&self) -> &str {
        match &self.0 {
            Body::Held(held) => &held.traits.name,
            Body::Unlimited(_) => "unlimited",
            Body::Written(written) => &written.family,
        }
    }

    /// The quotas that count it, each a metric and a window in seconds; none where nothing is limited.
    #[getter]
    fn bucket_ids(&self, py: Python<'_>) -> Option<Py<PyFrozenSet>> {
        match &self.0 {
            Body::Held(held) => Some(held.traits.buckets.clone_ref(py)),
            Body::Unlimited(_) => None,
            Body::Written(written) => written
                .buckets
                .as_ref()
                .map(|buckets| buckets.clone_ref(py)),
        }
    }

    /// The model it was asked for.
    #[getter]
    fn model(&self, py: Python<'_>) -> PyResult<Option<Py<PyString>>> {
        Ok(match &self.0 {
            Body::Held(held) => Some(held.model.clone_ref(py)),
            Body::Unlimited(unlimited) => Some(unlimited.model.clone_ref(py)),
            Body::Written(written) => {
                let model = written.model.as_ref();
                model.map(|model| PyString::new(py, model).unbind())
            }
        })
    }

    /// Whether nothing limits it.
    #[getter]
    fn is_unlimited(&self) -> bool {
        match &self.0 {
            Body::Held(_) => false,
            Body::Unlimited(_) => true,
            Body::Written(written) => written.is_unlimited,
        }
    }

    /// The limiter that gave it out.
    #[getter]
    fn limiter_instance_id(&self) -> &str {
        match &self.0 {
            Body::Held(held) => &held.traits.gate.instance,
            Body::Unlimited(unlimited) => &unlimited.gate.instance,
            Body::Written(written) => &written.instance,
        }
    }

    /// When it was given out, in seconds since the Unix epoch by the store's clock.
    #[getter]
    fn created_at_seconds(&self) -> Option<f64> {
        match &self.0 {
            Body::Held(held) => Some(held.created.as_secs_f64()),
            Body::Unlimited(unlimited) => {
                Some(Duration::from_nanos(unlimited.created.as_nanos()).as_secs_f64())
            }
            Body::Written(written) => written.created,
        }
    }

    /// Gives all back, if it is open.
    fn _give_back(&self) {
        if let Body::Held(held) = &self.0 {
            held.hold.give_back();
            held.release();
        }
    }

    fn __repr__(&self, py: Python<'_>) -> PyResult<String> {
        Ok(format!(
            "CapacityReservation(model_family={:?}, usage={}, reservation_id={:?})",
            self.model_family(),
            self.amounts(py)?,
            self.reservation_id()
        ))
    }

    fn __copy__<'py>(this: Bound<'py, Self>) -> Bound<'py, Self> {
        this
    }

    fn __deepcopy__<'py>(this: Bound<'py, Self>, memo: &Bound<'py, PyAny>) -> Bound<'py, Self> {
        let _ = memo;
        this
    }
}
