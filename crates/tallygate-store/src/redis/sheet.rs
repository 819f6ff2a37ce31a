//! An account as the script keeps it, read.
use super::names::Account;
use crate::pack::Unpack;
use tallygate_core::Time;
use tallygate_core::remote::{Mark, Numbers, RemoteLimit, Seen, SeenState};

/// What is kept of an account.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Sheet {
    /// One for each limit.
    pub(crate) counters: Vec<Seen>,
    /// Who waits, by arrival.
    pub(crate) line: Vec<LineEntry>,
    /// Who holds shares.
    pub(crate) leases: Vec<Lease>,
}

/// The head of a process in the line of a limit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct LineEntry {
    pub(crate) limit: usize,
    pub(crate) node: [u8; 8],
    pub(crate) order: u64,
    /// What the process's callers in this line wait for.
    pub(crate) queued: u64,
    /// Until when it counts unless it comes again.
    pub(crate) till: u64,
    /// When it expects its turn.
    pub(crate) turn: u64,
}

/// A process's share of an account.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Lease {
    pub(crate) node: [u8; 8],
    pub(crate) till: u64,
    /// One for each limit.
    pub(crate) amounts: Vec<u64>,
}

/// How an asker stands to those in line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Order(pub(crate) u64);

impl Order {
    /// Behind everybody in line.
    pub(crate) const NEWCOMER: Self = Self((1 << 53) - 1);
}

/// Reads an account as it was at `now` for an asker of this order. Bytes that are not an account read as a fresh one.
pub(crate) fn read(account: &Account, raw: &[u8], order: Order, now: Time) -> Sheet {
    let mut sheet = parse(account, raw, now).unwrap_or_else(|| fresh(account));
    for (at, seen) in sheet.counters.iter_mut().enumerate() {
        let here = || sheet.line.iter().filter(|entry| entry.limit == at + 1);
        if here().any(|entry| entry.order < order.0) {
            let queued = here().fold(0u64, |sum, entry| sum.saturating_add(entry.queued));
            let first = here().map(|entry| entry.turn).next().unwrap_or(0);
            seen.ahead = Some((queued, instant(first)));
        }
    }
    sheet
}

/// The account that nobody has charged.
pub(crate) fn fresh(account: &Account) -> Sheet {
    let counters = account.rule.rule.limits().map(fresh_counter).collect();
    Sheet {
        counters,
        ..Sheet::default()
    }
}

/// An instant of microseconds.
pub(crate) fn instant(micros: u64) -> Time {
    Time::from_nanos(micros.saturating_mul(1000))
}

/// An instant in whole microseconds, rounded down.
pub(crate) fn micros(time: Time) -> u64 {
    time.as_nanos() / 1000
}

fn parse(account: &Account, raw: &[u8], now: Time) -> Option<Sheet> {
    if raw.is_empty() {
        return Some(fresh(account));
    }
    let mut bytes = Unpack(raw);
    let mut sheet = Sheet::default();
    for limit in account.rule.rule.limits() {
        sheet.counters.push(counter(limit, &mut bytes, now)?);
    }
    while !bytes.is_empty() {
        match bytes.byte()? {
            b'w' => {}
            b'l' => {
                for _ in 0..bytes.byte()? {
                    sheet.line.push(entry(&mut bytes)?);
                }
            }
            b's' => {
                for _ in 0..bytes.byte()? {
                    let lease = lease(&mut sheet.counters, &mut bytes)?;
                    sheet.leases.push(lease);
                }
            }
            _ => return None,
        }
    }
    Some(sheet)
}

fn counter(limit: RemoteLimit<'_>, bytes: &mut Unpack<'_>, now: Time) -> Option<Seen> {
    let mut seen = fresh_counter(limit);
    match limit.numbers(now) {
        Numbers::Bucket { base, .. } => return bucket(seen, bytes, base, now),
        Numbers::Sliding { .. } => {
            seen.held = held(bytes, now)?;
            let mut cells = Vec::new();
            for _ in 0..bytes.byte()? {
                cells.push([bytes.long()?, bytes.long()?, bytes.long()?]);
            }
            seen.state = SeenState::Sliding(cells);
        }
        Numbers::Fixed { .. } => {
            seen.held = held(bytes, now)?;
            let (number, sum) = (bytes.long()?, bytes.long()?);
            seen.state = SeenState::Fixed { number, sum };
        }
        Numbers::Gauge { .. } => {
            let (count, _, last) = (bytes.long()?, bytes.long()?, bytes.long()?);
            seen.held = count;
            let ends = match count {
                0 => Vec::new(),
                _ => vec![(last, 0)],
            };
            seen.state = SeenState::Gauge { count, ends };
        }
    }
    Some(seen)
}

