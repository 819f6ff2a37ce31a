//! What the engines say, in a form that can be compared.
use crate::redis::names::Account;
use crate::redis::pack::Unpack;
use crate::redis::script::Op;
use std::fmt::Debug;
use std::time::Duration;
use tallygate_core::remote::Numbers;
use tallygate_core::{
    Admission, Amounts, Decision, Denial, EndError, Extended, Metric, Never, Outcome, Receipt,
    Replay, Standing, Time,
};

/// The name of a rule, a metric, and how it stands: used, remaining, debt, reset.
pub(super) type Stands = (String, usize, [u64; 3], Duration);

/// A decision, instants rounded up to a microsecond.
#[derive(Debug, PartialEq)]
pub(super) enum Said {
    Admitted {
        reservation: Option<usize>,
        expires_at: Time,
        reserved: Amounts,
        standings: Vec<Stands>,
        shadowed: Vec<(String, usize)>,
        replay: Replay,
    },
    Denied {
        retry_at: Time,
        blocked_by: Vec<Stands>,
    },
    Never {
        blocked_by: Vec<Stands>,
        largest: Vec<(Metric, u64)>,
    },
    Again,
}

/// A decision about the reservation of this number.
pub(super) fn said(decision: &Decision, reservation: Option<usize>) -> Said {
    match decision {
        Decision::Admit(admission) => admitted(admission, reservation),
        Decision::Deny(denial) => denied(denial),
        Decision::Never(never) => refused(never),
    }
}

pub(super) fn standing(standing: &Standing) -> Stands {
    (
        standing.limit.name.to_string(),
        standing.limit.metric.index(),
        [standing.used, standing.remaining, standing.debt],
        standing.reset,
    )
}

/// An error that says both, unless they are the same.
pub(super) fn same<T: Debug + PartialEq>(what: &str, core: &T, script: &T) -> Result<(), String> {
    match core == script {
        true => Ok(()),
        false => Err(format!(
            "{what}\n    core:   {core:?}\n    script: {script:?}"
        )),
    }
}

/// The same end. Two things may differ: what is said of the debt by the receipt of a reservation that its deadline
/// ended, as nobody was there to see it; and one that was withdrawn is unknown to the script, as nobody was told of it.
pub(super) fn same_end(
    core: &Result<Receipt, EndError>,
    script: &Result<Receipt, EndError>,
    withdrawn: bool,
) -> Result<(), String> {
    if withdrawn {
        return same("an end", &Err(EndError::Unknown), script);
    }
    let told = |end: &Result<Receipt, EndError>| match end {
        Err(EndError::Ended(receipt)) if receipt.outcome == Outcome::Expired => {
            let receipt = Receipt {
                debt: Amounts::ZERO,
                ..**receipt
            };
            Err(EndError::Ended(Box::new(receipt)))
        }
        other => other.clone(),
    };
    same("an end", &told(core), &told(script))
}

pub(super) fn same_extension(core: &Extended, script: &Extended) -> Result<(), String> {
    match (core, script) {
        (Extended::Deny(core), Extended::Deny(script)) => {
            same("a denied extension", &denied(core), &denied(script))
        }
        (Extended::Never(core), Extended::Never(script)) => {
            same("an impossible extension", &refused(core), &refused(script))
        }
        _ => same("an extension", core, script),
    }
}

/// An extension that comes twice extends twice: whoever sends it again must look first.
pub(super) fn may_come_twice(message: &Op) -> bool {
    !matches!(message, Op::Extend(_))
}

/// Whether a bucket has as many epochs as it may.
pub(super) fn is_crowded(account: &Account, raw: &[u8]) -> bool {
    let mut bytes = Unpack(raw);
    let mut most = 0;
    let mut read = || {
        for limit in account.rule.rule.limits() {
            match limit.numbers(Time::ZERO) {
                Numbers::Bucket { .. } => {
                    bytes.bytes(20)?;
                    let epochs = bytes.byte()?;
                    most = most.max(epochs);
                    bytes.bytes(if epochs > 0 { 38 } else { 0 } + 38 * usize::from(epochs))?;
                }
                Numbers::Sliding { .. } => {
                    bytes.bytes(14)?;
                    let cells = bytes.byte()?;
                    bytes.bytes(21 * usize::from(cells))?;
                }
                Numbers::Fixed { .. } => {
                    bytes.bytes(28)?;
                }
                Numbers::Gauge { .. } => {
                    bytes.bytes(21)?;
                }
            }
        }
        Some(())
    };
    read();
    most >= 16
}

fn admitted(admission: &Admission, reservation: Option<usize>) -> Said {
    let shadowed = admission.shadowed.iter();
    Said::Admitted {
        reservation,
        expires_at: admission.expires_at,
        reserved: admission.reserved,
        standings: admission.standings.iter().map(standing).collect(),
        shadowed: shadowed
            .map(|info| (info.name.to_string(), info.metric.index()))
            .collect(),
        replay: admission.replay,
    }
}

fn denied(denial: &Denial) -> Said {
    Said::Denied {
        retry_at: up(denial.retry_at),
        blocked_by: denial.blocked_by.iter().map(standing).collect(),
    }
}

fn refused(never: &Never) -> Said {
    Said::Never {
        blocked_by: never.blocked_by.iter().map(standing).collect(),
        largest: never.largest.clone(),
    }
}

fn up(time: Time) -> Time {
    Time::from_nanos(time.as_nanos().div_ceil(1000) * 1000)
}
