//! What the engines say, in a form that can be compared.
use crate::pack::Unpack;
use crate::redis::names::Account;
use crate::redis::sheet;
use std::time::Duration;
use tallygate_core::remote::Numbers;
use tallygate_core::{Admission, Amounts, Decision, Denial, Metric, Never, Replay, Standing, Time};

/// The name of a rule, a metric, and how it stands: used, remaining, debt, reset.
pub(super) type Stands = (String, usize, [u64; 3], Duration);

/// A decision, instants rounded up to a microsecond.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Said {
    Admitted(Admitted),
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

#[derive(Debug, Clone, PartialEq)]
pub(super) struct Admitted {
    pub(super) reservation: Option<usize>,
    pub(super) expires_at: Time,
    pub(super) reserved: Amounts,
    pub(super) standings: Vec<Stands>,
    pub(super) shadowed: Vec<(String, usize)>,
    pub(super) replay: Replay,
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

/// What is to be answered to a message that comes again, `again` being what is: the same, or that it was done.
pub(super) fn repeated(first: &[u8], again: &[u8]) -> Vec<u8> {
    let raw = again.get(1..).unwrap_or(&[]);
    match first.first() {
        // An extension.
        Some(b'A') if again.starts_with(b"A") => first.to_vec(),
        // Its record.
        Some(b'A') => [b"P", raw].concat(),
        // Withdrawn: nothing is known of it.
        Some(b'E') if first.len() == 1 => b"U".to_vec(),
        Some(b'E') => [b"O", &first[1..]].concat(),
        // That somebody was told of it may have been noted since.
        Some(b'N') => [&first[..14], &again[14..15], &first[15..]].concat(),
        _ => first.to_vec(),
    }
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
                    let more = match epochs {
                        0 => 0,
                        sheet::ALONE => 28,
                        several => 25 + 45 * usize::from(several),
                    };
                    bytes.bytes(more)?;
                    most = most.max(if epochs == sheet::ALONE { 1 } else { epochs });
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
    Said::Admitted(Admitted {
        reservation,
        expires_at: admission.expires_at,
        reserved: admission.reserved,
        standings: admission.standings.iter().map(standing).collect(),
        shadowed: shadowed
            .map(|info| (info.name.to_string(), info.metric.index()))
            .collect(),
        replay: admission.replay,
    })
}

pub(super) fn denied(denial: &Denial) -> Said {
    Said::Denied {
        retry_at: up(denial.retry_at),
        blocked_by: denial.blocked_by.iter().map(standing).collect(),
    }
}

pub(super) fn refused(never: &Never) -> Said {
    Said::Never {
        blocked_by: never.blocked_by.iter().map(standing).collect(),
        largest: never.largest.clone(),
    }
}

fn up(time: Time) -> Time {
    Time::from_nanos(time.as_nanos().div_ceil(1000) * 1000)
}
