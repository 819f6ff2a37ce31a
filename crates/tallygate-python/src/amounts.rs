//! A usage as Python writes it, and amounts as Python reads them.
use crate::failure;
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyDict, PyFloat, PyInt, PyMapping, PyString};
use std::borrow::Cow;
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
        let metric = metrics.find(&text(name, "usage")?);
        let metric = metric.ok_or_else(|| unknown_metric(metrics, name))?;
        let amount = Scale::WHOLE.count(amount, "usage", name.as_any())?;
        self.amounts.set(metric, amount);
        self.stated.set(metric, amount);
        Ok(())
    }
}

/// The name of a metric of an argument.
///
/// # Errors
/// When there is half a character in it.
pub(crate) fn text<'a>(name: &'a Bound<'_, PyString>, argument: &str) -> PyResult<Cow<'a, str>> {
    name.to_cow().map_err(|_| {
        failure::value(format!(
            "{argument} has a metric whose name is no text: {name:?}"
        ))
    })
}

/// How finely a metric is counted: how many counts make one unit of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Scale(u32);

impl Scale {
    /// Whole units.
    pub(crate) const WHOLE: Self = Self(1);

    /// So many counts a unit, at least one.
    pub(crate) fn new(counts: u32) -> Self {
        Self(counts.max(1))
    }

    fn counts(self) -> u64 {
        u64::from(self.0)
    }

    /// The counts of an amount of the metric `name` of an argument, rounded up.
    ///
    /// # Errors
    /// When it is negative, too large, or no number.
    pub(crate) fn count(
        self,
        amount: &Bound<'_, PyAny>,
        argument: &str,
        name: &Bound<'_, PyAny>,
    ) -> PyResult<u64> {
        let read = match amount.is_exact_instance_of::<PyInt>() {
            true => amount
                .extract::<u64>()
                .map_err(|_| Refused::Range)
                .and_then(|whole| self.times(whole)),
            false => self.unusual(amount),
        };
        let refused = match read {
            Ok(count) if count <= MAX_AMOUNT => return Ok(count),
            Ok(_) | Err(Refused::Range) => format!("a number from 0 to {}", self.text(MAX_AMOUNT)),
            Err(Refused::Kind) => "an int or a float".to_owned(),
        };
        Err(failure::value(format!(
            "{argument}[{}] is {}: it must be {refused}",
            name.repr()?,
            amount.repr()?
        )))
    }

    /// An amount that is no plain int.
    fn unusual(self, amount: &Bound<'_, PyAny>) -> Result<u64, Refused> {
        if amount.is_instance_of::<PyBool>() || amount.is_instance_of::<PyString>() {
            return Err(Refused::Kind);
        }
        if let Ok(amount) = amount.cast::<PyFloat>() {
            return self.ceiling(amount.value());
        }
        let whole = amount.extract::<i128>().map_err(|_| Refused::Kind)?;
        u64::try_from(whole)
            .map_err(|_| Refused::Range)
            .and_then(|whole| self.times(whole))
    }

    fn times(self, whole: u64) -> Result<u64, Refused> {
        whole.checked_mul(self.counts()).ok_or(Refused::Range)
    }

    /// Up to 2^53 every whole number is a float. A decimal fraction may be none: the float nearest to it stands for it.
    fn ceiling(self, amount: f64) -> Result<u64, Refused> {
        let counts = f64::from(self.0);
        let product = amount * counts;
        let near = product.round();
        let up = if near / counts == amount {
            near
        } else {
            product.ceil()
        };
        match amount >= 0.0 && up <= MAX_AMOUNT as f64 {
            true => Ok(up as u64),
            false => Err(Refused::Range),
        }
    }

    /// Counts as a number of units.
    ///
    /// # Errors
    /// When Python has no memory left.
    pub(crate) fn amount<'py>(self, py: Python<'py>, count: u64) -> PyResult<Bound<'py, PyAny>> {
        let counts = self.counts();
        match count.checked_rem(counts) {
            Some(0) | None => Ok((count / counts).into_pyobject(py)?.into_any()),
            Some(_) => {
                let amount = count as f64 / f64::from(self.0);
                Ok(amount.into_pyobject(py)?.into_any())
            }
        }
    }

    /// The same in words.
    pub(crate) fn text(self, count: u64) -> String {
        let (whole, rest) = (count / self.counts(), count % self.counts());
        if rest == 0 {
            return whole.to_string();
        }
        let digits = self.0.ilog10() as usize;
        let text = format!("{whole}.{rest:0digits$}");
        text.trim_end_matches('0').to_owned()
    }
}

/// Why an amount is none.
enum Refused {
    Range,
    Kind,
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
