//! The size of a request.

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyModule};
use tallygate_tokens::{
    Call, CallError, Count, Endpoint, Estimate, Method, OutputPolicy, output_estimate,
};

use super::{COUNTED_IN_PLACE, counter, endpoint};

pub(super) fn add(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<Sized>()?;
    module.add_function(wrap_pyfunction!(endpoint_of_path, module)?)?;
    module.add_function(wrap_pyfunction!(count_request, module)?)?;
    module.add_function(wrap_pyfunction!(size_request, module)?)
}

/// The endpoint a path leads to and the model named in it, or `None`.
#[pyfunction]
fn endpoint_of_path(path: &str) -> Option<(&'static str, Option<&str>)> {
    let (endpoint, model) = endpoint::of_path(path)?;
    Some((endpoint.name(), model))
}

/// The input tokens of a request body, framing included. What the body holds says which endpoint it is for.
///
/// # Errors
/// `ValueError` with line and column, or the field's path, where it is no such request.
#[pyfunction]
fn count_request(py: Python<'_>, model: &str, request_json: &[u8]) -> PyResult<u64> {
    let counted = apart(py, request_json.len(), || {
        let endpoint = endpoint::of_body(model, request_json);
        let call = Call::parse(endpoint, Some(model), request_json)?;
        Ok(counter().input(&call).tokens)
    });
    counted.map_err(refused)
}

/// The size of a request body: of `endpoint`, or of the one that takes bodies of its form. `model` is that of the path, for
/// bodies that name none.
///
/// # Errors
/// `ValueError` with line and column, or the field's path, where it is no such request.
#[pyfunction]
#[pyo3(signature = (body, endpoint=None, model=None))]
fn size_request(
    py: Python<'_>,
    body: &[u8],
    endpoint: Option<&str>,
    model: Option<&str>,
) -> PyResult<Sized> {
    let endpoint = match endpoint {
        Some(name) => endpoint::named(name)?,
        None => endpoint::of_body(model.unwrap_or_default(), body),
    };
    let sized = apart(py, body.len(), || {
        Call::parse(endpoint, model, body).map(Sized::of)
    });
    sized.map_err(refused)
}

/// Runs `work` on so many bytes, letting other threads of Python go on where there are many.
fn apart<T: Send>(py: Python<'_>, bytes: usize, work: impl FnOnce() -> T + Send) -> T {
    match bytes <= COUNTED_IN_PLACE {
        true => work(),
        false => py.detach(work),
    }
}

fn refused(error: CallError) -> PyErr {
    PyValueError::new_err(error.to_string())
}

/// A request and how large it is.
#[pyclass(frozen, module = "tallygate._native")]
pub(crate) struct Sized {
    call: Call,
    input: Count,
    output: Estimate,
}

impl Sized {
    fn of(call: Call) -> Self {
        let input = match call.endpoint() {
            // Counting is free of tokens, at the provider too.
            Endpoint::CountTokens => Count {
                tokens: 0,
                method: Method::Exact,
            },
            _ => counter().input(&call),
        };
        let policy = OutputPolicy::for_model(call.model());
        Self {
            output: output_estimate(&call, input.tokens, &policy, None),
            input,
            call,
        }
    }
}

#[pymethods]
impl Sized {
    /// The endpoint's name, as `chat_completions`.
    #[getter]
    fn endpoint(&self) -> &'static str {
        self.call.endpoint().name()
    }

    /// The model asked for.
    #[getter]
    fn model(&self) -> &str {
        self.call.model()
    }

    /// The input, counted.
    #[getter]
    fn input_tokens(&self) -> u64 {
        self.input.tokens
    }

    /// How the input is known: `exact`, `framed`, `estimated` or `bound`.
    #[getter]
    fn method(&self) -> &'static str {
        self.input.method.name()
    }

    /// The output, as it is estimated, over all choices.
    #[getter]
    fn output_tokens(&self) -> u64 {
        self.output.tokens
    }

    /// The most output the caller allows for a choice.
    #[getter]
    fn max_output(&self) -> Option<u64> {
        self.call.max_output()
    }

    /// Whether the answer is to be streamed.
    #[getter]
    fn streams(&self) -> bool {
        self.call.streams()
    }

    /// The body that also asks for the usage of its stream; `None` where it does so already, or has none to ask for.
    fn with_usage_requested<'py>(&self, py: Python<'py>) -> Option<Bound<'py, PyBytes>> {
        let body = self.call.with_usage_requested()?;
        Some(PyBytes::new(py, &body))
    }

    fn __repr__(&self) -> String {
        format!(
            "Sized({} {:?}, input_tokens={} ({}), output_tokens={})",
            self.endpoint(),
            self.model(),
            self.input_tokens(),
            self.method(),
            self.output_tokens()
        )
    }
}
