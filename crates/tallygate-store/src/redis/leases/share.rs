//! This process's share of one account: what the store has set aside for it, and what has become of that here.
//!
//! The store knows a share as one amount a limit. Here it is the sum of three: what is `left`, what open reservations hold,
//! and what was used and is not yet reported. Holding, using and refunding move amounts between these and never change the
//! sum; only a report does, and the store hears of it first.
use super::moment::{Moment, micros};
use crate::redis::names::Account;
use crate::redis::script::Lease;
use crate::redis::sheet::Sheet;
use std::sync::Arc;
use std::time::Duration;
use tallygate_core::remote::{self, Mark, RemoteLimit, Seen};
use tallygate_core::{Amounts, Time};

/// Between two reports of a share, unless the store has asked for one.
pub(crate) const GAP: Duration = Duration::from_millis(20);

/// How long a share does not grow once there was not plenty.
pub(crate) const REST: Duration = Duration::from_secs(1);

/// How much earlier than the store a process takes its share to have ended, and what of its life besides: clocks that
/// measure lengths differently by that much do no harm.
const MARGIN: Duration = Duration::from_millis(50);
const MARGIN_OF_LIFE: u32 = 64;

/// How long a report that got no answer waits to be sent again, at first and at most.
const SHORTEST_PAUSE: Duration = Duration::from_millis(20);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// What a share ought to be.
#[derive(Debug, Clone, Default)]
pub(crate) struct Need {
    /// What should be left; nothing: the share is not needed.
    pub(crate) target: Amounts,
    /// A share that is smaller than this is of no use.
    pub(crate) each: Amounts,
    /// How long it should live without a report.
    pub(crate) life: Duration,
    /// Whether demands are decided that concern the account.
    pub(crate) looks: bool,
}

/// A share.
#[derive(Debug)]
pub(crate) struct Share {
    pub(crate) account: Arc<Account>,
    /// One for each limit.
    portions: Vec<Portion>,
    /// Names the lease: what belongs to an earlier one has no place here any more.
    lease: u64,
    /// Whether it exists, as far as is known here.
    known: bool,
    /// Until when it may be spent.
    until: Moment,
    /// When it has surely ended unless it was renewed.
    over: Moment,
    /// When it is to be renewed.
    renewal: Moment,
    reported: Moment,
    /// Not to grow before.
    rests: Moment,
    /// Nothing is kept before: others want it, or the process ends.
    shuns: Moment,
    /// It is to be given back at once.
    asked: bool,
    flight: Option<Flight>,
    view: Option<View>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Portion {
    left: u64,
    held: u64,
    spent: u64,
    /// Used above what was held, and no part of the share.
    over: u64,
}

impl Portion {
    fn share(&self) -> u64 {
        self.left + self.held + self.spent
    }
}

/// A report on its way.
#[derive(Debug)]
struct Flight {
    lease: Lease,
    /// When it is to be sent again: it got no answer.
    again: Option<Moment>,
    /// How long it waits for that when it fails.
    pause: Duration,
}

/// The account as the last report found it, without this share.
#[derive(Debug)]
struct View {
    at: Moment,
    counters: Vec<Seen>,
    others: Vec<u64>,
    /// What was free beside all shares.
    free: Vec<u64>,
}

/// What the store said to a report.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Said {
    /// The share stands until then.
    Kept {
        grown: bool,
        /// Somebody was denied for it.
        asked: bool,
        till: Time,
    },
    /// It had ended, and was charged whole.
    Ended,
    /// A later report came first.
    Stale,
}

/// An account as a report found it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Found<'a> {
    pub(crate) sheet: &'a Sheet,
    /// The name of this process.
    pub(crate) node: [u8; 8],
}

impl Found<'_> {
    /// What other processes have set aside for them of each limit.
    fn others(&self) -> Vec<u64> {
        let mut sums = vec![0; self.sheet.counters.len()];
        let others = self.sheet.leases.iter();
        for lease in others.filter(|lease| lease.node != self.node) {
            for (sum, amount) in sums.iter_mut().zip(&lease.amounts) {
                *sum += amount;
            }
        }
        sums
    }
}

