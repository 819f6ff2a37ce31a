//! Refusals as the exceptions that limiters raise.
use crate::failure;
use crate::family::Traits;
use pyo3::exceptions::PyTimeoutError;
use pyo3::prelude::*;
use std::time::Duration;
use tallygate_core::{Decision, Denial, Never, Standing};

/// `TimeoutError` for what did not come within `waited`, `ValueError` for what can never come.
pub(crate) fn of(family: &Traits, refusal: &Decision, waited: Duration) -> PyErr {
    match refusal {
        Decision::Never(never) => failure::value(oversize(family, never)),
        Decision::Deny(denial) => PyTimeoutError::new_err(late(family, denial, waited)),
        Decision::Admit(_) => failure::value("the usage was admitted"),
    }
}

fn oversize(family: &Traits, never: &Never) -> String {
    let quotas: Vec<String> = never
        .blocked_by
        .iter()
        .map(|one| {
            let most = family.text(&one.limit.metric_name, one.limit.burst);
            format!("at most {most} of {}", window(one))
        })
        .collect();
    format!(
        "usage can never fit: the quotas let through {} at once; ask for less, or raise the limit",
        quotas.join(" and ")
    )
}

fn late(family: &Traits, denial: &Denial, waited: Duration) -> String {
    let quotas: Vec<String> = denial
        .blocked_by
        .iter()
        .map(|one| {
            let text = |count| family.text(&one.limit.metric_name, count);
            let (left, limit) = (text(one.remaining), text(one.limit.amount));
            format!("{} has {left} of {limit} left", window(one))
        })
        .collect();
    format!(
        "no capacity within {} s: {}; there may be enough in {:.3} s",
        waited.as_secs_f64(),
        quotas.join(", "),
        denial.retry_after.as_secs_f64()
    )
}

fn window(standing: &Standing) -> String {
    format!(
        "{} per {}",
        standing.limit.metric_name,
        standing.limit.window()
    )
}
