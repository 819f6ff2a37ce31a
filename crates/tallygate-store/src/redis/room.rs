//! The waiting room: the callers of this process that wait, by the counter they wait for.
//!
//! A line's first caller is entered in the store with its arrival, and those of all processes are served there in
//! that order; the others wait here. Each line has a keeper, a task that asks for the first caller: at the exact instant its
//! counter has room, when the store or a settlement of this process says that something has changed, and every [`BEAT`], so
//! that its place is kept and a message that was lost costs no more than that.
use super::desk::views;
use super::link::LinkError;
use super::names::Account;
use super::record::Held;
use super::script::{Op, Stand};
use super::sheet::{Order, micros};
use super::store::{Errand, Outcomes, Shared, Turn};
use crate::mailbox::{Receiver, Sender, mailbox};
use crate::store::StoreError;
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;
use tallygate_core::remote::{self, Block, Judgement};
use tallygate_core::{Decision, FullError, ReservationId, Time};
use tokio::sync::Notify;
use tokio::time::Instant;

/// How often a place in the store's line is made good.
pub(crate) const BEAT: Duration = Duration::from_millis(250);

/// How long a place is kept without.
pub(crate) const STAY: Duration = Duration::from_millis(700);

/// An account's key and the number of one of its limits.
pub(crate) type Place = (Vec<u8>, usize);

/// What a caller in line is told.
type Answer = Result<Decision, StoreError>;

/// The lines of this process.
#[derive(Default)]
pub(crate) struct Room {
    lines: Mutex<Lines>,
    /// Callers that are known to stand in line.
    standing: AtomicUsize,
    /// Attempts under way for callers that have left.
    unsure: AtomicUsize,
    /// The most callers that may wait at once; zero: as many as come.
    most: AtomicUsize,
}

#[derive(Default)]
struct Lines {
    by_place: BTreeMap<Place, Line>,
    last_order: u64,
    waiting: usize,
}

#[derive(Default)]
struct Line {
    waiters: BTreeMap<u64, Waiter>,
    bell: Arc<Notify>,
    /// The order of the caller that is being asked for.
    asking: Option<u64>,
    /// Whether that caller has left since.
    left: bool,
    /// Whether the place is entered in the store.
    entered: bool,
}

/// A caller in line.
struct Waiter {
    errand: Arc<Errand>,
    /// What it wants of the counter it waits for.
    amount: u64,
    since: Instant,
    /// When its patience ends, whatever the server's clock is set to meanwhile.
    until: Instant,
    counted: bool,
    reply: Sender<Answer>,
}

/// How long a caller waits: by the server's clock, and by this machine's.
#[derive(Debug, Clone, Copy)]
struct Until {
    shown: Time,
    since: Instant,
    at: Instant,
}

/// The longest wait: longer than any process lives.
const LONGEST: Duration = Duration::from_secs(3650 * 86_400);

/// A caller's hold on its place.
struct Visit {
    shared: Arc<Shared>,
    order: u64,
    receiver: Receiver<Answer>,
    done: bool,
}

/// What a line is for.
struct Standing {
    account: Arc<Account>,
    limit: usize,
}

/// Who a keeper asks for next.
struct Next {
    order: u64,
    errand: Arc<Errand>,
    stand: Stand,
}

impl Until {
    fn after(now: Time, wait: Duration) -> Self {
        let since = Instant::now();
        Self {
            shown: now.plus(wait.into()),
            since,
            at: since + wait.min(LONGEST),
        }
    }
}

impl Room {
    /// Room for so many callers.
    pub(crate) fn bound(&self, most: usize) {
        self.most.store(most, Ordering::SeqCst);
    }

    pub(crate) fn waiting(&self) -> usize {
        self.standing.load(Ordering::SeqCst)
    }

    pub(crate) fn unsure(&self) -> usize {
        self.unsure.load(Ordering::SeqCst)
    }

