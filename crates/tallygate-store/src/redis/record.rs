//! Reservations as they are kept: the script knows state, deadline and moments; the rest is written and read here.
use super::metrics::MetricNames;
use super::names::{Account, Tag};
use super::rules::NamedRules;
use super::sheet::instant;
use crate::pack::{Pack, Unpack};
use std::sync::Arc;
use tallygate_core::remote::Mark;
use tallygate_core::{Amounts, Metric, Outcome, Receipt, Stated, Time, Told};

/// An open reservation, as whoever settles it must know it.
#[derive(Debug, Clone)]
pub(crate) struct Held {
    /// What it is charged to.
    pub(crate) accounts: Vec<Arc<Account>>,
    /// What each of its parts holds: the reservation first, then its extensions.
    pub(crate) parts: Vec<Amounts>,
    pub(crate) deadline: Time,
    /// The name of its idempotency key.
    pub(crate) name: Option<[u8; 16]>,
}

/// What a record says.
#[derive(Debug, Clone)]
pub(crate) enum Record {
    Open(Held),
    Ended(Receipt),
}

/// What a record's accounts are looked up in.
pub(crate) struct Registry<'a> {
    pub(crate) prefix: &'a str,
    pub(crate) rules: &'a NamedRules,
    pub(crate) metrics: &'a MetricNames,
}

impl Held {
    /// All that it holds.
    pub(crate) fn total(&self) -> Amounts {
        let add = |sum: Amounts, part: &Amounts| sum.zip(part, u64::saturating_add);
        self.parts.iter().fold(Amounts::ZERO, add)
    }

    /// Whether it holds nothing of anything.
    pub(crate) fn is_empty(&self) -> bool {
        self.parts.iter().all(|part| *part == Amounts::ZERO)
    }

    /// What the script keeps for us beside an open reservation. The mark of its last extension may follow.
    pub(crate) fn write(&self, metrics: &MetricNames) -> Vec<u8> {
        let mut out = Vec::with_capacity(64);
        out.uint(self.accounts.len() as u64, 2);
        for account in &self.accounts {
            out.extend_from_slice(&account.rule.name);
            out.uint(u64::from(account.tag), 4);
            out.extend_from_slice(&account.name);
        }
        out.uint(self.parts.len() as u64, 2);
        for part in &self.parts {
            metrics.write(part.iter(), &mut out);
        }
        out.extend(self.name.iter().flatten());
        out
    }

    fn read(bytes: &mut Unpack<'_>, deadline: Time, registry: &Registry<'_>) -> Option<Self> {
        let mut accounts = Vec::new();
        for _ in 0..bytes.uint(2)? {
            let rule: [u8; 8] = bytes.array()?;
            let tag = Tag::try_from(bytes.uint(4)?).ok()?;
            let name = bytes.array()?;
            // A rule that has gone has taken its counters with it.
            if let Some(known) = registry.rules.find(&rule) {
                accounts.push(Arc::new(known.named(registry.prefix, tag, name)));
            }
        }
        let mut parts = Vec::new();
        for _ in 0..bytes.uint(2)? {
            parts.push(read_amounts(bytes, registry)?);
        }
        // An extension's mark may follow, which is shorter.
        let name = bytes.array();
        Some(Self {
            accounts,
            parts,
            deadline,
            name,
        })
    }

    /// The receipt of its end.
    pub(crate) fn receipt(&self, outcome: Outcome, used: &Ending) -> Receipt {
        let held = self.total();
        let charged = match used {
            Ending::Exactly(amounts) => *amounts,
            Ending::Stated(stated) => stated.or(&held),
            Ending::AtLeast(amounts) => amounts.zip(&held, u64::max),
        };
        let charged = charged.with(Metric::CONCURRENCY, 0);
        Receipt {
            outcome,
            charged,
            returned: held.zip(&charged, u64::saturating_sub),
            debt: Amounts::ZERO,
            told: Told::First,
        }
    }

    /// The receipt of one that its deadline has ended: its amounts are kept as used.
    pub(crate) fn expired(&self) -> Receipt {
        self.receipt(Outcome::Expired, &Ending::AtLeast(Amounts::ZERO))
    }

