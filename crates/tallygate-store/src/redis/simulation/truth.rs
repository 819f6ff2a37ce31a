//! What really took effect in the store, as its answers show whether they arrived or not, and what must hold of it.
use super::engine::Engine;
use super::ground::{Ground, Left};
use crate::pack::{Pack, Unpack};
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
pub(in crate::redis) struct Moment {
    pub(in crate::redis) shown: u64,
    pub(in crate::redis) fair: u64,
}

/// A reservation that took effect.
#[derive(Debug, Clone)]
pub(in crate::redis) struct Entry {
    /// Whose it was: callers are told apart by their time to live.
    pub(in crate::redis) caller: u64,
    held: Arc<Held>,
    /// When each of its parts was charged.
    at: Vec<u64>,
    /// Their numbers in the ground.
    charges: Vec<usize>,
    pub(in crate::redis) end: Option<End>,
}

#[derive(Debug, Clone, PartialEq)]
pub(in crate::redis) enum End {
    /// As if it had never been.
    Withdrawn,
    Ended(Box<Receipt>),
    /// By its deadline.
    Expired,
}

/// Every reservation, and the counters as they were last seen.
#[derive(Debug, Clone, Default)]
pub(in crate::redis) struct Truth {
    pub(in crate::redis) entries: BTreeMap<u128, Entry>,
    /// In the order in which they took effect.
    order: Vec<u128>,
    by_key: BTreeMap<Vec<u8>, Arc<Account>>,
    /// What was decided elsewhere than in the store.
    beside: Vec<Beside>,
    /// What processes have given back of their shares: an amount a limit.
    unshared: BTreeMap<Vec<u8>, Vec<u64>>,
    pub(in crate::redis) ground: Ground,
}

/// What was taken of these accounts elsewhere than in the store, and used of it in the end.
#[derive(Debug, Clone)]
struct Beside {
    keys: Vec<Vec<u8>>,
    held: Amounts,
    used: Amounts,
    charge: usize,
}

/// What must hold and does not.
pub(in crate::redis) type Verdict = Result<(), String>;

/// Callers' numbers are below it: the rest of a time to live is free.
pub(in crate::redis) const CALLERS: u64 = 10_000;

impl Truth {
    pub(in crate::redis) fn know(&mut self, accounts: &[Arc<Account>]) {
        let known = accounts.iter();
        self.by_key
            .extend(known.map(|account| (account.key.clone(), account.clone())));
    }

    /// Takes over what has happened whatever the store knows of it.
    pub(super) fn keep_what_no_store_forgets(&mut self, later: &mut Self) {
        self.ground = std::mem::take(&mut later.ground);
        self.beside = std::mem::take(&mut later.beside);
    }

    /// What of an account was given back since, in what came later.
    pub(super) fn given_back(&self, later: &Self, account: &Account, metric: Metric) -> u64 {
        let sum = |entry: &Entry| -> u64 { entry.taken(metric).iter().map(|one| one.1).sum() };
        let mine = self.entries.iter().filter(|one| one.1.is_on(account));
        let back = mine.filter_map(|(id, entry)| {
            let later = later.entries.get(id)?;
            Some(sum(entry).saturating_sub(sum(later)))
        });
        back.sum()
    }

    /// What of a limit was given back of shares since, in what came later: a report without an answer is sent again.
    pub(super) fn unshared_since(&self, later: &Self, account: &Account, limit: usize) -> u64 {
        let sum = |truth: &Self| {
            let amounts = truth.unshared.get(&account.key);
            amounts.and_then(|amounts| amounts.get(limit)).copied()
        };
        sum(later).unwrap_or(0) - sum(self).unwrap_or(0)
    }

    /// Every account that is known.
    pub(super) fn accounts(&self) -> impl Iterator<Item = &Arc<Account>> {
        self.by_key.values()
    }

