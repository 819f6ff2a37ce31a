//! Those who keep the lines, and those who stand in them.
use super::{Answer, BEAT, Next, Place, Question, Until, Waiter, Ways};
use crate::mailbox::{Receiver, mailbox};
use crate::redis::desk::views;
use crate::redis::link::LinkError;
use crate::redis::names::Account;
use crate::redis::record::Held;
use crate::redis::script::Op;
use crate::redis::sheet::Order;
use crate::redis::store::{Errand, Outcomes, Shared, Turn};
use futures_util::future::join_all;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};
use std::time::Duration;
use tallygate_core::remote::{self, Block, Judgement};
use tallygate_core::{Decision, ReservationId, Time, WaitsFor};
use tokio::time::Instant;

/// A caller's hold on its place.
struct Visit {
    shared: Arc<Shared>,
    order: u64,
    receiver: Receiver<Answer>,
    done: bool,
}

/// What a line is for.
pub(super) struct Standing {
    account: Arc<Account>,
    limit: usize,
}

impl Shared {
    /// Decides, or lets the caller wait in line.
    pub(crate) async fn wait(self: &Arc<Self>, errand: Errand, patience: Duration) -> Answer {
        let errand = Arc::new(errand);
        let until = Until::after(self.now(), patience);
        if let Some(denial) = self.known_denial(&errand) {
            return Ok(denial);
        }
        let place = match self.room.touched(&errand) {
            Some(place) => {
                return self.join(errand, place, until).await;
            }
            None => match self.attempt_last(&errand).await? {
                Outcomes::Admitted(admission, _) => return Ok(Decision::Admit(admission)),
                Outcomes::Never(never) => return Ok(never),
                Outcomes::Blocked(blocks, now) => {
                    if errand.is_kept(&blocks) || is_hopeless(&blocks, until.shown) {
                        return Ok(remote::denial(blocks, now));
                    }
                    let last = errand.place_of(&blocks);
                    // Where room went as fast as it came nothing is known to block.
                    last.or_else(|| errand.places().next()).unwrap_or_default()
                }
            },
        };
        let order = self.room.arrive(self.now())?;
        self.stand(errand, (place, order), until).await
    }

    /// The denial of one that does not wait for quotas, where one is known to have no room for it.
    fn known_denial(&self, errand: &Errand) -> Option<Decision> {
        if errand.waits_for != WaitsFor::Rates {
            return None;
        }
        let now = self.now();
        let blocks = self.denials.blocks(errand, now)?;
        errand.is_kept(&blocks).then(|| remote::denial(blocks, now))
    }

    /// Answers those of a line whom a quota keeps that they do not wait for, as far as that is known here: of the others it is
    /// seen when they are the first.
    async fn turn_away_kept(&self, place: &Place) {
        for (order, errand) in self.room.for_rates(place) {
            let Some(denial) = self.known_denial(&errand) else {
                continue;
            };
            if self.room.begin(order) {
                self.tell(order, Ok(denial), None).await;
                self.room.asked(order);
            }
        }
    }

