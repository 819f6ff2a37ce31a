//! All that leases are at one process: the demand, the shares, the reservations held out of them. Knows neither network nor
//! clock: reports are taken from it and answers brought to it.
use super::holds::{Hold, Holds, Known, Manner};
use super::moment::{Moment, Now};
use super::pace::Pace;
use super::regime::Regime;
use super::share::{Found, Journey, Need, Said, Share};
use super::{IDLE, IDLE_LIFE, LIFE, STANDING_LIFE, STANDING_SPANS};
use crate::redis::desk::{Ask, Desk};
use crate::redis::names::Account;
use crate::redis::record::{Ending, Held};
use crate::redis::script::Lease;
use crate::redis::sheet::micros;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;
use tallygate_core::remote::{self, Numbers};
use tallygate_core::{
    Admission, Amounts, EndError, Extended, MAX_EXTENSIONS, Metric, Outcome, Receipt, Replay,
    ReservationId, Span, StoreDown, Time,
};

/// How many accounts' demand is known at once.
const PACES: usize = 65_536;

/// An account's key.
type Key = Vec<u8>;

/// Leases at one process.
#[derive(Debug, Default)]
pub(crate) struct Book {
    paces: HashMap<Key, Pace>,
    /// In order, so that a seed gives the same log.
    shares: BTreeMap<Key, Share>,
    holds: Holds,
    /// Numbers reports.
    turn: u64,
    closed: bool,
    /// When the next round is planned.
    planned: Moment,
    /// Accounts whose demand is looked through when there are this many.
    crowd: usize,
}

/// Who will end what is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    /// This process.
    Here,
    /// Any that shares the store.
    Anywhere,
}

/// What came of the end of a reservation, and the accounts it was charged to.
type Ended = (Result<Receipt, EndError>, Vec<Arc<Account>>);

/// What came of an attempt to extend a reservation.
#[derive(Debug)]
pub(crate) enum Growth {
    Granted(Extended),
    /// These shares must grow first.
    Lacks(Vec<Arc<Account>>),
    Failed(EndError),
    TooOften,
}

impl Book {
    /// Takes note of a demand, and admits it if all its accounts have shares with room.
    pub(crate) fn decide(&mut self, ask: &Ask, place: Place, now: Now) -> Option<Admission> {
        self.note(ask, place, now.here);
        let can = place == Place::Here && !self.closed && !ask.accounts.is_empty();
        if !can
            || !ask
                .accounts
                .iter()
                .all(|account| self.covers(account, ask, now))
        {
            return None;
        }
        Some(self.admit(ask, now, Manner::Counted))
    }

    /// Admits a demand whose store cannot be reached: all accounts that are to share have shares with room, and the others
    /// need none.
    pub(crate) fn decide_alone(&mut self, ask: &Ask, now: Now) -> Option<Admission> {
        if let Some(known) = ask.name.and_then(|name| self.holds.named(name)) {
            let (id, held) = (known.0, known.1.held.clone());
            return Some(self.admission(id, &held, now, Replay::Open));
        }
        let is_free = |account: &Arc<Account>| {
            let rule = &account.rule.rule;
            match rule.store_down() {
                _ if !rule.is_enforced() => true,
                StoreDown::Open => true,
                StoreDown::Closed => false,
                StoreDown::Share => self.covers(account, ask, now),
            }
        };
        let can = !self.closed && ask.accounts.iter().all(is_free);
        can.then(|| self.admit(ask, now, Manner::Alone))
    }

    fn covers(&self, account: &Account, ask: &Ask, now: Now) -> bool {
        let share = self.shares.get(&account.key);
        share.is_some_and(|share| match touches(account, &ask.demand) {
            true => share.has_room(&ask.demand, now.here),
            false => share.is_seen(now.here),
        })
    }

    fn admit(&mut self, ask: &Ask, now: Now, manner: Manner) -> Admission {
        let held = Held {
            accounts: ask.accounts.clone(),
            parts: vec![ask.demand],
            deadline: now.there.plus(ask.ttl),
            name: ask.name,
        };
        let leases = self.hold(&held.accounts, &ask.demand, now.here);
        let admission = self.admission(ask.id, &held, now, Replay::Fresh);
        let hold = Hold {
            held,
            leases: vec![leases],
            made: now.there,
            manner,
        };
        self.holds.keep(ask.id, hold);
        admission
    }

