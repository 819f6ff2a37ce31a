//! What an answer used, read as it passes.

use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyModule};
use serde::Deserialize;
use tallygate_tokens::{Endpoint, Seen, StreamOptions, StreamReader, Usage, usage_of_body};

use super::{counter, endpoint};

pub(super) fn add(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<Used>()?;
    module.add_class::<AnswerReader>()?;
    module.add_function(wrap_pyfunction!(read_usage, module)?)
}

/// The usage that a whole answer tells, or `None`.
///
/// # Errors
/// `ValueError` when there is no such endpoint.
#[pyfunction]
fn read_usage(endpoint: &str, body: &[u8]) -> PyResult<Option<Used>> {
    let usage = usage_of_body(endpoint::named(endpoint)?, body);
    Ok(usage.map(|usage| Used {
        usage,
        told: Told::Reported,
    }))
}

/// What an answer used.
#[pyclass(frozen, module = "tallygate._native")]
pub(crate) struct Used {
    usage: Usage,
    told: Told,
}

/// Whose word it is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Told {
    /// The provider's.
    Reported,
    /// The provider's as to the input, our count as to the output.
    OutputCounted,
    /// Nobody's as to the input.
    InputUnknown,
}

#[pymethods]
impl Used {
    /// All input, caches included. `None` where the answer does not tell it.
    #[getter]
    fn input_tokens(&self) -> Option<u64> {
        (self.told != Told::InputUnknown).then_some(self.usage.input_tokens)
    }

    /// All output, reasoning included.
    #[getter]
    fn output_tokens(&self) -> u64 {
        self.usage.output_tokens
    }

    /// Of the input: read from the provider's cache.
    #[getter]
    fn cached_input_tokens(&self) -> u64 {
        self.usage.cached_input_tokens
    }

    /// Of the input: written to the provider's cache.
    #[getter]
    fn cache_write_tokens(&self) -> u64 {
        self.usage.cache_write_tokens
    }

    /// Of the output: reasoning.
    #[getter]
    fn reasoning_tokens(&self) -> u64 {
        self.usage.reasoning_tokens
    }

    /// Whether all of it is the provider's word; else the output is our own count of what passed.
    #[getter]
    fn reported(&self) -> bool {
        self.told == Told::Reported
    }

    fn __repr__(&self) -> String {
        let input = match self.input_tokens() {
            Some(tokens) => tokens.to_string(),
            None => "None".to_owned(),
        };
        let word = if self.reported() {
            "reported"
        } else {
            "counted"
        };
        format!(
            "Used(input_tokens={input}, output_tokens={}, {word})",
            self.usage.output_tokens
        )
    }
}

/// Reads one answer on its way.
#[pyclass(module = "tallygate._native")]
pub(crate) struct AnswerReader {
    endpoint: Endpoint,
    model: String,
    form: Form,
}

enum Form {
    /// Events or elements, read as they pass; the usage chunk may be dropped.
    Stream(Box<StreamReader>, StreamOptions),
    /// One JSON text, read at its end; nothing of it once it was too much.
    Text(Option<Vec<u8>>),
    /// Not read at all.
    Blind,
    /// Its end has come.
    Over,
}

#[pymethods]
impl AnswerReader {
    /// A reader of an answer of this content type. `drop_usage` removes the chunk that only tells usage, which the caller
    /// had not asked for. What is neither events nor JSON, or is compressed, passes unread.
    #[new]
    #[pyo3(signature = (endpoint, model, content_type, *, content_encoding="", drop_usage=false))]
    fn new(
        endpoint: &str,
        model: &str,
        content_type: &str,
        content_encoding: &str,
        drop_usage: bool,
    ) -> PyResult<Self> {
        let endpoint = endpoint::named(endpoint)?;
        let options = StreamOptions {
            drop_usage_chunk: drop_usage,
        };
        Ok(Self {
            form: Form::of(endpoint, model, (content_type, content_encoding), options),
            endpoint,
            model: model.to_owned(),
        })
    }