    /// Joins a line of this process, unless the wait cannot help.
    async fn join(self: &Arc<Self>, errand: Arc<Errand>, place: Place, until: Until) -> Answer {
        let order = self.room.arrive(self.now())?;
        let is_kept = |blocks: &[Block]| errand.is_kept(blocks);
        if let Ok((sheets, now)) = self.look_surely(&errand, is_kept).await {
            let views = views(&errand.ask.accounts, &sheets);
            match remote::judge(&views, &errand.ask.demand, now) {
                Judgement::Never(never) => return Ok(Decision::Never(never)),
                Judgement::Blocked(blocks)
                    if errand.is_kept(&blocks) || is_hopeless(&blocks, until.shown) =>
                {
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
            errand: errand.clone(),
            since: until.since,
            until: until.at,
            counted: false,
            reply,
            stands: Vec::new(),
            moves: 0,
        };
        self.room.admit(order, waiter);
        self.line_up(&place, order, &errand);
        let visit = Visit {
            shared: self.clone(),
            order,
            receiver,
            done: false,
        };
        self.keep_up(order, &errand);
        visit.answer().await
    }

    pub(super) fn line_up(self: &Arc<Self>, place: &Place, order: u64, errand: &Errand) {
        let account = errand.account_at(place).cloned();
        let is_new = self.room.enter(place, order);
        if let (true, Some(account)) = (is_new, account) {
            let stand = Standing {
                account,
                limit: place.1,
            };
            self.pump.runtime().spawn(keep(Arc::downgrade(self), stand));
        }
    }

    /// Tells a caller in line; what was admitted for one that has left is given back.
    pub(super) async fn tell(&self, order: u64, answer: Answer, held: Option<&Arc<Held>>) {
        let id = match &answer {
            Ok(Decision::Admit(admission)) => Some(admission.id),
            _ => None,
        };
        let refused = match self.room.take(order) {
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

    pub(super) async fn admit_waiter(
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

    /// Asks once for the first of a line, and for those behind it for whom there may be room too; answers until when there is
    /// nothing to do, or nothing when the line is empty.
    pub(super) async fn serve(self: &Arc<Self>, place: &Place, turn: Time) -> Option<Time> {
        let run = match self.room.next(place, turn)? {
            Question::Ask(run) => run,
            // It rings when that is answered.
            Question::Busy => return Some(self.now().plus(BEAT.into())),
        };
        let asked = run.len();
        let (admitted, again) = match &run[..] {
            [next] => {
                let outcome = self.attempt(&next.errand, &next.turn(place)).await;
                self.served((next, place), outcome.map(Some)).await
            }
            _ => self.serve_all(&run, place).await,
        };
        self.room.served(place, admitted, asked);
        Some(again)
    }

    /// Asks for several of a line at once; answers how many were admitted, and until when there is nothing to do.
    async fn serve_all(self: &Arc<Self>, run: &[Next], place: &Place) -> (usize, Time) {
        let turns = run.iter().map(|next| (&*next.errand, next.turn(place)));
        let turns: Vec<_> = turns.collect();
        let told = self.ask_in_turn(&turns).await;
        let told = run.iter().zip(&turns).zip(told);
        let (early, told): (Vec<_>, Vec<_>) = told.partition(|(_, told)| told.is_not_its_turn());
        for ((next, _), _) in early {
            self.room.asked(next.order);
        }
        // What is taken back of those who have left holds up nobody who has not.
        let heard = told
            .into_iter()
            .map(|((next, (errand, turn)), told)| async move {
                let outcome = self.hear(errand, turn, told).await;
                self.served((next, place), outcome).await
            });
        let heard = join_all(heard).await;
        let admitted = heard.iter().map(|(admitted, _)| admitted).sum();
        let again = heard.iter().map(|(_, again)| *again).max();
        (admitted, again.unwrap_or(Time::ZERO))
    }

    /// Does what an answer says to one of a line; answers how many it admits, and until when there is nothing to do.
    async fn served(
        self: &Arc<Self>,
        (next, place): (&Next, &Place),
        outcome: Result<Option<Outcomes>, LinkError>,
    ) -> (usize, Time) {
        let mut admitted = 0;
        let is_lost = outcome.is_err();
        let again = match outcome {
            Ok(Some(Outcomes::Admitted(admission, held))) => {
                admitted = 1;
                self.admit_waiter(next.order, &next.errand, (admission, held))
                    .await;
                Time::ZERO
            }
            // The store is out of reach: whoever waits goes on waiting, as long as it will.
            Err(error) => self.now().plus(retry_after(&error).into()),
            // Room came up in the same breath, or the rules have changed: it is asked for again.
            Ok(None) => Time::ZERO,
            Ok(Some(_)) if !self.room.still_asks(next) => Time::ZERO,
            Ok(Some(Outcomes::Never(never))) => {
                self.tell(next.order, Ok(never), None).await;
                Time::ZERO
            }
            Ok(Some(Outcomes::Blocked(blocks, now))) if self.is_too_late(next, &blocks) => {
                let denial = remote::denial(blocks, now);
                self.tell(next.order, Ok(denial), None).await;
                Time::ZERO
            }
            Ok(Some(Outcomes::Blocked(blocks, now))) => {
                let again = self.keep_or_move(next, place, (&blocks, now));
                self.room.entered(place);
                again
            }
        };
        // Who has left, or asks by other rules since, does not ask for it again.
        let is_over = self.room.asked(next.order) || !self.room.still_asks(next);
        if is_lost && is_over {
            self.outage.give_up(&next.errand);
        }
        (admitted, again)
    }

    /// Whether nothing can help the first of a line any more: what was open when it came was used since, or a quota is used up
    /// that it does not wait for.
    fn is_too_late(&self, next: &Next, blocks: &[Block]) -> bool {
        if next.errand.is_kept(blocks) {
            return true;
        }
        let left = next.until.saturating_duration_since(Instant::now());
        is_hopeless(blocks, self.now().plus(left.into()))
    }

    /// Leaves the blocked first of a line where it is, or moves it to another counter's.
    fn keep_or_move(
        self: &Arc<Self>,
        next: &Next,
        here: &Place,
        (blocks, now): (&[Block], Time),
    ) -> Time {
        let (Some(there), Some(last)) = (next.errand.place_of(blocks), latest(blocks)) else {
            return now;
        };
        let cost = last.instant.since(now).into();
        let again = match last.instant > now {
            true => last.instant,
            // There is room, and others go first: who is the last of them says so.
            false => now.plus(BEAT.into()),
        };
        match self.room.ways(next.order, (here, &there), cost) {
            Ways::Stay(None) => again,
            Ways::Stay(Some(there)) => {
                self.line_up(&there, next.order, &next.errand);
                again
            }
            Ways::Move => {
                // As it was when it was asked for: what it asks since may know nothing of that place.
                if self.room.lift(next.order) {
                    self.line_up(&there, next.order, &next.errand);
                }
                Time::ZERO
            }
        }
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
        strong.turn_away_kept(&place).await;
        if strong.answer_impatient(&stand).await {
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
    pub(super) async fn leave(&self, stand: &Standing) {
        if self.room.bell(&stand.place()).is_none() {
            self.denials.outdate(std::slice::from_ref(&stand.account));
            let op = Op::Leave(stand.account.clone(), stand.limit);
            // A place that is not given up lapses.
            let _ = self.pump.ask(stand.account.tag, op).await;
        }
    }
}

impl Standing {
    pub(super) fn place(&self) -> Place {
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
        if let Some(errand) = self.shared.room.abandon(self.order) {
            self.shared.outage.give_up(&errand);
        }
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
        LinkError::Refused { .. } | LinkError::Unreadable { .. } => BEAT,
    }
}

pub(super) fn with_wait(answer: Answer, waited: Duration) -> Answer {
    answer.map(|decision| match decision {
        Decision::Admit(mut admission) => {
            admission.waited = waited;
            Decision::Admit(admission)
        }
        other => other,
    })
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
    pub(super) fn amount_at(&self, place: &Place) -> u64 {
        let account = self.account_at(place);
        let limit = account.and_then(|account| account.rule.rule.limits().nth(place.1));
        limit.map_or(0, |limit| self.ask.demand.get(limit.metric()))
    }

    /// Whether one of these is a quota that it does not wait for.
    pub(crate) fn is_kept(&self, blocks: &[Block]) -> bool {
        let mut limits = blocks.iter().map(|block| &block.standing.limit);
        self.waits_for == WaitsFor::Rates && limits.any(|limit| limit.is_quota())
    }

    /// The counter of these that will have room last.
    pub(super) fn place_of(&self, blocks: &[Block]) -> Option<Place> {
        let last = latest(blocks)?;
        let account = self.ask.accounts.get(last.sheet)?;
        Some((account.key.clone(), last.limit))
    }
}