    /// Holds an amount of every share that has room for it; answers which leases it is of, none where there is no share.
    fn hold(
        &mut self,
        accounts: &[Arc<Account>],
        demand: &Amounts,
        at: Moment,
    ) -> Vec<Option<u64>> {
        let mut leases = Vec::with_capacity(accounts.len());
        for account in accounts {
            let share = self.shares.get_mut(&account.key);
            let share = share.filter(|share| share.has_room(demand, at));
            leases.push(share.map(|share| {
                share.hold(demand);
                share.lease()
            }));
        }
        leases
    }

    fn admission(&self, id: ReservationId, held: &Held, now: Now, replay: Replay) -> Admission {
        let counters = self.counters_of(&held.accounts);
        let sheets: Vec<_> = held
            .accounts
            .iter()
            .zip(&counters)
            .map(|(account, counters)| remote::Sheet {
                rule: &account.rule.rule,
                counters,
            })
            .collect();
        Admission {
            id,
            expires_at: held.deadline,
            reserved: held.total(),
            standings: remote::standings(&sheets, now.there),
            shadowed: remote::shadowed(&sheets, &held.total(), now.there),
            waited: Duration::ZERO,
            replay,
        }
    }

    fn counters(&self, account: &Account) -> Vec<remote::Seen> {
        let share = self.shares.get(&account.key);
        share.map_or_else(Vec::new, Share::counters)
    }

    /// How each limit of an account is decided.
    pub(crate) fn regimes(&self, account: &Account, at: Moment) -> Vec<Regime> {
        let share = self.shares.get(&account.key);
        let share = share.filter(|share| share.is_spendable(at));
        let regime = |limit| match share {
            Some(share) => {
                let (share, left) = share.amounts(limit);
                Regime::Leased { share, left }
            }
            None => Regime::Exact,
        };
        (0..account.rule.rule.limits().len()).map(regime).collect()
    }

    /// All of every share that may be spent now: an amount a limit.
    #[cfg(test)]
    pub(super) fn spendable(&self, at: Moment) -> Vec<(Key, Vec<u64>)> {
        let shares = self.shares.iter();
        let shares = shares.filter(|(_, share)| share.is_spendable(at));
        let amounts = |(key, share): (&Key, &Share)| {
            let limits = 0..share.account.rule.rule.limits().len();
            let amounts = limits.map(|limit| share.amounts(limit).0);
            (key.clone(), amounts.collect())
        };
        shares.map(amounts).collect()
    }

    /// Whether a reservation is open here.
    #[cfg(test)]
    pub(super) fn holds_it(&self, id: ReservationId) -> bool {
        matches!(self.holds.get(id), Some(Known::Open(_)))
    }

    /// Open reservations, and accounts of which there is a share.
    pub(crate) fn counts(&self, at: Moment) -> (usize, usize) {
        let shares = self.shares.values();
        let spendable = shares.filter(|share| share.is_spendable(at)).count();
        (self.holds.count(), spendable)
    }
}

/// Demand.
impl Book {
    fn note(&mut self, ask: &Ask, place: Place, at: Moment) {
        if self.paces.len() >= self.crowd.max(1024) {
            self.paces.retain(|_, pace| !pace.is_silent(at, IDLE));
            self.crowd = 2 * self.paces.len();
        }
        let is_full = self.paces.len() >= PACES;
        let mut all_hot = place == Place::Here;
        for account in &ask.accounts {
            if is_full && !self.paces.contains_key(&account.key) {
                return;
            }
            let pace = self.paces.entry(account.key.clone()).or_default();
            pace.ask(at);
            all_hot &= pace.is_hot() && is_leasable(account);
        }
        let stands = !ask.accounts.iter().any(|account| closes(account));
        for account in &ask.accounts {
            if all_hot || (stands && shares_alone(account) && is_leasable(account)) {
                self.want(account, &ask.demand, at);
            }
        }
    }