    /// Has the lines of these accounts asked again.
    pub(crate) fn ring(&self, accounts: &[Arc<Account>]) {
        let lines = self.lines.lock();
        if lines.by_place.is_empty() {
            return;
        }
        for account in accounts {
            for limit in 0..account.rule.rule.limits().len() {
                if let Some(line) = lines.by_place.get(&(account.key.clone(), limit)) {
                    line.bell.notify_one();
                }
            }
        }
    }

    /// Has a line asked again.
    pub(crate) fn ring_at(&self, place: &Place) {
        if let Some(line) = self.lines.lock().by_place.get(place) {
            line.bell.notify_one();
        }
    }

    /// Has every line asked again.
    pub(crate) fn ring_all(&self) {
        let lines = self.lines.lock();
        lines
            .by_place
            .values()
            .for_each(|line| line.bell.notify_one());
    }

    /// A line of this process that a demand touches: the first that is found.
    fn touched(&self, errand: &Errand) -> Option<Place> {
        let lines = self.lines.lock();
        if lines.by_place.is_empty() {
            return None;
        }
        let mut places = errand.places();
        places.find(|place| lines.by_place.contains_key(place))
    }

    /// Puts a caller in a line; answers whether the line is new and wants a keeper.
    fn enter(&self, place: &Place, order: u64, mut waiter: Waiter) -> bool {
        let mut lines = self.lines.lock();
        lines.waiting += 1;
        let is_new = !lines.by_place.contains_key(place);
        let line = lines.by_place.entry(place.clone()).or_default();
        if line.entered && !waiter.counted {
            waiter.counted = true;
            self.standing.fetch_add(1, Ordering::SeqCst);
        }
        line.waiters.insert(order, waiter);
        line.bell.notify_one();
        is_new
    }

    /// Takes a caller out, wherever it stands.
    fn take(&self, order: u64, by_itself: bool) -> Option<Waiter> {
        let mut lines = self.lines.lock();
        let line = lines
            .by_place
            .values_mut()
            .find(|line| line.waiters.contains_key(&order))?;
        let waiter = line.waiters.remove(&order)?;
        if by_itself && line.asking == Some(order) && !line.left {
            line.left = true;
            self.unsure.fetch_add(1, Ordering::SeqCst);
        }
        line.bell.notify_one();
        lines.waiting -= 1;
        if waiter.counted {
            self.standing.fetch_sub(1, Ordering::SeqCst);
        }
        Some(waiter)
    }

    /// The first of a line, to be asked for; an empty line is closed.
    fn next(&self, place: &Place, turn: Time) -> Option<Next> {
        let mut lines = self.lines.lock();
        let line = lines.by_place.get_mut(place)?;
        let Some((order, first)) = line.waiters.first_key_value() else {
            lines.by_place.remove(place);
            return None;
        };
        let queued = line
            .waiters
            .values()
            .map(|waiter| waiter.amount)
            .sum::<u64>();
        let after = line.waiters.keys().nth(1).copied().unwrap_or(0);
        let stand = Stand {
            account: 0,
            limit: place.1,
            queued,
            stay: u64::try_from(STAY.as_micros()).unwrap_or(u64::MAX),
            turn: micros(turn),
            after,
            after_queued: queued - first.amount,
        };
        let next = Next {
            order: *order,
            errand: first.errand.clone(),
            stand,
        };
        line.asking = Some(next.order);
        line.left = false;
        Some(next)
    }

    /// The caller that was asked for is known to be in line, if it was not answered.
    fn asked(&self, place: &Place, stands: bool) {
        let mut lines = self.lines.lock();
        let Some(line) = lines.by_place.get_mut(place) else {
            return;
        };
        line.asking = None;
        if std::mem::take(&mut line.left) {
            self.unsure.fetch_sub(1, Ordering::SeqCst);
        }
        if stands {
            line.entered = true;
            for waiter in line.waiters.values_mut().filter(|waiter| !waiter.counted) {
                waiter.counted = true;
                self.standing.fetch_add(1, Ordering::SeqCst);
            }
        }
    }

