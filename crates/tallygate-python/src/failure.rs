//! What goes wrong, as the exceptions that Python's users know.
use pyo3::exceptions::{PyConnectionError, PyOSError, PyRuntimeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::PyDict;
use tallygate_core::{Outcome, ReservationId};
use tallygate_store::{SettleError, StoreError};

/// Why an operation came to nothing.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The store did not answer, or has no room.
    Store(StoreError),
    /// A reservation could not be ended or extended.
    End {
        /// What the store said.
        error: SettleError,
        /// Which one.
        id: ReservationId,
    },
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

impl From<Failure> for PyErr {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Store(error) => of_store(&error),
            Failure::End { error, id } => of_end(error, id),
        }
    }
}

fn of_store(error: &StoreError) -> PyErr {
    match error {
        StoreError::Down { .. } => PyConnectionError::new_err(error.to_string()),
        _ => ours("CardinalityLimitExceededError", &error.to_string(), &[]),
    }
}

fn of_end(error: SettleError, id: ReservationId) -> PyErr {
    let id = id.to_string();
    match error {
        SettleError::Unknown => unknown(&id, "it was never made here, or ended long ago"),
        SettleError::Standing(receipt) if receipt.outcome == Outcome::Expired => {
            unknown(&id, "its lifetime is over, and what it held counts as used")
        }
        SettleError::Standing(_) => duplicate(&id, "already_refunded"),
        SettleError::Store(error) => of_store(&error),
        other => PyRuntimeError::new_err(other.to_string()),
    }
}

/// The reservation has ended, or is being ended.
pub(crate) fn duplicate(id: &str, reason: &str) -> PyErr {
    let named = [("reason", reason), ("reservation_id", id)];
    ours_without_words("DuplicateRefundError", &named)
}

/// Nothing is known of the reservation.
pub(crate) fn unknown(id: &str, why: &str) -> PyErr {
    let words = format!("the reservation is unknown: {why}");
    ours("UnknownReservationError", &words, &[("reservation_id", id)])
}

/// What was made before a fork is used after it.
pub(crate) fn forked() -> PyErr {
    PyRuntimeError::new_err(
        "this limiter was made in another process: make it in each worker, after the fork",
    )
}

pyo3::create_exception!(
    tallygate._native,
    Retired,
    PyRuntimeError,
    "The family is no longer in use: ask for the one that is."
);

/// A family is used that was forgotten.
pub(crate) fn retired() -> PyErr {
    Retired::new_err("the family is no longer in use")
}

/// What was closed is used.
pub(crate) fn closed() -> PyErr {
    ours("ClosedError", "the limiter is closed: make a new one", &[])
}

/// As many reservations are open as the limiter allows.
pub(crate) fn too_many(most: usize) -> PyErr {
    let words =
        format!("{most} reservations are open: refund them, or raise max_in_flight_reservations");
    ours("CardinalityLimitExceededError", &words, &[])
}

/// An argument that cannot be.
pub(crate) fn value(words: impl Into<String>) -> PyErr {
    PyValueError::new_err(words.into())
}

/// A store that cannot be opened.
pub(crate) fn unopened(words: impl Into<String>) -> PyErr {
    PyOSError::new_err(words.into())
}

/// An exception of `tallygate.errors`.
fn ours(name: &str, words: &str, named: &[(&str, &str)]) -> PyErr {
    Python::attach(|py| match raised(py, name, Some(words), named) {
        Ok(error) | Err(error) => error,
    })
}

fn ours_without_words(name: &str, named: &[(&str, &str)]) -> PyErr {
    Python::attach(|py| match raised(py, name, None, named) {
        Ok(error) | Err(error) => error,
    })
}

fn raised(
    py: Python<'_>,
    name: &str,
    words: Option<&str>,
    named: &[(&str, &str)],
) -> PyResult<PyErr> {
    let class = py.import("tallygate.errors")?.getattr(name)?;
    let arguments = PyDict::new(py);
    for (key, value) in named {
        arguments.set_item(key, value)?;
    }
    let error = match words {
        Some(words) => class.call((words,), Some(&arguments))?,
        None => class.call((), Some(&arguments))?,
    };
    Ok(PyErr::from_value(error))
}