/// When a report was sent and answered, and what the store's clock showed then.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Journey {
    pub(crate) sent: Moment,
    pub(crate) heard: Moment,
    pub(crate) shown: Time,
}

impl Share {
    /// Nothing yet.
    pub(crate) fn new(account: Arc<Account>) -> Self {
        let limits = account.rule.rule.limits().len();
        Self {
            account,
            portions: vec![Portion::default(); limits],
            lease: 0,
            known: false,
            until: Moment::default(),
            over: Moment::default(),
            renewal: Moment::default(),
            reported: Moment::default(),
            rests: Moment::default(),
            shuns: Moment::default(),
            asked: false,
            flight: None,
            view: None,
        }
    }

    pub(crate) fn lease(&self) -> u64 {
        self.lease
    }

    pub(crate) fn is_spendable(&self, at: Moment) -> bool {
        self.known && at < self.until
    }

    /// Whether the demand could be taken out of it.
    pub(crate) fn has_room(&self, demand: &Amounts, at: Moment) -> bool {
        self.is_spendable(at) && self.view.is_some() && self.covers(demand)
    }

    /// Whether it is known how the account stands.
    pub(crate) fn is_seen(&self, at: Moment) -> bool {
        let view = self.view.as_ref();
        view.is_some_and(|view| at.since(view.at) < 2 * REST)
    }

    fn covers(&self, demand: &Amounts) -> bool {
        let mut pairs = self.portions.iter().zip(self.limits());
        pairs.all(|(portion, limit)| portion.left >= demand.get(limit.metric()))
    }

    /// Holds a demand that it has room for.
    pub(crate) fn hold(&mut self, demand: &Amounts) {
        self.each(|portion, limit| {
            let amount = demand.get(limit.metric());
            portion.left = portion.left.saturating_sub(amount);
            portion.held += amount;
        });
    }

    /// Of what was held, this much was used; the rest is left again.
    pub(crate) fn settle(&mut self, held: &Amounts, used: &Amounts) {
        self.each(|portion, limit| {
            let held = held.get(limit.metric()).min(portion.held);
            let used = used.get(limit.metric()).min(held);
            portion.held -= held;
            portion.spent += used;
            portion.left += held - used;
        });
    }

    /// Charges what was used above what was held: to the share if it has room, else beside it.
    pub(crate) fn charge(&mut self, excess: &Amounts, at: Moment) {
        let has_room = self.is_spendable(at) && self.covers(excess);
        self.each(|portion, limit| {
            let amount = excess.get(limit.metric());
            match has_room {
                true => {
                    portion.left -= amount;
                    portion.spent += amount;
                }
                false => portion.over += amount,
            }
        });
    }

    /// Gives back what is left as soon as can be, and keeps nothing for a while.
    pub(crate) fn recall(&mut self, at: Moment) {
        self.asked = true;
        self.shuns = self.shuns.max(at.plus(REST));
    }

    /// Uses up what is held: nobody will settle it here. Keeps nothing from now on.
    pub(crate) fn close(&mut self) {
        self.each(|portion, _| portion.spent += std::mem::take(&mut portion.held));
        self.shuns = Moment::NEVER;
        self.asked = true;
    }

    fn is_closed(&self) -> bool {
        self.shuns == Moment::NEVER
    }

    /// Is of an account under other amounts from now on.
    pub(crate) fn rename(&mut self, account: Arc<Account>, at: Moment) {
        self.account = account;
        self.view = None;
        self.recall(at);
    }

    /// Whether there is nothing of it, here or on its way.
    pub(crate) fn is_void(&self) -> bool {
        !self.known && self.flight.is_none() && !self.is_over()
    }

    fn is_over(&self) -> bool {
        self.portions.iter().any(|portion| portion.over > 0)
    }

    pub(crate) fn has_left(&self) -> bool {
        self.portions.iter().any(|portion| portion.left > 0)
    }

