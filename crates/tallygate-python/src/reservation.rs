//! Reservations and receipts as Python sees them.
use crate::amounts::{self, Usage};
use crate::denial::{Denial, Standing};
use crate::ending;
use crate::engine;
use crate::failure::{self, Failure};
use crate::hold::{End, Hold};
use crate::pending;
use pyo3::prelude::*;
use pyo3::types::PyDict;
use std::sync::Arc;
use tallygate_core as core;
use tallygate_core::{Decision, Extended, Metrics, Outcome};
use tallygate_store::Settlement;

/// Capacity that is held until it is settled or cancelled.
#[pyclass(frozen, module = "tallygate._native")]
pub(crate) struct Reservation {
    hold: Arc<Hold>,
    standings: Vec<core::Standing>,
}

impl Reservation {
    /// The reservation that Python is told of.
    pub(crate) fn told(hold: Hold, standings: Vec<core::Standing>) -> Self {
        hold.tell();
        Self {
            hold: Arc::new(hold),
            standings,
        }
    }

    fn metrics(&self) -> Metrics {
        self.hold.core().policy().metrics().clone()
    }

    fn end(&self, py: Python<'_>, end: End) -> PyResult<Py<PyAny>> {
        let store = self.hold.core().store()?;
        self.hold.claim()?;
        let hold = self.hold.clone();
        let ending = ending::of(hold.clone(), store, end);
        let ending = async move {
            let ended = ending.await;
            move |py: Python<'_>| {
                let policy = hold.core().policy();
                let receipt = ended?.map(|receipt| Receipt::of(&receipt, policy.metrics()));
                Ok(receipt.into_pyobject(py)?.unbind())
            }
        };
        pending::start(py, self.hold.core().runtime(), ending)
    }
}

#[pymethods]
impl Reservation {
    /// Its name.
    #[getter]
    fn id(&self) -> String {
        self.hold.id().to_string()
    }

    /// What was held at first.
    #[getter]
    fn usage<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        amounts::to_dict(py, &self.metrics(), self.hold.reserved().iter())
    }

    /// Where every limit that applies stood once it was held.
    #[getter]
    fn standings(&self) -> Vec<Standing> {
        self.standings.iter().map(Standing::from).collect()
    }

    /// Whether nothing has ended it.
    #[getter]
    fn is_open(&self) -> bool {
        self.hold.is_open()
    }

    /// Replaces what is held by what was used; a metric that is not named counts as held.
    fn settle(&self, py: Python<'_>, usage: &Bound<'_, PyAny>) -> PyResult<Py<PyAny>> {
        let used = Usage::read(&self.metrics(), usage)?;
        self.end(py, End::Settle(Settlement::Stated(used.stated)))
    }

    /// Gives all back.
    fn cancel(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        self.end(py, End::Cancel)
    }

    /// Holds more, moves its deadline to `ttl` seconds from now, or both; all or nothing.
    #[pyo3(signature = (usage=None, ttl=None))]
    fn extend(
        &self,
        py: Python<'_>,
        usage: Option<&Bound<'_, PyAny>>,
        ttl: Option<f64>,
    ) -> PyResult<Py<PyAny>> {
        let metrics = self.metrics();
        let more = usage
            .map(|usage| Usage::read(&metrics, usage))
            .transpose()?;
        let more = more.unwrap_or_default().amounts;
        let ttl = ttl.map(|ttl| engine::duration("ttl", ttl)).transpose()?;
        let (store, hold) = (self.hold.core().store()?, self.hold.clone());
        let extending = async move {
            let extended = store.extend(hold.id(), more, ttl).await;
            move |py: Python<'_>| match extended {
                Ok(extended) => answered(py, extended, &metrics),
                Err(error) => Err(Failure::End {
                    error,
                    id: hold.id(),
                }
                .into()),
            }
        };
        pending::start(py, self.hold.core().runtime(), extending)
    }

    fn __repr__(&self) -> String {
        format!("Reservation(id={:?})", self.id())
    }

    fn __copy__(&self) -> PyResult<()> {
        Err(failure::value(
            "a reservation cannot be copied: pass it on as it is",
        ))
    }
}

/// What is held now, or why it is not more.
fn answered(py: Python<'_>, extended: Extended, metrics: &Metrics) -> PyResult<Py<PyAny>> {
    let refused = match extended {
        Extended::Granted { reserved, .. } => {
            return Ok(amounts::to_dict(py, metrics, reserved.iter())?
                .unbind()
                .into_any());
        }
        Extended::Deny(denial) => Decision::Deny(denial),
        Extended::Never(never) => Decision::Never(never),
    };
    let denial = Denial::of(&refused, metrics);
    Ok(denial.into_pyobject(py)?.unbind())
}

/// What the end of a reservation did.
#[pyclass(frozen, module = "tallygate._native")]
#[derive(Debug)]
pub(crate) struct Receipt {
    receipt: core::Receipt,
    metrics: Metrics,
}

impl Receipt {
    fn of(receipt: &core::Receipt, metrics: &Metrics) -> Self {
        Self {
            receipt: *receipt,
            metrics: metrics.clone(),
        }
    }
}

#[pymethods]
impl Receipt {
    /// `settled`, `cancelled` or `expired`.
    #[getter]
    fn outcome(&self) -> &'static str {
        match self.receipt.outcome {
            Outcome::Settled => "settled",
            Outcome::Cancelled => "cancelled",
            Outcome::Expired => "expired",
        }
    }

    /// What was charged.
    #[getter]
    fn charged<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        amounts::to_dict(py, &self.metrics, self.receipt.charged.iter())
    }

    /// What was held and not used.
    #[getter]
    fn returned<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        amounts::to_dict(py, &self.metrics, self.receipt.returned.iter())
    }

    /// How far below zero the furthest counter of each metric stood after it.
    #[getter]
    fn debt<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        amounts::to_dict(py, &self.metrics, self.receipt.debt.iter())
    }

    fn __repr__(&self, py: Python<'_>) -> PyResult<String> {
        Ok(format!(
            "Receipt(outcome={:?}, charged={}, returned={}, debt={})",
            self.outcome(),
            self.charged(py)?,
            self.returned(py)?,
            self.debt(py)?
        ))
    }
}
