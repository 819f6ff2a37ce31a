//! What really took effect in the store, as its answers show whether they arrived or not, and what must hold of it.
use super::engine::Engine;
use crate::redis::desk::Desk;
use crate::redis::link::Call;
use crate::redis::names::{Account, id_of};
use crate::redis::record::{self, Held, Record};
use crate::redis::script::Answers;
use crate::redis::sheet::{self, Order, Sheet, micros};
use std::collections::BTreeMap;
use std::sync::Arc;
use tallygate_core::remote::{self, Numbers, RemoteLimit, SeenState};
use tallygate_core::{Amounts, Metric, Receipt, ReservationId, Time};

/// The server's clock at a call, and the same with no step back.
#[derive(Debug, Clone, Copy)]
pub(super) struct Moment {
    pub(super) shown: u64,
    pub(super) fair: u64,
}

/// A reservation that took effect.
#[derive(Debug, Clone)]
pub(super) struct Entry {
    /// Whose it was: callers are told apart by their time to live.
    pub(super) caller: u64,
    held: Arc<Held>,
    /// When each of its parts was charged.
    at: Vec<u64>,
    pub(super) end: Option<End>,
}

#[derive(Debug, Clone, PartialEq)]
pub(super) enum End {
    /// As if it had never been.
    Withdrawn,
    Ended(Box<Receipt>),
    /// By its deadline.
    Expired,
}

/// Every reservation, and the counters as they were last seen.
#[derive(Debug, Clone, Default)]
pub(super) struct Truth {
    pub(super) entries: BTreeMap<u128, Entry>,
    /// In the order in which they took effect.
    order: Vec<u128>,
    by_key: BTreeMap<Vec<u8>, Arc<Account>>,
}

/// What must hold and does not.
pub(super) type Verdict = Result<(), String>;

/// Callers' numbers are below it: the rest of a time to live is free.
pub(super) const CALLERS: u64 = 10_000;

impl Truth {
    pub(super) fn know(&mut self, accounts: &[Arc<Account>]) {
        let known = accounts.iter();
        self.by_key
            .extend(known.map(|account| (account.key.clone(), account.clone())));
    }

    /// Takes note of what a call did, and looks whether all is well after it.
    pub(super) fn observe(
        &mut self,
        desk: &Desk,
        (call, answers): (&Call, &Answers),
        engine: &mut Engine,
        moment: Moment,
    ) -> Verdict {
        self.expire(moment);
        let mut charged = Vec::new();
        let mut overrun = false;
        for (op, answer) in call.args.iter().skip(1).zip(&answers.operations) {
            let Some(id) = id_in(op, call) else { continue };
            match (op[0], answer[0]) {
                (1 | 3, b'A') => {
                    let raw = engine.get(key_in(op, call));
                    let more = self.hold(id, (&raw, desk), moment)?;
                    charged.push((id.bits(), more));
                }
                (2, b'E') => overrun |= self.end(id, (&answer[1..], desk), moment)?,
                _ => {}
            }
        }
        if !overrun {
            self.nothing_is_overdrawn(answers, &charged)?;
        }
        self.slots_are_kept(&charged)
    }

    /// Answers what was charged.
    fn hold(
        &mut self,
        id: ReservationId,
        (raw, desk): (&[u8], &Desk),
        moment: Moment,
    ) -> Result<Amounts, String> {
        let found = record::read(raw, Time::ZERO, &desk.registry());
        let Some(Record::Open(held)) = found else {
            return Err(format!("{id} was admitted and is not open: {found:?}"));
        };
        let deadline = micros(held.deadline);
        let held = Arc::new(held);
        match self.entries.get_mut(&id.bits()) {
            Some(entry) if !matches!(entry.end, None | Some(End::Expired)) => {
                Err(format!("{id} was extended after its end"))
            }
            Some(entry) => {
                while entry.at.len() < held.parts.len() {
                    entry.at.push(moment.fair);
                }
                let before = entry.held.total();
                let more = held.total().zip(&before, u64::saturating_sub);
                entry.held = held;
                // A clock that was set back brings back what its deadline had ended.
                entry.end = None;
                Ok(more)
            }
            None => {
                let demand = held.total();
                let entry = Entry {
                    caller: (deadline - moment.shown) % CALLERS,
                    held,
                    at: vec![moment.fair],
                    end: None,
                };
                self.entries.insert(id.bits(), entry);
                self.order.push(id.bits());
                Ok(demand)
            }
        }
    }