    pub(crate) fn is_reporting(&self) -> bool {
        self.flight.is_some()
    }

    /// What stays taken of each limit once all that is left has been given back; nothing if none of it is about to be: the
    /// report on its way brings some, or another will follow that.
    pub(crate) fn kept_of_returning(&self) -> Option<Vec<u64>> {
        let lease = &self.flight.as_ref()?.lease;
        let mut amounts = lease.back.iter().chain(&lease.more);
        if !self.has_left() && amounts.all(|amount| *amount == 0) {
            return None;
        }
        let spent = lease.spent.iter().chain(std::iter::repeat(&0));
        let portions = self.portions.iter().zip(spent);
        let kept = portions.map(|(portion, spent)| portion.held + portion.spent + spent);
        Some(kept.collect())
    }

    /// All of a limit's share, and what is left of it.
    pub(crate) fn amounts(&self, limit: usize) -> (u64, u64) {
        let portion = self.portions.get(limit).copied().unwrap_or_default();
        (portion.share(), portion.left)
    }

    /// The counters of the account, with what is taken of the share.
    pub(crate) fn counters(&self) -> Vec<Seen> {
        let Some(view) = &self.view else {
            return Vec::new();
        };
        let mut counters = view.counters.clone();
        for (at, (seen, limit)) in counters.iter_mut().zip(self.limits()).enumerate() {
            let portion = self.portions.get(at).copied().unwrap_or_default();
            let own = portion.held + portion.spent + portion.over + self.on_its_way(at);
            let taken = view.others.get(at).copied().unwrap_or(0) + own;
            seen.shared = (taken, limit.cost(taken));
        }
        counters
    }

    /// What of a limit was used and is being reported.
    fn on_its_way(&self, limit: usize) -> u64 {
        let flight = self.flight.iter();
        let lease = flight.map(|flight| &flight.lease);
        let reported = lease.flat_map(|lease| [lease.spent.get(limit), lease.over.get(limit)]);
        reported.flatten().sum()
    }

    fn limits(&self) -> impl ExactSizeIterator<Item = RemoteLimit<'_>> {
        self.account.rule.rule.limits()
    }

    fn each(&mut self, change: impl Fn(&mut Portion, RemoteLimit<'_>)) {
        let limits = self.account.rule.rule.limits();
        for (portion, limit) in self.portions.iter_mut().zip(limits) {
            change(portion, limit);
        }
    }
}

impl Need {
    fn is_nothing(&self) -> bool {
        self.target == Amounts::ZERO
    }
}

/// Reports.
impl Share {
    /// When the next report is due; none while one is on its way or none is needed.
    pub(crate) fn due(&self, need: &Need, at: Moment) -> Option<Moment> {
        if let Some(flight) = &self.flight {
            return flight.again;
        }
        let soon = self.reported.plus(GAP);
        if self.known && self.is_closed() {
            return Some(at);
        }
        if self.known && self.has_left() {
            if self.asked {
                return Some(at);
            }
            if need.is_nothing() || at < self.shuns {
                return Some(soon);
            }
        }
        if self.is_over() {
            return Some(soon);
        }
        let growth = self.grows_at(need, at);
        let growth = growth.map(|when| when.max(soon).max(self.rests).max(self.shuns));
        let look = self.view.as_ref().map_or(at, |view| view.at.plus(REST));
        let renewal = match self.known {
            true if at < self.until => Some(self.renewal),
            true => Some(self.over.max(soon)),
            // What a demand does not touch is looked at all the same: its caller is told how it stands.
            false => need.looks.then_some(look.max(soon)),
        };
        growth.into_iter().chain(renewal).min()
    }