    /// Notes what was taken elsewhere than in the store; answers its place.
    pub(in crate::redis) fn take_beside(
        &mut self,
        accounts: &[Arc<Account>],
        held: Amounts,
        at: u64,
    ) -> Result<usize, String> {
        let keys: Vec<_> = accounts.iter().map(|one| one.key.clone()).collect();
        let charge = self.ground.take(keys.iter(), held, at);
        self.beside.push(Beside {
            keys,
            held,
            used: held,
            charge,
        });
        for account in accounts {
            self.ground.fits(account, at)?;
        }
        Ok(self.beside.len() - 1)
    }

    /// Notes how much of that was used.
    pub(in crate::redis) fn use_beside(&mut self, place: usize, used: Amounts) {
        let beside = &mut self.beside[place];
        beside.used = used;
        self.ground
            .amend(beside.charge, used.zip(&beside.held, u64::min));
    }

    /// Takes note of what a call did, and looks whether all is well after it.
    pub(in crate::redis) fn observe(
        &mut self,
        desk: &Desk,
        (call, answers): (&Call, &Answers),
        engine: &mut Engine,
        moment: Moment,
    ) -> Verdict {
        self.expire(moment);
        let mut charged = Vec::new();
        let mut reserved = Vec::new();
        let mut overrun = false;
        for (op, answer) in call.args.iter().skip(1).zip(&answers.operations) {
            if (op[0], answer[0]) == (LEASE, b'L') {
                self.unshare(key_in(op, call), op);
            }
            let Some(id) = id_in(op, call) else { continue };
            match (op[0], answer[0]) {
                (1 | 3, b'A') => {
                    let raw = self.left_by(op, id, engine.get(key_in(op, call)));
                    let more = self.hold(id, (&raw, desk), moment)?;
                    charged.push((id.bits(), more));
                    if op[0] == 1 {
                        reserved.push((id.bits(), more));
                    }
                }
                (2, b'E') => overrun |= self.end(id, (&answer[1..], desk), moment)?,
                _ => {}
            }
        }
        let has_lost = self.ground.failovers() > 0;
        let mut reports = call.args.iter().skip(1).filter(|op| op[0] == LEASE);
        // A replica that knows of a smaller share is told of all that was spent.
        let overran = overrun || reports.any(|op| has_lost || is_over(op));
        if !overran {
            self.nothing_is_overdrawn(answers, &charged)?;
        }
        self.ground_holds(answers, moment, overran)?;
        // An extension takes none, unless the clock was set back: it brings back what its deadline had ended.
        self.slots_are_kept(&reserved)
    }

    fn unshare(&mut self, key: &[u8], report: &[u8]) {
        let sums = self.unshared.entry(key.to_vec()).or_default();
        let backs: Vec<u64> = amounts_in(report, BACK).collect();
        sums.resize(backs.len(), 0);
        sums.iter_mut()
            .zip(backs)
            .for_each(|(sum, back)| *sum += back);
    }

    /// A record as this operation left it: its extension may be followed by its end in the same call.
    fn left_by(&self, op: &[u8], id: ReservationId, raw: Vec<u8>) -> Vec<u8> {
        const OPEN: u8 = 1;
        match self.entries.get(&id.bits()) {
            Some(entry) if op[0] == EXTEND && raw.first() != Some(&OPEN) => {
                written(op, entry.held.deadline).unwrap_or(raw)
            }
            _ => raw,
        }
    }