    /// Takes a piece of the answer and gives what of it goes on.
    ///
    /// # Errors
    /// `RuntimeError` after the end.
    fn push<'py>(&mut self, data: &Bound<'py, PyBytes>) -> PyResult<Bound<'py, PyBytes>> {
        match &mut self.form {
            Form::Stream(stream, options) => {
                let mut left = Vec::new();
                stream.push(data.as_bytes(), &mut left);
                if options.drop_usage_chunk {
                    return Ok(PyBytes::new(data.py(), &left));
                }
            }
            Form::Text(kept) => keep(kept, data.as_bytes()),
            Form::Blind => {}
            Form::Over => return Err(PyRuntimeError::new_err("the answer is over already")),
        }
        Ok(data.clone())
    }

    /// The answer is over: what was held back, and what was used; `None` where nobody can say.
    fn finish<'py>(&mut self, py: Python<'py>) -> (Bound<'py, PyBytes>, Option<Used>) {
        let (rest, used) = match std::mem::replace(&mut self.form, Form::Over) {
            Form::Stream(stream, options) => of_stream(*stream, options),
            Form::Text(Some(text)) => (Vec::new(), self.of_text(&text)),
            Form::Text(None) | Form::Blind | Form::Over => (Vec::new(), None),
        };
        (PyBytes::new(py, &rest), used)
    }

    /// The answer broke off: what of it was used. Half a text tells nothing.
    fn abandon(&mut self) -> Option<Used> {
        match std::mem::replace(&mut self.form, Form::Over) {
            Form::Stream(stream, options) => of_stream(*stream, options).1,
            Form::Text(_) | Form::Blind | Form::Over => None,
        }
    }

    /// Our own count of the output that passed so far.
    #[getter]
    fn passed(&self) -> u64 {
        match &self.form {
            Form::Stream(stream, _) => stream.seen().output_tokens_counted,
            Form::Text(_) | Form::Blind | Form::Over => 0,
        }
    }
}

impl AnswerReader {
    /// What a whole JSON answer used: by its own word, else by our count of what it says.
    fn of_text(&self, text: &[u8]) -> Option<Used> {
        let reported = usage_of_body(self.endpoint, text);
        if let Some(usage) =
            reported.filter(|usage| !self.endpoint.generates() || says_something(usage))
        {
            return Some(Used {
                usage,
                told: Told::Reported,
            });
        }
        let output = match self.endpoint.generates() {
            true if is_unfinished(text) => return None,
            true => counter().output_of_body(self.endpoint, &self.model, text)?,
            false => 0,
        };
        Some(counted(None, output))
    }
}

impl Form {
    fn of(
        endpoint: Endpoint,
        model: &str,
        (content_type, content_encoding): (&str, &str),
        options: StreamOptions,
    ) -> Self {
        let kind = content_type.split(';').next().unwrap_or_default().trim();
        let plain =
            content_encoding.is_empty() || content_encoding.eq_ignore_ascii_case("identity");
        let elements =
            endpoint == Endpoint::StreamGenerateContent && kind.eq_ignore_ascii_case(JSON);
        if !plain {
            Self::Blind
        } else if kind.eq_ignore_ascii_case("text/event-stream") || elements {
            let stream = StreamReader::new(endpoint, options).counting_as(model);
            Self::Stream(Box::new(stream), options)
        } else if kind.eq_ignore_ascii_case(JSON) {
            Self::Text(Some(Vec::new()))
        } else {
            Self::Blind
        }
    }
}

const JSON: &str = "application/json";

fn of_stream(stream: StreamReader, options: StreamOptions) -> (Vec<u8>, Option<Used>) {
    let mut rest = Vec::new();
    let seen = stream.finish(&mut rest);
    if !options.drop_usage_chunk {
        rest.clear();
    }
    (rest, used_of(&seen))
}

fn used_of(seen: &Seen) -> Option<Used> {
    match seen.usage {
        Some(usage) if seen.complete && says_something(&usage) => Some(Used {
            usage,
            told: Told::Reported,
        }),
        _ if seen.oversized_events > 0 => None,
        partial => {
            let told = partial.map_or(0, |usage| usage.output_tokens);
            let input = partial.filter(|usage| usage.input_tokens > 0);
            Some(counted(input, told.max(seen.output_tokens_counted)))
        }
    }
}

fn counted(input: Option<Usage>, output_tokens: u64) -> Used {
    Used {
        told: match input {
            Some(_) => Told::OutputCounted,
            None => Told::InputUnknown,
        },
        usage: Usage {
            output_tokens,
            ..input.unwrap_or_default()
        },
    }
}

/// Whether an answer says that it is still being written somewhere else (the Responses API's `background`).
fn is_unfinished(text: &[u8]) -> bool {
    let stated: Option<Stated<'_>> = serde_json::from_slice(text).ok();
    let status = stated.and_then(|stated| stated.status);
    status.is_some_and(|status| ["queued", "in_progress"].contains(&status))
}

#[derive(Deserialize)]
struct Stated<'a> {
    #[serde(borrow)]
    status: Option<&'a str>,
}

/// Whether a usage is more than a form left blank: no generated answer takes no tokens at all.
fn says_something(usage: &Usage) -> bool {
    usage.input_tokens > 0 || usage.output_tokens > 0
}

fn keep(kept: &mut Option<Vec<u8>>, data: &[u8]) {
    match kept {
        Some(text) if text.len() + data.len() <= MOST_KEPT => text.extend_from_slice(data),
        _ => *kept = None,
    }
}

/// The most of an answer that is kept to be read at its end. Beyond it the answer passes unread.
const MOST_KEPT: usize = 64 * 1024 * 1024;