    /// Those of a line whose patience has ended.
    fn impatient(&self, place: &Place) -> Vec<(u64, Arc<Errand>)> {
        let lines = self.lines.lock();
        let waiters = lines
            .by_place
            .get(place)
            .into_iter()
            .flat_map(|line| &line.waiters);
        let now = Instant::now();
        let over = waiters.filter(|(_, waiter)| waiter.until <= now);
        over.map(|(order, waiter)| (*order, waiter.errand.clone()))
            .collect()
    }

    /// How long the patience of the next of a line lasts, if any does end.
    fn patience(&self, place: &Place) -> Option<Duration> {
        let lines = self.lines.lock();
        let waiters = lines
            .by_place
            .get(place)
            .into_iter()
            .flat_map(|line| line.waiters.values());
        let next = waiters.map(|waiter| waiter.until).min();
        next.map(|until| until.saturating_duration_since(Instant::now()))
    }

    fn bell(&self, place: &Place) -> Option<Arc<Notify>> {
        let lines = self.lines.lock();
        lines.by_place.get(place).map(|line| line.bell.clone())
    }

    /// Those who wait under an idempotency key.
    fn namesakes(&self, name: [u8; 16]) -> Vec<(u64, Arc<Errand>)> {
        let lines = self.lines.lock();
        let waiters = lines.by_place.values().flat_map(|line| &line.waiters);
        let named = waiters.filter(|(_, waiter)| waiter.errand.ask.name == Some(name));
        named
            .map(|(order, waiter)| (*order, waiter.errand.clone()))
            .collect()
    }

    /// Everybody, by arrival; the lines are empty then, and their keepers go.
    fn everybody(&self) -> Vec<(u64, Waiter)> {
        let mut lines = self.lines.lock();
        let mut all = Vec::new();
        for line in lines.by_place.values_mut() {
            all.extend(std::mem::take(&mut line.waiters));
            line.bell.notify_one();
        }
        lines.waiting -= all.len();
        all.sort_by_key(|(order, _)| *order);
        all
    }

    /// The order of one who comes now.
    fn arrive(&self, now: Time) -> Result<u64, FullError> {
        let most = self.most.load(Ordering::SeqCst);
        let mut lines = self.lines.lock();
        if most > 0 && lines.waiting >= most {
            return Err(FullError::Waiters(lines.waiting));
        }
        lines.last_order = micros(now).max(lines.last_order + 1);
        Ok(lines.last_order)
    }
}

impl Shared {
    /// Decides, or lets the caller wait in line.
    pub(crate) async fn wait(self: &Arc<Self>, errand: Errand, patience: Duration) -> Answer {
        let errand = Arc::new(errand);
        let until = Until::after(self.now(), patience);
        let place = match self.room.touched(&errand) {
            Some(place) => {
                return self.join(errand, place, until).await;
            }
            None => match self.attempt_last(&errand).await? {
                Outcomes::Admitted(admission, _) => return Ok(Decision::Admit(admission)),
                Outcomes::Never(never) => return Ok(never),
                Outcomes::Blocked(blocks, now) => {
                    if is_hopeless(&blocks, until.shown) {
                        return Ok(remote::denial(blocks, now));
                    }
                    errand.place_of(&blocks).unwrap_or_default()
                }
            },
        };
        let order = self.room.arrive(self.now())?;
        self.stand(errand, (place, order), until).await
    }

    /// Joins a line of this process, unless the wait cannot help.
    async fn join(self: &Arc<Self>, errand: Arc<Errand>, place: Place, until: Until) -> Answer {
        let order = self.room.arrive(self.now())?;
        if let Ok((sheets, now)) = self.look_at(&errand).await {
            let views = views(&errand.ask.accounts, &sheets);
            match remote::judge(&views, &errand.ask.demand, now) {
                Judgement::Never(never) => return Ok(Decision::Never(never)),
                Judgement::Blocked(blocks) if is_hopeless(&blocks, until.shown) => {
                    return Ok(remote::denial(blocks, now));
                }
                _ => {}
            }
        }
        self.stand(errand, (place, order), until).await
    }