    fn ground_holds(&mut self, answers: &Answers, moment: Moment, overran: bool) -> Verdict {
        let found = answers.accounts.iter().filter_map(|(key, raw)| {
            let account = self.by_key.get(key)?;
            Some((account, sheet::read(account, raw, Order(0), answers.now)))
        });
        // In order, so that a seed fails in the same words.
        let found: BTreeMap<_, _> = found.map(|one| (&one.0.key, one)).collect();
        for (account, sheet) in found.into_values() {
            let left = Left {
                account,
                sheet: &sheet,
                now: answers.now,
            };
            self.ground.observe(left, moment, overran)?;
        }
        Ok(())
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
        let known = self.entries.get(&id.bits());
        let known = known.map_or(0, |entry| entry.at.len());
        let parts = held.parts.iter().skip(known);
        let charges: Vec<usize> = parts
            .map(|part| {
                let keys = held.accounts.iter().map(|account| &account.key);
                self.ground.take(keys, *part, moment.fair)
            })
            .collect();
        match self.entries.get_mut(&id.bits()) {
            Some(entry) if !matches!(entry.end, None | Some(End::Expired)) => {
                Err(format!("{id} was extended after its end"))
            }
            Some(entry) => {
                while entry.at.len() < held.parts.len() {
                    entry.at.push(moment.fair);
                }
                entry.charges.extend(charges);
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
                    charges,
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
            entry.amend(&mut self.ground, Amounts::ZERO);
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
        entry.amend(&mut self.ground, receipt.charged);
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
            for standing in &standings {
                if more.get(standing.limit.metric) == 0 {
                    continue;
                }
                if standing.debt > 0 || standing.used > standing.limit.amount {
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
    pub(in crate::redis) fn fits_everywhere(&self) -> Verdict {
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
    pub(in crate::redis) fn sums_are_exact(&self, account: &Account, sheet: &Sheet) -> Verdict {
        for (limit, seen) in account.rule.rule.limits().zip(&sheet.counters) {
            let SeenState::Fixed { sum, .. } = seen.state else {
                continue;
            };
            let mine = self.entries.values().filter(|one| one.is_on(account));
            let all: u64 = mine.map(|one| one.charged(limit.metric())).sum();
            let beside = self.beside.iter();
            let beside = beside.filter(|one| one.keys.contains(&account.key));
            let all = all + beside.map(|one| one.used.get(limit.metric())).sum::<u64>();
            if sum != all {
                let name = &limit.info().name;
                return Err(format!("{name}: {sum} in the store, {all} by the receipts"));
            }
        }
        Ok(())
    }

    /// G5: nothing is held any more, and nobody stands in line.
    pub(in crate::redis) fn is_at_rest(&self, sheet: &Sheet, now: u64) -> Verdict {
        let open = self.entries.values().filter(|one| one.end.is_none());
        let held: u64 = sheet.counters.iter().map(|seen| seen.held).sum();
        // A place that has lapsed is nobody's.
        let line = sheet.line.iter().filter(|entry| entry.till > now);
        match (open.count(), held, line.count(), sheet.leases.len()) {
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

    /// No more of it was used than this, all of it as if it had been known when it was reserved; overruns apart.
    fn amend(&self, ground: &mut Ground, used: Amounts) {
        let mut used = self.held.total().zip(&used, u64::min);
        for charge in &self.charges {
            ground.amend(*charge, std::mem::take(&mut used));
        }
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

    pub(in crate::redis) fn demand(&self) -> Amounts {
        self.held.total()
    }
}

/// The operation that extends a reservation.
const EXTEND: u8 = 3;

/// The operation that reports on a share.
const LEASE: u8 = 7;

/// The record of an open reservation that an extension writes.
fn written(extension: &[u8], deadline: Time) -> Option<Vec<u8>> {
    let mut bytes = Unpack(extension);
    // The kind, two keys, the parts before, what for, how long, and how long it is kept.
    bytes.bytes(1 + 2 + 2 + 2 + 1 + 7 + 7)?;
    let length = usize::try_from(bytes.uint(3)?).ok()?;
    let mut raw = vec![1, 0];
    raw.uint(0, 2);
    raw.long(micros(deadline));
    raw.extend_from_slice(bytes.bytes(length)?);
    Some(raw)
}

/// Where a report says of each limit what was used above the share, and what is given back of it.
const OVER: usize = 20;
const BACK: usize = 40;

/// Whether a report of a share charges what is no part of it.
fn is_over(report: &[u8]) -> bool {
    amounts_in(report, OVER).any(|amount| amount > 0)
}

/// An amount of each limit in a report of a share.
fn amounts_in(report: &[u8], place: usize) -> impl Iterator<Item = u64> {
    let limits = report.get(18..).unwrap_or_default();
    // Spent, over, back, more, spare: an amount of 7 bytes and its cost of 13.
    let amounts = limits
        .chunks(100)
        .filter_map(move |limit| limit.get(place..));
    amounts.filter_map(|rest| Unpack(rest).long())
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
