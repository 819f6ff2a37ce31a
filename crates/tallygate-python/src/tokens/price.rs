//! What calls cost, by the price table that comes with this version.

use pyo3::prelude::*;
use pyo3::types::PyModule;
use tallygate_tokens::{Cost, PerMillion, PriceTable, Usage};

pub(super) fn add(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_function(wrap_pyfunction!(price, module)?)?;
    module.add_function(wrap_pyfunction!(cost, module)?)?;
    module.add_function(wrap_pyfunction!(cost_bound, module)?)?;
    module.add_function(wrap_pyfunction!(prices_date, module)?)
}

/// Micro-dollars for a million tokens: of input, cached input, cache write, output and reasoning.
type Kinds = (u64, u64, u64, u64, u64);

/// The rates of `model`, and those for inputs of more than so many tokens. `None` where none are known.
#[pyfunction]
fn price(model: &str) -> Option<(Kinds, Vec<(u64, Kinds)>)> {
    let rates = PriceTable::built_in().find(model)?;
    let above = rates.above().iter();
    let above = above.map(|(tokens, rates)| (*tokens, kinds(rates)));
    Some((kinds(rates.base()), above.collect()))
}

/// What so much use of `model` costs in micro-dollars, rounded up once. `None` where no price is known.
///
/// `parts` are of these: cached input, input written to a cache, reasoning.
#[pyfunction]
fn cost(model: &str, input_tokens: u64, output_tokens: u64, parts: (u64, u64, u64)) -> Option<u64> {
    let (cached_input_tokens, cache_write_tokens, reasoning_tokens) = parts;
    let usage = Usage {
        input_tokens,
        output_tokens,
        cached_input_tokens,
        cache_write_tokens,
        reasoning_tokens,
        ..Usage::default()
    };
    let rates = PriceTable::built_in().find(model)?;
    Some(rates.of(&usage).micros())
}

/// The most that a call of `model` of this size may cost, in micro-dollars. `None` where no price is known.
#[pyfunction]
fn cost_bound(model: &str, input_tokens: u64, output_tokens: u64) -> Option<u64> {
    let rates = PriceTable::built_in().find(model);
    rates
        .map(|rates| rates.bound(input_tokens, output_tokens))
        .map(Cost::micros)
}

/// The day the prices were gathered, as `2026-11-22`.
#[pyfunction]
fn prices_date() -> &'static str {
    PriceTable::built_in().date()
}

fn kinds(rates: &PerMillion) -> Kinds {
    (
        rates.input,
        rates.cached_input,
        rates.cache_write,
        rates.output,
        rates.reasoning,
    )
}