    async fn stand(
        self: &Arc<Self>,
        errand: Arc<Errand>,
        (place, order): (Place, u64),
        until: Until,
    ) -> Answer {
        let (reply, receiver) = mailbox();
        let waiter = Waiter {
            amount: errand.amount_at(&place),
            errand: errand.clone(),
            since: until.since,
            until: until.at,
            counted: false,
            reply,
        };
        self.line_up(&place, order, waiter);
        let visit = Visit {
            shared: self.clone(),
            order,
            receiver,
            done: false,
        };
        visit.answer().await
    }

    fn line_up(self: &Arc<Self>, place: &Place, order: u64, waiter: Waiter) {
        let account = waiter.errand.account_at(place).cloned();
        let is_new = self.room.enter(place, order, waiter);
        if let (true, Some(account)) = (is_new, account) {
            let stand = Standing {
                account,
                limit: place.1,
            };
            self.pump.runtime().spawn(keep(Arc::downgrade(self), stand));
        }
    }

    /// Tells a caller in line; what was admitted for one that has left is given back.
    async fn tell(&self, order: u64, answer: Answer, held: Option<&Arc<Held>>) {
        let id = match &answer {
            Ok(Decision::Admit(admission)) => Some(admission.id),
            _ => None,
        };
        let refused = match self.room.take(order, false) {
            Some(waiter) => {
                let waited = waiter.since.elapsed();
                waiter.reply.send(with_wait(answer, waited)).is_some()
            }
            None => true,
        };
        if let (true, Some(id), Some(held)) = (refused, id, held) {
            self.withdraw(id, held).await;
        }
    }

    /// Tells those who wait under an idempotency key what was reserved under it.
    async fn tell_namesakes(self: &Arc<Self>, name: [u8; 16]) {
        for (order, errand) in self.room.namesakes(name) {
            let answer = self.attempt(&errand, &Turn::newcomer()).await;
            if let Ok(Outcomes::Admitted(admission, held)) = answer {
                self.tell(order, Ok(Decision::Admit(admission)), held.as_ref())
                    .await;
            }
        }
    }

    async fn admit_waiter(
        self: &Arc<Self>,
        order: u64,
        errand: &Errand,
        admitted: (tallygate_core::Admission, Option<Arc<Held>>),
    ) {
        let (admission, held) = admitted;
        self.tell(order, Ok(Decision::Admit(admission)), held.as_ref())
            .await;
        if let Some(name) = errand.ask.name {
            self.tell_namesakes(name).await;
        }
    }

    /// Answers a caller whose patience has ended: its turn may have come at the same instant.
    async fn lose_patience(self: &Arc<Self>, order: u64, errand: &Errand, stand: &Standing) {
        let turn = Turn {
            order: Order(order),
            stand: None,
        };
        match self.attempt(errand, &turn).await {
            Ok(Outcomes::Admitted(admission, held)) => {
                self.admit_waiter(order, errand, (admission, held)).await;
            }
            Ok(Outcomes::Never(never)) => self.tell(order, Ok(never), None).await,
            Ok(Outcomes::Blocked(..)) => {
                let gone = self.room.take(order, false);
                // The others' place is made good first: nobody is behind who has gone.
                if self.serve(&stand.place(), Time::ZERO).await.is_none() {
                    self.leave(stand).await;
                }
                let denial = self.newcomers_denial(errand).await;
                if let Some(gone) = gone {
                    gone.reply.send(denial);
                }
            }
            Err(error) => {
                self.outage.give_up(errand);
                self.tell(order, Err(error.into()), None).await;
            }
        }
    }

    /// What somebody is told who comes now and finds no room.
    async fn newcomers_denial(&self, errand: &Errand) -> Answer {
        let (sheets, now) = self.look_at(errand).await?;
        let views = views(&errand.ask.accounts, &sheets);
        Ok(match remote::judge(&views, &errand.ask.demand, now) {
            Judgement::Blocked(blocks) => remote::denial(blocks, now),
            Judgement::Never(never) => Decision::Never(never),
            Judgement::Free => remote::denial(Vec::new(), now),
        })
    }

    /// Puts everybody in line anew: the rules have changed.
    pub(crate) fn rehome(self: &Arc<Self>) {
        let everybody = self.room.everybody();
        let shared = self.clone();
        self.pump.runtime().spawn(async move {
            for (order, waiter) in everybody {
                shared.settle_in(order, waiter).await;
            }
        });
    }