    fn want(&mut self, account: &Arc<Account>, demand: &Amounts, at: Moment) {
        if let Some(pace) = self.paces.get_mut(&account.key) {
            pace.want(at, demand);
        }
        if !self.closed && !self.shares.contains_key(&account.key) {
            let share = Share::new(account.clone());
            self.shares.insert(account.key.clone(), share);
        }
    }

    fn need(&self, share: &Share, at: Moment) -> Need {
        let stands = shares_alone(&share.account);
        let (spans, life, idle) = match stands {
            true => (STANDING_SPANS, STANDING_LIFE, STANDING_LIFE),
            false => (1, LIFE, IDLE),
        };
        let pace = self.paces.get(&share.account.key);
        match pace.filter(|pace| !pace.is_idle(at, idle) && !self.closed) {
            Some(pace) => Need {
                target: pace.target(at, spans),
                each: *pace.each(),
                life,
                looks: true,
            },
            None => Need {
                life: life.max(IDLE_LIFE),
                ..Need::default()
            },
        }
    }
}

/// Ends and extensions.
impl Book {
    /// Ends a reservation; answers with the accounts it was charged to. Nothing if it is none of these.
    pub(crate) fn end(
        &mut self,
        id: ReservationId,
        (outcome, used): (Outcome, Ending),
        now: Now,
    ) -> Option<Ended> {
        self.expire(now);
        let hold = match self.holds.get(id)? {
            Known::Open(hold) => hold,
            Known::Ended(receipt) => {
                let end = match receipt.outcome == outcome {
                    true => Ok(receipt),
                    false => Err(EndError::Ended(Box::new(receipt))),
                };
                return Some((end, Vec::new()));
            }
        };
        let mut receipt = hold.held.receipt(outcome, &used);
        receipt.debt = self.settle(&hold, &receipt.charged, now);
        self.holds.end(id, receipt, now);
        Some((Ok(receipt), hold.held.accounts))
    }

    /// Ends what is past its deadline: what it held counts as used.
    fn expire(&mut self, now: Now) {
        while let Some((id, hold)) = self.holds.overdue(now) {
            let receipt = hold.held.expired();
            self.settle(&hold, &receipt.charged, now);
            self.holds.end(id, receipt, now);
        }
    }

    /// Charges what was used, the first parts first; answers the debt that it makes.
    fn settle(&mut self, hold: &Hold, charged: &Amounts, now: Now) -> Amounts {
        let mut rest = *charged;
        for (part, leases) in hold.held.parts.iter().zip(&hold.leases) {
            let used = part.zip(&rest, u64::min);
            rest = rest.zip(&used, u64::saturating_sub);
            for (account, lease) in hold.held.accounts.iter().zip(leases) {
                let share = self.shares.get_mut(&account.key);
                if let Some(share) = share.filter(|share| Some(share.lease()) == *lease) {
                    share.settle(part, &used);
                }
            }
        }
        let mut debt = Amounts::ZERO;
        for (at, account) in hold.held.accounts.iter().enumerate() {
            // What a window that is over gave is nobody's any more.
            if touches(account, &rest) && hold.is_counted(at) && !is_past(account, hold, now.there)
            {
                let owed = self.exceed(account, &rest, now);
                debt = debt.zip(&owed, u64::max);
            }
        }
        debt
    }

    /// Charges what was used above what was held; answers how far below zero the account's counters are.
    fn exceed(&mut self, account: &Arc<Account>, excess: &Amounts, now: Now) -> Amounts {
        let share = self.shares.entry(account.key.clone());
        let share = share.or_insert_with(|| Share::new(account.clone()));
        share.charge(excess, now.here);
        let counters = share.counters();
        let sheet = remote::Sheet {
            rule: &account.rule.rule,
            counters: &counters,
        };
        let mut debt = Amounts::ZERO;
        for standing in remote::standings(&[sheet], now.there) {
            let metric = standing.limit.metric;
            debt.set(metric, debt.get(metric).max(standing.debt));
        }
        debt
    }