/// What open reservations hold: nothing once the latest of their deadlines has passed.
fn held(bytes: &mut Unpack<'_>, now: Time) -> Option<u64> {
    let (held, deadline) = (bytes.long()?, bytes.long()?);
    Some(if instant(deadline) > now { held } else { 0 })
}

/// In place of a bucket's number of epochs: one reservation is open on it, and was from its first moment on.
pub(super) const ALONE: u8 = 255;

fn bucket(mut seen: Seen, bytes: &mut Unpack<'_>, base: u64, now: Time) -> Option<Seen> {
    bytes.long()?;
    let mut level = mark(bytes)?;
    // Written under another policy it may have parts of another size: less than a microsecond all the same.
    level.rest = level.rest.min(base.saturating_sub(1));
    seen.state = SeenState::Bucket(level);
    let epochs = bytes.byte()?;
    if epochs == ALONE {
        seen.held = held(bytes, now)?;
        bytes.bytes(14)?;
    } else if epochs > 0 {
        seen.held = held(bytes, now)?;
        bytes.bytes(11)?;
        bytes.bytes(45 * usize::from(epochs))?;
    }
    Some(seen)
}

fn entry(bytes: &mut Unpack<'_>) -> Option<LineEntry> {
    Some(LineEntry {
        limit: usize::from(bytes.byte()?),
        node: bytes.array()?,
        order: bytes.long()?,
        queued: bytes.long()?,
        till: bytes.long()?,
        turn: bytes.long()?,
    })
}

fn lease(counters: &mut [Seen], bytes: &mut Unpack<'_>) -> Option<Lease> {
    let (node, till) = (bytes.array()?, bytes.long()?);
    bytes.bytes(9)?;
    let mut amounts = Vec::new();
    for seen in counters {
        let amount = bytes.long()?;
        let cost = mark(bytes)?;
        seen.shared.0 = seen.shared.0.saturating_add(amount);
        // Parts that make more than a microsecond are told apart by whoever uses the sum.
        seen.shared.1.micros = seen.shared.1.micros.saturating_add(cost.micros);
        seen.shared.1.rest = seen.shared.1.rest.saturating_add(cost.rest);
        amounts.push(amount);
    }
    Some(Lease {
        node,
        till,
        amounts,
    })
}

fn mark(bytes: &mut Unpack<'_>) -> Option<Mark> {
    Some(Mark {
        micros: bytes.long()?,
        rest: bytes.uint(6)?,
    })
}

fn fresh_counter(limit: RemoteLimit<'_>) -> Seen {
    let state = match limit.numbers(Time::ZERO) {
        Numbers::Bucket { .. } => SeenState::Bucket(Mark::default()),
        Numbers::Sliding { .. } => SeenState::Sliding(Vec::new()),
        Numbers::Fixed { .. } => SeenState::Fixed { number: 0, sum: 0 },
        Numbers::Gauge { .. } => SeenState::Gauge {
            count: 0,
            ends: Vec::new(),
        },
    };
    Seen {
        state,
        held: 0,
        shared: (0, Mark::default()),
        ahead: None,
    }
}

/// Puts the deadlines that the script told of into the counters of the accounts they are of.
pub(crate) fn add_ends(sheets: &mut [Sheet], raw: &[u8]) -> Option<()> {
    let mut bytes = Unpack(raw);
    let counters = sheets.iter_mut().flat_map(|sheet| &mut sheet.counters);
    for seen in counters {
        let SeenState::Gauge { ends, .. } = &mut seen.state else {
            continue;
        };
        let mut first = Vec::new();
        for _ in 0..bytes.uint(2)? {
            first.push((bytes.long()?, bytes.long()?));
        }
        // The last one stays last: the counter is fresh then.
        ends.splice(0..0, first);
    }
    Some(())
}