    async fn settle_in(self: &Arc<Self>, order: u64, mut waiter: Waiter) {
        let errand = Arc::new(self.renewed(&waiter.errand));
        waiter.errand = errand.clone();
        let turn = Turn {
            order: Order(order),
            stand: None,
        };
        let outcome = self.attempt(&errand, &turn).await;
        let place = match &outcome {
            Ok(Outcomes::Blocked(blocks, _)) => errand.place_of(blocks),
            _ => None,
        };
        match (outcome, place) {
            (_, Some(place)) => {
                waiter.amount = errand.amount_at(&place);
                self.line_up(&place, order, waiter);
            }
            (outcome, None) => self.dismiss(waiter, outcome).await,
        }
    }

    async fn dismiss(&self, waiter: Waiter, outcome: Result<Outcomes, LinkError>) {
        if waiter.counted {
            self.room.standing.fetch_sub(1, Ordering::SeqCst);
        }
        let waited = waiter.since.elapsed();
        match outcome {
            Ok(Outcomes::Admitted(admission, held)) => {
                let id = admission.id;
                let answer = with_wait(Ok(Decision::Admit(admission)), waited);
                if let (Some(_), Some(held)) = (waiter.reply.send(answer), held) {
                    self.withdraw(id, &held).await;
                }
            }
            Ok(Outcomes::Never(never)) => drop(waiter.reply.send(Ok(never))),
            Ok(Outcomes::Blocked(blocks, now)) => {
                drop(waiter.reply.send(Ok(remote::denial(blocks, now))));
            }
            Err(error) => {
                self.outage.give_up(&waiter.errand);
                drop(waiter.reply.send(Err(error.into())));
            }
        }
    }

    /// Moves the first of a line to that of another counter.
    fn move_on(self: &Arc<Self>, order: u64, there: &Place) {
        if let Some(mut waiter) = self.room.take(order, false) {
            waiter.amount = waiter.errand.amount_at(there);
            waiter.counted = false;
            self.line_up(there, order, waiter);
        }
    }

    /// Asks once for the first of a line; answers until when there is nothing to do, or nothing when the line is empty.
    async fn serve(self: &Arc<Self>, place: &Place, turn: Time) -> Option<Time> {
        let next = self.room.next(place, turn)?;
        let outcome = self.attempt(&next.errand, &next.turn(place)).await;
        let stands = matches!(outcome, Ok(Outcomes::Blocked(..)));
        let again = match outcome {
            Ok(Outcomes::Admitted(admission, held)) => {
                self.admit_waiter(next.order, &next.errand, (admission, held))
                    .await;
                Time::ZERO
            }
            Ok(Outcomes::Never(never)) => {
                self.tell(next.order, Ok(never), None).await;
                Time::ZERO
            }
            Ok(Outcomes::Blocked(blocks, now)) => match next.errand.place_of(&blocks) {
                Some(there) if there != *place => {
                    self.move_on(next.order, &there);
                    Time::ZERO
                }
                _ => latest(&blocks).map_or(now, |block| block.instant),
            },
            // The store is out of reach: whoever waits goes on waiting, as long as it will.
            Err(error) => self.now().plus(retry_after(&error).into()),
        };
        self.room.asked(place, stands);
        Some(again)
    }
}

/// Keeps a line until it is empty.
async fn keep(shared: Weak<Shared>, stand: Standing) {
    let place = stand.place();
    let mut turn = Time::ZERO;
    loop {
        let Some(strong) = shared.upgrade() else {
            return;
        };
        let Some(bell) = strong.room.bell(&place) else {
            return;
        };
        match strong.serve(&place, turn).await {
            None => return strong.leave(&stand).await,
            Some(again) => turn = again,
        }
        for (order, errand) in strong.room.impatient(&place) {
            strong.lose_patience(order, &errand, &stand).await;
            turn = Time::ZERO;
        }
        let clock = strong.pump.clock();
        let patience = strong.room.patience(&place).unwrap_or(BEAT);
        let pause = clock.until(turn).min(patience).min(BEAT);
        drop(strong);
        if !pause.is_zero() {
            // Either way the line is asked again.
            let _ = tokio::time::timeout(pause, bell.notified()).await;
        }
    }
}