    /// Extends a reservation out of the shares; nothing if it is none of these.
    pub(crate) fn extend(
        &mut self,
        id: ReservationId,
        (more, ttl): (Amounts, Option<Span>),
        now: Now,
    ) -> Option<Growth> {
        self.expire(now);
        let mut hold = match self.holds.get(id)? {
            Known::Ended(receipt) => {
                return Some(Growth::Failed(EndError::Ended(Box::new(receipt))));
            }
            Known::Open(hold) => hold,
        };
        if more != Amounts::ZERO {
            if hold.held.parts.len() > MAX_EXTENSIONS {
                return Some(Growth::TooOften);
            }
            let accounts = hold.held.accounts.iter();
            let lacks: Vec<_> = accounts
                .filter(|account| !self.has_more(account, &more, now.here))
                .cloned()
                .collect();
            if !lacks.is_empty() {
                return Some(Growth::Lacks(lacks));
            }
            let leases = self.hold(&hold.held.accounts, &more, now.here);
            hold.held.parts.push(more);
            hold.leases.push(leases);
        }
        if let Some(ttl) = ttl {
            hold.held.deadline = now.there.plus(ttl);
        }
        let (expires_at, reserved) = (hold.held.deadline, hold.held.total());
        self.holds.keep(id, hold);
        Some(Growth::Granted(Extended::Granted {
            expires_at,
            reserved,
        }))
    }

    fn has_more(&self, account: &Account, more: &Amounts, at: Moment) -> bool {
        let share = self.shares.get(&account.key);
        !touches(account, more) || share.is_some_and(|share| share.has_room(more, at))
    }
}

/// Reports.
impl Book {
    /// The reports that are due, and when the next one is.
    pub(crate) fn round(&mut self, now: Now) -> (Vec<Lease>, Moment) {
        self.expire(now);
        let mut reports = Vec::new();
        let mut next = self.next_end(now);
        let keys: Vec<Key> = self.shares.keys().cloned().collect();
        for key in keys {
            match self.due(&key, now.here) {
                Some(due) if due <= now.here => reports.extend(self.report(&key, now.here)),
                Some(due) => next = next.min(due),
                None => self.discard(&key, now.here),
            }
        }
        self.planned = next;
        (reports, next)
    }

    /// Whether a report on one of these accounts is due before the next round is planned, which is planned for then.
    pub(crate) fn presses(&mut self, accounts: &[Arc<Account>], at: Moment) -> bool {
        let dues = accounts
            .iter()
            .filter_map(|account| self.due(&account.key, at));
        let next = dues.min().unwrap_or(Moment::NEVER);
        let presses = next < self.planned;
        self.planned = self.planned.min(next);
        presses
    }

    /// When the next deadline is, on this process's clock.
    fn next_end(&self, now: Now) -> Moment {
        let end = self.holds.next_end();
        end.map_or(Moment::NEVER, |end| {
            now.here
                .plus(end.since(now.there).into())
                .plus(Duration::from_millis(1))
        })
    }

    /// When a report of an account's share is due.
    fn due(&self, key: &[u8], at: Moment) -> Option<Moment> {
        let share = self.shares.get(key)?;
        share.due(&self.need(share, at), at)
    }

    fn report(&mut self, key: &[u8], at: Moment) -> Option<Lease> {
        let need = self.need(self.shares.get(key)?, at);
        self.turn += 1;
        let share = self.shares.get_mut(key)?;
        Some(share.report(&need, self.turn, at))
    }

    /// Asks for what an extension lacks; nothing while another report is on its way.
    pub(crate) fn report_ahead(
        &mut self,
        account: &Arc<Account>,
        lack: &Amounts,
        at: Moment,
    ) -> Option<Lease> {
        let share = self.shares.entry(account.key.clone());
        let share = share.or_insert_with(|| Share::new(account.clone()));
        if share.is_reporting() {
            return None;
        }
        let life = self.need(self.shares.get(&account.key)?, at).life;
        self.turn += 1;
        let share = self.shares.get_mut(&account.key)?;
        Some(share.report_ahead((lack, life), self.turn, at))
    }