    /// Answers whether more was used than held.
    fn end(
        &mut self,
        id: ReservationId,
        (raw, desk): (&[u8], &Desk),
        moment: Moment,
    ) -> Result<bool, String> {
        let entry = self.entries.get_mut(&id.bits());
        let entry = entry.ok_or_else(|| format!("{id} has ended and was never admitted"))?;
        if !matches!(entry.end, None | Some(End::Expired)) {
            return Err(format!("{id} has ended twice"));
        }
        if raw.is_empty() {
            entry.end = Some(End::Withdrawn);
            return Ok(false);
        }
        let Some(Record::Ended(receipt)) = record::read(raw, Time::ZERO, &desk.registry()) else {
            return Err(format!("{id} has ended with no receipt"));
        };
        // A clock that was set back brings back what its deadline had ended.
        if entry.end.is_some() && micros(entry.held.deadline) <= moment.shown {
            return Err(format!("{id} has ended after its deadline: {receipt:?}"));
        }
        let held = entry.held.total();
        let over = receipt.charged.iter().any(|(m, used)| used > held.get(m));
        entry.end = Some(End::Ended(Box::new(receipt)));
        Ok(over)
    }

    fn expire(&mut self, moment: Moment) {
        let open = self.entries.values_mut().filter(|one| one.end.is_none());
        for entry in open.filter(|one| micros(one.held.deadline) <= moment.shown) {
            entry.end = Some(End::Expired);
        }
    }

    fn charged_to<'a>(
        &'a self,
        charged: &'a [(u128, Amounts)],
    ) -> impl Iterator<Item = (&'a Arc<Account>, Amounts)> {
        charged.iter().flat_map(|(id, more)| {
            let accounts = self.entries.get(id).map(|entry| &entry.held.accounts);
            let accounts = accounts.into_iter().flatten();
            accounts.map(|account| (account, *more))
        })
    }

    /// G2 by the counters themselves: what was just charged fits.
    fn nothing_is_overdrawn(&self, answers: &Answers, charged: &[(u128, Amounts)]) -> Verdict {
        for (account, more) in self.charged_to(charged) {
            let Some(raw) = answers.accounts.get(&account.key) else {
                continue;
            };
            let sheet = sheet::read(account, raw, Order(0), answers.now);
            let view = remote::Sheet {
                rule: &account.rule.rule,
                counters: &sheet.counters,
            };
            let standings = remote::standings(&[view], answers.now);
            for (standing, seen) in standings.iter().zip(&sheet.counters) {
                if more.get(standing.limit.metric) == 0 {
                    continue;
                }
                if standing.debt > 0 || standing.used + seen.shared.0 > standing.limit.amount {
                    return Err(format!(
                        "admitted past {:?}: {standing:?}",
                        standing.limit.name
                    ));
                }
            }
        }
        Ok(())
    }

    /// No more slots are held than there are.
    fn slots_are_kept(&self, charged: &[(u128, Amounts)]) -> Verdict {
        for (account, _) in self.charged_to(charged) {
            for limit in account.rule.rule.limits() {
                let Numbers::Gauge { amount } = limit.numbers(Time::ZERO) else {
                    continue;
                };
                let open = self.entries.values().filter(|one| one.end.is_none());
                let open = open.filter(|one| one.is_on(account));
                let slots: u64 = open.map(|one| one.held.total().get(limit.metric())).sum();
                if slots > amount {
                    return Err(format!("{slots} of {amount} slots are held"));
                }
            }
        }
        Ok(())
    }

    /// G2 and G3 over all spans: what was charged in the end fits at every instant, overruns apart.
    pub(super) fn fits_everywhere(&self) -> Verdict {
        for account in self.by_key.values() {
            for limit in account.rule.rule.limits() {
                let charges = self.charges(account, limit.metric());
                fits(limit, &charges).map_err(|what| format!("{}: {what}", limit.info().name))?;
            }
        }
        Ok(())
    }

    /// When what was taken of a metric on an account, without what was used above the holds.
    fn charges(&self, account: &Account, metric: Metric) -> Vec<(u64, u64)> {
        let entries = self.order.iter().filter_map(|id| self.entries.get(id));
        let mut charges = Vec::new();
        for entry in entries.filter(|entry| entry.is_on(account)) {
            charges.extend(entry.taken(metric));
        }
        charges.sort_by_key(|(at, _)| *at);
        charges
    }

    /// G1 and G4: a counter that forgets nothing shows the sum of all that ended, each once.
    pub(super) fn sums_are_exact(&self, account: &Account, sheet: &Sheet) -> Verdict {
        for (limit, seen) in account.rule.rule.limits().zip(&sheet.counters) {
            let SeenState::Fixed { sum, .. } = seen.state else {
                continue;
            };
            let mine = self.entries.values().filter(|one| one.is_on(account));
            let all: u64 = mine.map(|one| one.charged(limit.metric())).sum();
            if sum != all {
                let name = &limit.info().name;
                return Err(format!("{name}: {sum} in the store, {all} by the receipts"));
            }
        }
        Ok(())
    }

    /// G5: nothing is held any more, and nobody stands in line.
    pub(super) fn is_at_rest(&self, sheet: &Sheet) -> Verdict {
        let open = self.entries.values().filter(|one| one.end.is_none());
        let held: u64 = sheet.counters.iter().map(|seen| seen.held).sum();
        match (open.count(), held, sheet.line.len(), sheet.leases.len()) {
            (0, 0, 0, 0) => Ok(()),
            left => Err(format!("open, held, in line, leases: {left:?}")),
        }
    }
}