impl Shared {
    /// Gives up a place in the store's line, unless somebody has come to stand there.
    async fn leave(&self, stand: &Standing) {
        if self.room.bell(&stand.place()).is_none() {
            self.denials.outdate(std::slice::from_ref(&stand.account));
            let op = Op::Leave(stand.account.clone(), stand.limit);
            // A place that is not given up lapses.
            let _ = self.pump.ask(stand.account.tag, op).await;
        }
    }
}

impl Standing {
    fn place(&self) -> Place {
        (self.account.key.clone(), self.limit)
    }
}

impl Next {
    fn turn(&self, place: &Place) -> Turn {
        Turn {
            order: Order(self.order),
            stand: Some((place.0.clone(), self.stand.clone())),
        }
    }
}

impl Visit {
    async fn answer(mut self) -> Answer {
        let answer = (&mut self.receiver).await;
        self.done = true;
        answer
    }
}

impl Drop for Visit {
    fn drop(&mut self) {
        if self.done {
            return;
        }
        self.shared.room.take(self.order, true);
        if let Some(Ok(Decision::Admit(admission))) = self.receiver.leave() {
            let shared = self.shared.clone();
            shared.room.unsure.fetch_add(1, Ordering::SeqCst);
            let runtime = shared.pump.runtime().clone();
            runtime.spawn(async move {
                shared.withdraw_unheard(admission.id).await;
                shared.room.unsure.fetch_sub(1, Ordering::SeqCst);
            });
        }
    }
}

impl Shared {
    async fn withdraw_unheard(&self, id: ReservationId) {
        if let Some(held) = self.holds.get(id) {
            self.withdraw(id, &held).await;
        }
    }
}

impl Errand {
    /// The counters of enforced limits that the demand touches.
    pub(crate) fn places(&self) -> impl Iterator<Item = Place> + '_ {
        let accounts = self.ask.accounts.iter();
        let enforced = accounts.filter(|account| account.rule.rule.is_enforced());
        enforced.flat_map(|account| {
            let limits = account.rule.rule.limits().enumerate();
            let touched = limits.filter(|(_, limit)| self.ask.demand.get(limit.metric()) > 0);
            touched.map(|(at, _)| (account.key.clone(), at))
        })
    }

    fn account_at(&self, place: &Place) -> Option<&Arc<Account>> {
        let mut accounts = self.ask.accounts.iter();
        accounts.find(|account| account.key == place.0)
    }

    /// What it wants of a counter.
    fn amount_at(&self, place: &Place) -> u64 {
        let account = self.account_at(place);
        let limit = account.and_then(|account| account.rule.rule.limits().nth(place.1));
        limit.map_or(0, |limit| self.ask.demand.get(limit.metric()))
    }

    /// The counter of these that will have room last.
    fn place_of(&self, blocks: &[Block]) -> Option<Place> {
        let last = latest(blocks)?;
        let account = self.ask.accounts.get(last.sheet)?;
        Some((account.key.clone(), last.limit))
    }
}

fn latest(blocks: &[Block]) -> Option<&Block> {
    blocks.iter().rev().max_by_key(|block| block.instant)
}

/// Whether no wait until then could help, whatever is given back.
fn is_hopeless(blocks: &[Block], until: Time) -> bool {
    blocks.iter().any(|block| block.soonest > until)
}

fn retry_after(error: &LinkError) -> Duration {
    match error {
        LinkError::Down { retry_after, .. } => (*retry_after).max(Duration::from_millis(5)),
        LinkError::Refused { .. } => BEAT,
    }
}

fn with_wait(answer: Answer, waited: Duration) -> Answer {
    answer.map(|decision| match decision {
        Decision::Admit(mut admission) => {
            admission.waited = waited;
            Decision::Admit(admission)
        }
        other => other,
    })
}