    /// A report: what was used, and what is needed.
    pub(crate) fn report(&mut self, need: &Need, turn: u64, at: Moment) -> Lease {
        if let Some(flight) = &mut self.flight {
            flight.again = None;
            return flight.lease.clone();
        }
        let keeps_none = self.asked || need.is_nothing() || at < self.shuns;
        let rests = keeps_none || at < self.rests;
        let more = self.growth(need, at).filter(|_| !rests);
        let target = if keeps_none {
            Amounts::ZERO
        } else {
            need.target
        };
        let back: Vec<u64> = self.numbers(|portion, limit| {
            let target = target.get(limit.metric());
            match portion.left > target.saturating_mul(2) {
                true => portion.left - target,
                false => 0,
            }
        });
        let more = more.unwrap_or_else(|| vec![0; back.len()]);
        let spare = self.numbers(|_, limit| spare(limit));
        self.asked = false;
        let mut lease = self.take_off(turn, more, at);
        lease.ttl = micros(need.life);
        lease.spare = spare;
        for (portion, back) in self.portions.iter_mut().zip(&back) {
            portion.left -= back;
        }
        lease.back = back;
        self.send(lease)
    }

    fn send(&mut self, lease: Lease) -> Lease {
        self.flight = Some(Flight {
            lease: lease.clone(),
            again: None,
            pause: SHORTEST_PAUSE,
        });
        lease
    }

    /// A report got no answer: it is sent again, as it may have arrived.
    pub(crate) fn failed(&mut self, turn: u64, at: Moment) {
        if let Some(flight) = self
            .flight
            .as_mut()
            .filter(|flight| flight.lease.turn == turn)
        {
            flight.again = Some(at.plus(flight.pause));
            flight.pause = (flight.pause * 2).min(LONGEST_PAUSE);
        }
    }

    /// A report that asks for what an extension lacks, plenty or not; the share then lives for `life`.
    pub(crate) fn report_ahead(
        &mut self,
        (lack, life): (&Amounts, Duration),
        turn: u64,
        at: Moment,
    ) -> Lease {
        let more =
            self.numbers(|portion, limit| lack.get(limit.metric()).saturating_sub(portion.left));
        let none = vec![0; more.len()];
        let mut lease = self.take_off(turn, more, at);
        lease.ttl = micros(life);
        lease.ahead = true;
        lease.spare.clone_from(&none);
        lease.back = none;
        self.send(lease)
    }

    fn take_off(&mut self, turn: u64, more: Vec<u64>, at: Moment) -> Lease {
        let spent: Vec<u64> = self.numbers(|portion, _| portion.spent);
        let over: Vec<u64> = self.numbers(|portion, _| portion.over);
        self.each(|portion, _| (portion.spent, portion.over) = (0, 0));
        if !self.known {
            self.lease = turn;
        }
        self.reported = at;
        Lease {
            account: self.account.clone(),
            ttl: 0,
            turn,
            known: self.known,
            ahead: false,
            spent,
            over,
            back: Vec::new(),
            more,
            spare: Vec::new(),
        }
    }

    /// Takes in what the store said to a report.
    pub(crate) fn answered(
        &mut self,
        turn: u64,
        said: Said,
        found: Option<Found<'_>>,
        journey: Journey,
    ) {
        let Some(flight) = self.flight.take_if(|flight| flight.lease.turn == turn) else {
            return;
        };
        let lease = flight.lease;
        if let Some(found) = found {
            self.look(&found, &journey);
        }
        let Said::Kept { grown, asked, till } = said else {
            return self.end(&lease, &journey);
        };
        if grown {
            for (portion, more) in self.portions.iter_mut().zip(&lease.more) {
                portion.left += more;
            }
        } else if lease.more.iter().any(|more| *more > 0) {
            self.rests = journey.heard.plus(REST);
        }
        if asked {
            self.recall(journey.heard);
        }
        self.known = self.portions.iter().any(|portion| portion.share() > 0);
        self.renew(till.since(journey.shown).into(), &journey);
    }

    /// The share stands for `life` from the moment of the answer, which was between sending and hearing.
    fn renew(&mut self, life: Duration, journey: &Journey) {
        let margin = MARGIN + life / MARGIN_OF_LIFE;
        self.until = journey.sent.plus(life.saturating_sub(margin));
        self.over = journey.heard.plus(life + margin);
        self.renewal = journey.sent.plus(life / 2).max(self.reported.plus(GAP));
    }

