//! Counting tokens, pricing calls and reading what was used: `tallygate-tokens` as Python calls it.

mod answer;
mod endpoint;
mod price;
mod request;

use std::hash::{BuildHasher, RandomState};
use std::sync::LazyLock;

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::PyModule;
use serde_json::json;
use tallygate_tokens::{Call, Count, Counter, Endpoint, OutputPolicy, output_estimate};

/// Adds what Python sees of this module.
///
/// # Errors
/// When Python has no memory left.
pub(crate) fn add(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_function(wrap_pyfunction!(count_tokens, module)?)?;
    module.add_function(wrap_pyfunction!(count_text, module)?)?;
    module.add_function(wrap_pyfunction!(estimate_output, module)?)?;
    request::add(module)?;
    answer::add(module)?;
    price::add(module)
}

/// The tokens of a text as `model` counts it.
#[pyfunction]
fn count_tokens(py: Python<'_>, text: &str, model: &str) -> u64 {
    count(py, text, model).tokens
}

/// The same, with how it is known: `exact` or `estimated`.
#[pyfunction]
fn count_text(py: Python<'_>, text: &str, model: &str) -> (u64, &'static str) {
    let count = count(py, text, model);
    (count.tokens, count.method.name())
}

/// The output to hold for a chat call of so much input by the built-in policy of `model`: a multiple of the input, at least the
/// policy's floor, at most the model's own maximum and `max_tokens`.
///
/// # Errors
/// `ValueError` never in practice: what is built here is a call.
#[pyfunction]
#[pyo3(signature = (input_tokens, model, max_tokens=None))]
fn estimate_output(input_tokens: u64, model: &str, max_tokens: Option<u64>) -> PyResult<u64> {
    let body = json!({ "model": model, "messages": [], "max_tokens": max_tokens }).to_string();
    let call = Call::parse(Endpoint::ChatCompletions, None, body.as_bytes());
    let call = call.map_err(|error| PyValueError::new_err(error.to_string()))?;
    let policy = OutputPolicy::for_model(model);
    Ok(output_estimate(&call, input_tokens, &policy, None).tokens)
}

fn count(py: Python<'_>, text: &str, model: &str) -> Count {
    if text.len() <= COUNTED_IN_PLACE {
        return counter().text(model, text);
    }
    py.detach(|| counter().text(model, text))
}

/// The counter of this process. Remembered counts cost about 100 bytes a message.
pub(crate) fn counter() -> &'static Counter {
    static COUNTER: LazyLock<Counter> = LazyLock::new(|| {
        let random = || RandomState::new().hash_one(0);
        Counter::new([random(), random()], REMEMBERED)
    });
    &COUNTER
}

/// Messages whose counts are remembered.
const REMEMBERED: usize = 10_000;

/// Texts up to this are counted in some 50 microseconds at most: giving other threads the interpreter meanwhile costs more.
pub(crate) const COUNTED_IN_PLACE: usize = 4 * 1024;