    /// Takes in the answer to a report.
    pub(crate) fn answered(
        &mut self,
        lease: &Lease,
        said: Said,
        (found, journey): (Option<Found<'_>>, Journey),
    ) {
        if let Some(share) = self.shares.get_mut(&lease.account.key) {
            share.answered(lease.turn, said, found, journey);
        }
    }

    /// A report got no answer.
    pub(crate) fn failed(&mut self, lease: &Lease, at: Moment) {
        if let Some(share) = self.shares.get_mut(&lease.account.key) {
            share.failed(lease.turn, at);
        }
    }

    fn discard(&mut self, key: &[u8], at: Moment) {
        let useless = self.shares.get(key).is_some_and(|share| {
            let pace = self.paces.get(key);
            share.is_void() && pace.is_none_or(|pace| pace.is_idle(at, IDLE))
        });
        if useless {
            self.shares.remove(key);
        }
    }

    /// Somebody was denied because of this process's share.
    pub(crate) fn recall(&mut self, key: &[u8], at: Moment) {
        if let Some(share) = self.shares.get_mut(key) {
            share.recall(at);
        }
    }

    /// Gives back at once what is left of an account's share; a report on its way will be followed by another.
    pub(crate) fn give_back(&mut self, key: &[u8], at: Moment) -> Option<Lease> {
        let share = self.shares.get_mut(key).filter(|share| share.has_left())?;
        share.recall(at);
        match share.is_reporting() {
            true => None,
            false => self.report(key, at),
        }
    }

    /// What stays taken of these accounts' shares that are being given back.
    pub(crate) fn kept_of_returning(&self, accounts: &[Arc<Account>]) -> Vec<Option<Vec<u64>>> {
        let share = |account: &Arc<Account>| self.shares.get(&account.key);
        let kept = accounts
            .iter()
            .map(|account| share(account)?.kept_of_returning());
        kept.collect()
    }

    /// Other rules are in force: shares are given back, and those of rules that have gone are forgotten.
    pub(crate) fn replace(&mut self, desk: &Desk, at: Moment) {
        self.shares.retain(|_, share| {
            let account = desk.current_account(&share.account);
            let stays = account.map(|account| share.rename(account, at));
            stays.is_some()
        });
    }

    /// Nothing is decided here from now on; all that is held counts as used.
    pub(crate) fn close(&mut self) {
        self.closed = true;
        self.shares.values_mut().for_each(Share::close);
    }

    /// Whether a demand that does not fit because of others' shares may be asked again now.
    pub(crate) fn may_linger(&mut self, accounts: &[Arc<Account>], at: Moment) -> bool {
        let mut lingers = false;
        for account in accounts {
            let pace = self.paces.get_mut(&account.key);
            lingers |= pace.is_some_and(|pace| pace.may_linger(at));
        }
        lingers
    }

    /// The counters of these accounts without what is left of the shares here.
    pub(crate) fn counters_of(&self, accounts: &[Arc<Account>]) -> Vec<Vec<remote::Seen>> {
        accounts
            .iter()
            .map(|account| self.counters(account))
            .collect()
    }

    /// Whether there is no share left to report on.
    pub(crate) fn is_empty(&self) -> bool {
        self.shares.values().all(Share::is_void)
    }
}

/// Whether a demand wants anything of an account.
fn touches(account: &Account, demand: &Amounts) -> bool {
    let mut limits = account.rule.rule.limits();
    limits.any(|limit| demand.get(limit.metric()) > 0)
}

/// Whether a rule's counters can be shared out: calls in flight cannot, as nothing of them ever comes back by itself.
fn is_leasable(account: &Account) -> bool {
    let mut limits = account.rule.rule.limits();
    limits.all(|limit| limit.metric() != Metric::CONCURRENCY)
}

/// Whether it admits out of its share alone when the store cannot be reached.
fn shares_alone(account: &Account) -> bool {
    let rule = &account.rule.rule;
    rule.is_enforced() && rule.store_down() == StoreDown::Share
}

/// Whether it admits nothing when the store cannot be reached.
fn closes(account: &Account) -> bool {
    let rule = &account.rule.rule;
    rule.is_enforced() && rule.store_down() == StoreDown::Closed
}

/// Whether an account has only calendar windows, and those that a reservation was made in are over.
fn is_past(account: &Account, hold: &Hold, now: Time) -> bool {
    let mut limits = account.rule.rule.limits();
    limits.all(|limit| match limit.numbers(now) {
        Numbers::Fixed { from, .. } => micros(hold.made) < from,
        _ => false,
    })
}