    /// The share is no more. One that the store lost before its time was not charged: what was used of it still has to be.
    fn end(&mut self, lease: &Lease, journey: &Journey) {
        let is_lost = self.is_spendable(journey.heard);
        for (at, portion) in self.portions.iter_mut().enumerate() {
            let of = |amounts: &[u64]| amounts.get(at).copied().unwrap_or(0);
            let lost = match is_lost {
                true => portion.held + portion.spent + of(&lease.spent),
                false => 0,
            };
            let over = portion.over + of(&lease.over) + lost;
            *portion = Portion {
                over,
                ..Portion::default()
            };
        }
        (self.known, self.lease, self.until) = (false, 0, Moment::default());
    }

    fn look(&mut self, found: &Found<'_>, journey: &Journey) {
        let (rule, sheet) = (&self.account.rule.rule, found.sheet);
        let own = remote::Sheet {
            rule,
            counters: &sheet.counters,
        };
        let free = remote::standings(&[own], journey.shown);
        let mut counters = sheet.counters.clone();
        for seen in &mut counters {
            seen.shared = (0, Mark::default());
        }
        self.view = Some(View {
            at: journey.heard,
            counters,
            others: found.others(),
            free: free.iter().map(|standing| standing.remaining).collect(),
        });
    }

    /// When it should grow: now, or once it is not known any more that it cannot.
    fn grows_at(&self, need: &Need, at: Moment) -> Option<Moment> {
        let unknown = self.view.as_ref().map(|view| view.at.plus(REST));
        let mut moments = [Some(at), unknown.filter(|then| *then > at)]
            .into_iter()
            .flatten();
        moments.find(|then| self.growth(need, *then).is_some() && self.is_low(need, *then))
    }

    /// How much it should grow by; none if that is of no use.
    fn growth(&self, need: &Need, at: Moment) -> Option<Vec<u64>> {
        if need.is_nothing() {
            return None;
        }
        let mut more = Vec::with_capacity(self.portions.len());
        for (place, limit) in self.limits().enumerate() {
            let left = self.portions.get(place).map_or(0, |portion| portion.left);
            let target = need.target.get(limit.metric());
            let most = left.saturating_add(self.most(place, limit, at));
            if target > 0 && most < need.each.get(limit.metric()) {
                return None;
            }
            more.push(target.min(most).saturating_sub(left));
        }
        more.iter().any(|more| *more > 0).then_some(more)
    }

    /// How much it can grow by so that there is plenty all the same, and as much again for others.
    fn most(&self, place: usize, limit: RemoteLimit<'_>, at: Moment) -> u64 {
        let view = self.view.as_ref().filter(|view| at.since(view.at) < REST);
        let free = view.and_then(|view| view.free.get(place));
        match free {
            // A limit that does not deny has plenty always.
            _ if !self.account.rule.rule.is_enforced() => u64::MAX / 4,
            Some(free) => free.saturating_sub(spare(limit)) / 2,
            None => limit.largest() / 4,
        }
    }

    /// Whether half of what is needed is gone.
    fn is_low(&self, need: &Need, at: Moment) -> bool {
        self.limits().enumerate().any(|(place, limit)| {
            let left = self.portions.get(place).map_or(0, |portion| portion.left);
            let target = need.target.get(limit.metric());
            let most = left.saturating_add(self.most(place, limit, at));
            left.saturating_mul(2) < target.min(most)
        })
    }

    fn numbers(&self, of: impl Fn(&Portion, RemoteLimit<'_>) -> u64) -> Vec<u64> {
        let pairs = self.portions.iter().zip(self.limits());
        pairs.map(|(portion, limit)| of(portion, limit)).collect()
    }
}

/// What must stay free beside all shares: that is plenty.
fn spare(limit: RemoteLimit<'_>) -> u64 {
    limit.largest() / 2
}