    /// What part number `at` held of a metric, and what of it was used.
    pub(crate) fn truth(&self, at: usize, metric: Metric, used: &Ending) -> (u64, u64) {
        let held = self.parts.get(at).map_or(0, |part| part.get(metric));
        let truth = match used {
            Ending::Exactly(amounts) => Some(amounts.get(metric)),
            Ending::Stated(stated) => stated.get(metric),
            Ending::AtLeast(amounts) => {
                Some(amounts.get(metric)).filter(|amount| *amount > self.total().get(metric))
            }
        };
        match (truth, at) {
            (None, _) => (held, held),
            (Some(truth), 0) => (held, truth),
            (Some(_), _) => (held, 0),
        }
    }

    /// What is kept of it once it has ended with this receipt, unless it had been told again or left a debt.
    pub(crate) fn write_receipt(&self, receipt: &Receipt, metrics: &MetricNames) -> Vec<u8> {
        let mut out = Vec::with_capacity(96);
        out.extend([byte_of(receipt.outcome), 0]);
        metrics.write(receipt.charged.iter(), &mut out);
        metrics.write(receipt.returned.iter(), &mut out);
        out.uint(self.accounts.len() as u64, 2);
        for account in &self.accounts {
            out.extend_from_slice(&account.rule.name);
        }
        out
    }
}

/// What a reservation really used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ending {
    Exactly(Amounts),
    Stated(Stated),
    AtLeast(Amounts),
}

/// The byte of an outcome.
pub(crate) const fn byte_of(outcome: Outcome) -> u8 {
    match outcome {
        Outcome::Settled => 2,
        Outcome::Cancelled => 3,
        Outcome::Expired => 4,
    }
}

/// A record at `now`: an open one past its deadline has ended.
pub(crate) fn read(raw: &[u8], now: Time, registry: &Registry<'_>) -> Option<Record> {
    let mut bytes = Unpack(raw);
    let (state, _) = (bytes.byte()?, bytes.byte()?);
    if state != 1 {
        return read_ended(state, &mut bytes, registry).map(Record::Ended);
    }
    let held = read_open(&mut bytes, registry)?;
    Some(match held.deadline > now {
        true => Record::Open(held),
        false => Record::Ended(held.expired()),
    })
}

fn read_open(bytes: &mut Unpack<'_>, registry: &Registry<'_>) -> Option<Held> {
    let (parts, deadline) = (bytes.uint(2)?, instant(bytes.long()?));
    bytes.bytes(14 * usize::try_from(parts).ok()?)?;
    Held::read(bytes, deadline, registry)
}

fn read_ended(state: u8, bytes: &mut Unpack<'_>, registry: &Registry<'_>) -> Option<Receipt> {
    let outcome = [Outcome::Settled, Outcome::Cancelled, Outcome::Expired];
    let outcome = outcome.into_iter().find(|one| byte_of(*one) == state)?;
    let charged = read_amounts(bytes, registry)?;
    let returned = read_amounts(bytes, registry)?;
    let mut names: Vec<[u8; 8]> = Vec::new();
    for _ in 0..bytes.uint(2)? {
        names.push(bytes.array()?);
    }
    let debt = read_debt(&names, bytes, registry).unwrap_or(Amounts::ZERO);
    Some(Receipt {
        outcome,
        charged,
        returned,
        debt,
        told: Told::First,
    })
}

/// How far the furthest counter of each metric stood below zero: the script says it in each limit's own numbers, if any did.
fn read_debt(
    names: &[[u8; 8]],
    bytes: &mut Unpack<'_>,
    registry: &Registry<'_>,
) -> Option<Amounts> {
    let mut debt = Amounts::ZERO;
    for name in names {
        let named = registry.rules.find(name)?;
        for limit in named.rule.limits() {
            let excess = Mark {
                micros: bytes.long()?,
                rest: bytes.uint(6)?,
            };
            let over = limit.amount_of(excess).max(debt.get(limit.metric()));
            debt.set(limit.metric(), over);
        }
    }
    Some(debt)
}

fn read_amounts(bytes: &mut Unpack<'_>, registry: &Registry<'_>) -> Option<Amounts> {
    let known = registry.metrics.read(bytes)?.into_iter();
    Some(known.fold(Amounts::ZERO, |all, (metric, amount)| {
        all.with(metric, amount)
    }))
}