impl Entry {
    fn is_on(&self, account: &Account) -> bool {
        let mut accounts = self.held.accounts.iter();
        accounts.any(|one| one.key == account.key)
    }

    /// When what of it was taken. What was used counts as if all of it had been known when it was reserved.
    fn taken(&self, metric: Metric) -> Vec<(u64, u64)> {
        let held = self.held.parts.iter().map(|part| part.get(metric));
        let parts = self.at.iter().copied().zip(held);
        match &self.end {
            Some(End::Withdrawn) => Vec::new(),
            Some(End::Ended(receipt)) => {
                let used = receipt.charged.get(metric);
                parts
                    .take(1)
                    .map(|(at, held)| (at, held.min(used)))
                    .collect()
            }
            Some(End::Expired) | None => parts.collect(),
        }
    }

    /// What it came to.
    fn charged(&self, metric: Metric) -> u64 {
        match &self.end {
            Some(End::Withdrawn) => 0,
            Some(End::Ended(receipt)) => receipt.charged.get(metric),
            Some(End::Expired) | None => self.held.total().get(metric),
        }
    }

    pub(super) fn demand(&self) -> Amounts {
        self.held.total()
    }
}

/// The record that an operation is about.
fn key_in<'a>(op: &[u8], call: &'a Call) -> &'a [u8] {
    let place = usize::from(u16::from_le_bytes([op[1], op[2]]));
    &call.keys[place - 1]
}

fn id_in(op: &[u8], call: &Call) -> Option<ReservationId> {
    if !matches!(op[0], 1..=3) {
        return None;
    }
    let key = key_in(op, call);
    let (rest, random) = key.split_last_chunk::<12>()?;
    let tag = rest.get(rest.len() - 10..rest.len() - 2)?;
    let tag = u32::from_str_radix(std::str::from_utf8(tag).ok()?, 16).ok()?;
    Some(id_of(tag, *random))
}

fn fits(limit: RemoteLimit<'_>, charges: &[(u64, u64)]) -> Verdict {
    match limit.numbers(Time::ZERO) {
        Numbers::Bucket { .. } => {
            let tallygate_core::Shape::Bucket { every, .. } = limit.info().shape else {
                return Ok(());
            };
            let every = u128::from(every.as_nanos() / 1000);
            in_bucket(
                charges,
                u128::from(limit.info().amount),
                (every, limit.largest()),
            )
        }
        Numbers::Sliding { amount, every, .. } => in_span(charges, amount, every),
        Numbers::Fixed { .. } | Numbers::Gauge { .. } => Ok(()),
    }
}

/// A bucket's level, exact: a unit is a token times the length of the window.
fn in_bucket(charges: &[(u64, u64)], amount: u128, (every, burst): (u128, u64)) -> Verdict {
    let (mut level, mut last) = (0u128, 0);
    for (at, taken) in charges {
        level = level.saturating_sub(u128::from(at - last) * amount);
        level += u128::from(*taken) * every;
        last = *at;
        if level > u128::from(burst) * every {
            return Err(format!(
                "{} too much at {at}",
                level / every - u128::from(burst)
            ));
        }
    }
    Ok(())
}

fn in_span(charges: &[(u64, u64)], amount: u64, every: u64) -> Verdict {
    let (mut first, mut sum) = (0, 0);
    for (at, taken) in charges {
        sum += taken;
        while charges[first].0 + every <= *at {
            sum -= charges[first].1;
            first += 1;
        }
        if sum > amount {
            return Err(format!("{sum} of {amount} at {at}"));
        }
    }
    Ok(())
}
