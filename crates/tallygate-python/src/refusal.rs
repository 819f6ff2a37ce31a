//! Refusals as the exceptions that limiters raise.
use crate::failure;
use pyo3::exceptions::PyTimeoutError;
use pyo3::prelude::*;
use std::time::Duration;
use tallygate_core::{Decision, Denial, Never, Standing};

/// `TimeoutError` for what did not come within `waited`, `ValueError` for what can never come.
pub(crate) fn of(refusal: &Decision, waited: Duration) -> PyErr {
    match refusal {
        Decision::Never(never) => failure::value(oversize(never)),
        Decision::Deny(denial) => PyTimeoutError::new_err(late(denial, waited)),
        Decision::Admit(_) => failure::value("the usage was admitted"),
    }
}

fn oversize(never: &Never) -> String {
    let quotas: Vec<String> = never
        .blocked_by
        .iter()
        .map(|one| format!("at most {} of {}", one.limit.burst, window(one)))
        .collect();
    format!(
        "usage can never fit: the quotas let through {} at once; ask for less, or raise the limit",
        quotas.join(" and ")
    )
}

fn late(denial: &Denial, waited: Duration) -> String {
    let quotas: Vec<String> = denial
        .blocked_by
        .iter()
        .map(|one| {
            format!(
                "{} has {} of {} left",
                window(one),
                one.remaining,
                one.limit.amount
            )
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
