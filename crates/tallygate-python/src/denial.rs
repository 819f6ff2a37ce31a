//! Refusals, and where limits stand.
use pyo3::prelude::*;
use pyo3::types::PyDict;
use tallygate_core as core;
use tallygate_core::{Decision, Metrics};

/// Where one limit stands.
#[pyclass(frozen, get_all, module = "tallygate._native")]
#[derive(Debug, Clone)]
pub(crate) struct Standing {
    /// The limit's name.
    name: String,
    /// What it counts.
    metric: String,
    /// The window it speaks of: `60s`, `day`.
    window: String,
    /// How much of it a window gives.
    limit: u64,
    /// How much of it can be had at once.
    burst: u64,
    /// How much is taken.
    used: u64,
    /// How much could be taken now.
    remaining: u64,
    /// How far it is below zero.
    debt: u64,
    /// Seconds until it is as at its beginning if nothing else comes.
    reset_seconds: f64,
    /// What it promises, in words.
    promise: String,
}

impl From<&core::Standing> for Standing {
    fn from(standing: &core::Standing) -> Self {
        Self {
            name: standing.limit.name.to_string(),
            metric: standing.limit.metric_name.to_string(),
            window: standing.limit.window().to_owned(),
            limit: standing.limit.amount,
            burst: standing.limit.burst,
            used: standing.used,
            remaining: standing.remaining,
            debt: standing.debt,
            reset_seconds: standing.reset.as_secs_f64(),
            promise: standing.limit.promise(),
        }
    }
}

#[pymethods]
impl Standing {
    fn __repr__(&self) -> String {
        format!(
            "Standing(name={:?}, metric={:?}, window={:?}, limit={}, used={}, remaining={}, debt={}, reset_seconds={:.3})",
            self.name,
            self.metric,
            self.window,
            self.limit,
            self.used,
            self.remaining,
            self.debt,
            self.reset_seconds
        )
    }
}

/// Not now, or never; nothing was taken.
#[pyclass(frozen, module = "tallygate._native")]
#[derive(Debug)]
pub(crate) struct Denial {
    /// Seconds until it could be admitted if nothing else came; none: never.
    #[pyo3(get)]
    retry_after: Option<f64>,
    /// The limits without room.
    #[pyo3(get)]
    blocked_by: Vec<Standing>,
    largest: Vec<(String, u64)>,
}

impl Denial {
    /// The refusal of a decision that is one.
    pub(crate) fn of(decision: &Decision, metrics: &Metrics) -> Option<Self> {
        match decision {
            Decision::Admit(_) => None,
            Decision::Deny(denial) => Some(Self {
                retry_after: Some(denial.retry_after.as_secs_f64()),
                blocked_by: denial.blocked_by.iter().map(Standing::from).collect(),
                largest: Vec::new(),
            }),
            Decision::Never(never) => Some(Self {
                retry_after: None,
                blocked_by: never.blocked_by.iter().map(Standing::from).collect(),
                largest: never
                    .largest
                    .iter()
                    .map(|(metric, most)| (metrics.name(*metric).to_string(), *most))
                    .collect(),
            }),
        }
    }
}

#[pymethods]
impl Denial {
    /// The most of each blocking metric that could ever be admitted; empty unless it is never.
    #[getter]
    fn largest<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let dict = PyDict::new(py);
        for (metric, most) in &self.largest {
            dict.set_item(metric, most)?;
        }
        Ok(dict)
    }

    fn __repr__(&self) -> String {
        let names: Vec<&str> = self.blocked_by.iter().map(|one| &*one.name).collect();
        match self.retry_after {
            Some(seconds) => format!("Denial(retry_after={seconds:.3}, blocked_by={names:?})"),
            None => format!("Denial(retry_after=None, blocked_by={names:?})"),
        }
    }
}
