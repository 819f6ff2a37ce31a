//! A usage as Python writes it, and amounts as Python reads them.
use crate::failure;
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyDict, PyFloat, PyInt, PyMapping, PyString};
use tallygate_core::{Amounts, MAX_AMOUNT, Metric, Metrics, Stated};

/// A usage: amounts, and which metrics were spoken of.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Usage {
    pub(crate) amounts: Amounts,
    pub(crate) stated: Stated,
}

impl Usage {
    /// Reads a mapping from metric to amount. A fraction is rounded up.
    ///
    /// # Errors
    /// What cannot be: no mapping, an unknown metric, an amount that is none. Each names its place and what to do.
    pub(crate) fn read(metrics: &Metrics, usage: &Bound<'_, PyAny>) -> PyResult<Self> {
        let mut read = Self::default();
        if let Ok(usage) = usage.cast::<PyDict>() {
            for (name, amount) in usage {
                read.add(metrics, &name, &amount)?;
            }
            return Ok(read);
        }
        let Ok(usage) = usage.cast::<PyMapping>() else {
            let kind = usage.get_type().name()?;
            return Err(failure::value(format!(
                "usage must be a mapping from metric to amount, as {{\"requests\": 1, \"tokens\": 500}} (got {kind})"
            )));
        };
        for pair in usage.items()? {
            let (name, amount) = pair.extract::<(Bound<'_, PyAny>, Bound<'_, PyAny>)>()?;
            read.add(metrics, &name, &amount)?;
        }
        Ok(read)
    }

    fn add(
        &mut self,
        metrics: &Metrics,
        name: &Bound<'_, PyAny>,
        amount: &Bound<'_, PyAny>,
    ) -> PyResult<()> {
        let name = name
            .cast::<PyString>()
            .map_err(|_| failure::value(format!("usage has a metric that is no str: {name:?}")))?;
        let name = name.to_cow()?;
        let metric = metrics
            .find(&name)
            .ok_or_else(|| unknown_metric(metrics, &name))?;
        let amount = whole(&name, amount)?;
        self.amounts.set(metric, amount);
        self.stated.set(metric, amount);
        Ok(())
    }
}

/// The whole amount of a metric, rounded up.
///
/// # Errors
/// When it is negative, too large, or no number.
pub(crate) fn whole(name: &str, amount: &Bound<'_, PyAny>) -> PyResult<u64> {
    if amount.is_exact_instance_of::<PyInt>() {
        return amount.extract::<u64>().map_or_else(
            |_| Err(out_of_range(name, amount)),
            |whole| checked(name, amount, whole),
        );
    }
    if amount.is_instance_of::<PyBool>() || amount.is_instance_of::<PyString>() {
        return Err(no_number(name, amount));
    }
    if let Ok(amount) = amount.cast::<PyFloat>() {
        return ceiling(name, amount);
    }
    match amount.extract::<i128>() {
        Ok(whole) => u64::try_from(whole).map_or_else(
            |_| Err(out_of_range(name, amount)),
            |whole| checked(name, amount, whole),
        ),
        Err(_) => Err(no_number(name, amount)),
    }
}

fn checked(name: &str, amount: &Bound<'_, PyAny>, whole: u64) -> PyResult<u64> {
    match whole <= MAX_AMOUNT {
        true => Ok(whole),
        false => Err(out_of_range(name, amount)),
    }
}

/// Up to 2^53 every whole number is a float, so nothing is lost.
fn ceiling(name: &str, amount: &Bound<'_, PyFloat>) -> PyResult<u64> {
    let up = amount.value().ceil();
    match (0.0..=MAX_AMOUNT as f64).contains(&up) {
        true => Ok(up as u64),
        false => Err(out_of_range(name, amount)),
    }
}

fn out_of_range(name: &str, amount: &Bound<'_, PyAny>) -> PyErr {
    failure::value(format!(
        "usage[\"{name}\"] is {amount}: it must be a number from 0 to {MAX_AMOUNT}"
    ))
}

fn no_number(name: &str, amount: &Bound<'_, PyAny>) -> PyErr {
    let shown = amount
        .repr()
        .map_or_else(|_| "?".to_owned(), |repr| repr.to_string());
    failure::value(format!(
        "usage[\"{name}\"] is {shown}: it must be an int or a float"
    ))
}

fn unknown_metric(metrics: &Metrics, name: &str) -> PyErr {
    let known: Vec<&str> = metrics.iter().map(|(_, name)| name).collect();
    failure::value(format!(
        "usage names the metric \"{name}\", which no limit knows: there are {}",
        known.join(", ")
    ))
}

/// Amounts above zero by the names of their metrics.
///
/// # Errors
/// When Python has no memory left.
pub(crate) fn to_dict<'py>(
    py: Python<'py>,
    metrics: &Metrics,
    amounts: impl IntoIterator<Item = (Metric, u64)>,
) -> PyResult<Bound<'py, PyDict>> {
    let dict = PyDict::new(py);
    for (metric, amount) in amounts {
        dict.set_item(&*metrics.name(metric), amount)?;
    }
    Ok(dict)
}
