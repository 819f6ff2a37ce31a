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
            return Err(no_mapping(usage, "usage"));
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
        let metric = metrics.find(&name.to_cow()?);
        let metric = metric.ok_or_else(|| unknown_metric(metrics, name))?;
        let amount = whole(amount, "usage", name.as_any())?;
        self.amounts.set(metric, amount);
        self.stated.set(metric, amount);
        Ok(())
    }
}

/// The whole amount of the metric `name` of an argument, rounded up.
///
/// # Errors
/// When it is negative, too large, or no number.
pub(crate) fn whole(
    amount: &Bound<'_, PyAny>,
    argument: &str,
    name: &Bound<'_, PyAny>,
) -> PyResult<u64> {
    let read = match amount.is_exact_instance_of::<PyInt>() {
        true => amount.extract::<u64>().map_err(|_| Refused::Range),
        false => unusual(amount),
    };
    let refused = match read {
        Ok(whole) if whole <= MAX_AMOUNT => return Ok(whole),
        Ok(_) | Err(Refused::Range) => format!("a number from 0 to {MAX_AMOUNT}"),
        Err(Refused::Kind) => "an int or a float".to_owned(),
    };
    Err(failure::value(format!(
        "{argument}[{}] is {}: it must be {refused}",
        name.repr()?,
        amount.repr()?
    )))
}

/// Why an amount is none.
enum Refused {
    Range,
    Kind,
}

/// An amount that is no plain int.
fn unusual(amount: &Bound<'_, PyAny>) -> Result<u64, Refused> {
    if amount.is_instance_of::<PyBool>() || amount.is_instance_of::<PyString>() {
        return Err(Refused::Kind);
    }
    if let Ok(amount) = amount.cast::<PyFloat>() {
        return ceiling(amount.value());
    }
    let whole = amount.extract::<i128>().map_err(|_| Refused::Kind)?;
    u64::try_from(whole).map_err(|_| Refused::Range)
}

/// Up to 2^53 every whole number is a float, so nothing is lost.
fn ceiling(amount: f64) -> Result<u64, Refused> {
    let up = amount.ceil();
    match (0.0..=MAX_AMOUNT as f64).contains(&up) {
        true => Ok(up as u64),
        false => Err(Refused::Range),
    }
}

/// An argument that is no usage.
pub(crate) fn no_mapping(given: &Bound<'_, PyAny>, argument: &str) -> PyErr {
    let kind = given.get_type().name();
    let kind = kind.map_or_else(|_| "?".to_owned(), |name| name.to_string());
    failure::value(format!(
        "{argument} must be a mapping from metric to amount, as {{\"requests\": 1, \"tokens\": 500}} (got {kind})"
    ))
}

fn unknown_metric(metrics: &Metrics, name: &Bound<'_, PyString>) -> PyErr {
    let known: Vec<&str> = metrics.iter().map(|(_, name)| name).collect();
    failure::value(format!(
        "usage names the metric {name:?}, which no limit knows: there are {}",
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
