//! The Redis store: what callers ask, put to the script.
use super::denials::{Denials, Mark};
use super::desk::{Ask, Desk, Done, Heard};
use super::groups::{Group, groups};
use super::hearing;
use super::holds::Holds;
use super::link::{Link, LinkError};
use super::names::{self, Account, Tag};
use super::opening::RedisOpenError;
use super::options::RedisOptions;
use super::pump::{Answer, Carrier, Orphan, Pump};
use super::record::{Ending, Held, Record};
use super::room::Room;
use super::script::{self, Answers, Node, Op, Stand};
use super::sheet::{self, Order, Sheet};
use crate::store::{BoxFuture, Reserve, SettleError, Settlement, Store, StoreError, StoreStats};
use parking_lot::RwLock;
use std::sync::{Arc, Weak};
use std::time::Duration;
use tallygate_core::remote::{self, Block, Judgement};
use tallygate_core::{
    Admission, Amounts, Decision, EndError, Extended, MAX_EXTENSIONS, Outcome, Policy, Receipt,
    ReservationId, Span, Standing, Time,
};
use tokio::sync::mpsc;

/// Counters on a Redis or Valkey server, shared by every process that uses the same one.
#[derive(Debug)]
pub struct RedisStore {
    shared: Arc<Shared>,
}

pub(crate) struct Shared {
    pub(crate) pump: Arc<Pump>,
    desk: RwLock<Arc<Desk>>,
    pub(crate) holds: Holds,
    pub(crate) room: Room,
    pub(crate) denials: Denials,
}

/// A demand on its way, and where its counters are kept.
pub(crate) struct Errand {
    subject: Vec<(String, String)>,
    pub(crate) desk: Arc<Desk>,
    pub(crate) ask: Ask,
    pub(crate) groups: Vec<Group>,
}

/// Where a waiting caller stands.
#[derive(Debug, Clone)]
pub(crate) struct Turn {
    pub(crate) order: Order,
    /// With its account's key.
    pub(crate) stand: Option<(Vec<u8>, Stand)>,
}

impl Turn {
    /// Of one who has not stood in any line.
    pub(crate) const fn newcomer() -> Self {
        Self {
            order: Order::NEWCOMER,
            stand: None,
        }
    }
}

/// What came of an errand.
pub(crate) enum Outcomes {
    Admitted(Admission, Option<Arc<Held>>),
    /// By whom, and how its counters stood.
    Blocked(Vec<Block>, Time),
    Never(Decision),
}

/// How often a demand is asked again because room came up in the same breath.
const AGAIN: usize = 16;

/// How often an end is tried again because the reservation was changed meanwhile.
const CHANGES: usize = 8;

impl RedisStore {
    /// Connects, and checks that the server can be used. Must be called in a tokio runtime, which the store's tasks run in.
    ///
    /// # Errors
    /// When the server cannot be used: unreachable, a replica, too old, out of memory, without the rights it takes.
    pub async fn open(options: RedisOptions, policy: &Policy) -> Result<Arc<Self>, RedisOpenError> {
        let link = Link::open(&options, script::TEXT).await?;
        Ok(Self::over(Arc::new(link), options.prefix(), policy).await)
    }

    /// A store over any way to the script.
    pub(crate) async fn over(
        carrier: Arc<dyn Carrier>,
        prefix: &str,
        policy: &Policy,
    ) -> Arc<Self> {
        let node = Node {
            name: node_name(),
            prefix: prefix.into(),
            sees_subscribers: !carrier.is_cluster(),
        };
        let notices = carrier.subscribe(hearing::channels(prefix, node.name));
        let (orphans, left) = mpsc::unbounded_channel();
        let shared = Arc::new(Shared {
            pump: Pump::new(carrier, node.clone(), orphans),
            desk: RwLock::new(Arc::new(Desk::new(node, policy))),
            holds: Holds::default(),
            room: Room::default(),
            denials: Denials::default(),
        });
        tokio::spawn(take_back(Arc::downgrade(&shared), left));
        hearing::listen(&shared, notices).await;
        shared.learn_the_time().await;
        Arc::new(Self { shared })
    }
}

impl Shared {
    pub(crate) fn desk(&self) -> Arc<Desk> {
        self.desk.read().clone()
    }

    pub(crate) fn now(&self) -> Time {
        self.pump.clock().now()
    }

    /// Asks anything, for the time that comes with the answer.
    pub(crate) async fn learn_the_time(&self) {
        let id = names::new_id(0);
        let _ = self.pump.ask(names::home(id), self.desk().look(id)).await;
    }

    fn is_apart(&self) -> bool {
        self.pump.carrier().is_cluster()
    }

    /// What a call asks, ready to be put to the script.
    pub(crate) fn errand(&self, ask: &Reserve<'_>) -> Errand {
        let name = ask.idempotency_key;
        let name = name.map(|key| names::idempotency(key, ask.subject));
        self.errand_of(ask.subject, (ask.demand, ask.ttl.into()), name)
    }

    /// The same errand under the rules that are in force now.
    pub(crate) fn renewed(&self, errand: &Errand) -> Errand {
        let subject = errand.subject.iter();
        let subject: Vec<_> = subject.map(|(label, value)| (&**label, &**value)).collect();
        let ask = &errand.ask;
        self.errand_of(&subject, (ask.demand, ask.ttl), ask.name)
    }

    fn errand_of(
        &self,
        subject: &[(&str, &str)],
        (demand, ttl): (Amounts, Span),
        name: Option<[u8; 16]>,
    ) -> Errand {
        let desk = self.desk();
        let accounts = desk.resolve(subject);
        let groups = groups(&accounts, self.is_apart());
        let tag = match (groups.first(), name) {
            (Some(group), _) => group.tag,
            // The same name must lead to the same place.
            (None, Some(name)) => u32::from_be_bytes([name[0], name[1], name[2], name[3]]),
            (None, None) => names::home(names::new_id(0)),
        };
        let groups = match groups.is_empty() {
            true => vec![Group {
                tag,
                accounts: Vec::new(),
            }],
            false => groups,
        };
        let owned = subject.iter();
        let owned = owned.map(|(label, value)| ((*label).to_owned(), (*value).to_owned()));
        Errand {
            subject: owned.collect(),
            ask: Ask {
                accounts,
                demand,
                ttl,
                name,
                id: names::new_id(tag),
            },
            desk,
            groups,
        }
    }

    /// Puts a demand to the script: all of its groups, or none.
    pub(crate) async fn attempt(
        &self,
        errand: &Errand,
        turn: &Turn,
    ) -> Result<Outcomes, LinkError> {
        if let Some(never) = self.never(errand).await? {
            return Ok(Outcomes::Never(never));
        }
        for _ in 0..AGAIN {
            if let Some(outcome) = self.attempt_once(errand, turn).await? {
                return Ok(outcome);
            }
        }
        Ok(Outcomes::Blocked(Vec::new(), self.now()))
    }

    async fn attempt_once(
        &self,
        errand: &Errand,
        turn: &Turn,
    ) -> Result<Option<Outcomes>, LinkError> {
        let mut answers: Vec<Answer> = Vec::new();
        let mark = self.denials.mark(&errand.ask.accounts);
        for (at, group) in errand.groups.iter().enumerate() {
            let answer = self.ask_group(errand, group, turn).await;
            match answer {
                Ok(answer) if is_blocked(&answer) => {
                    self.undo(errand, at).await;
                    let denier = Denier { at, answer, mark };
                    return self.blocked(errand, turn, denier).await;
                }
                Ok(answer) => answers.push(answer),
                Err(error) => {
                    self.undo(errand, at).await;
                    return Err(error);
                }
            }
            // A namesake was admitted before: its other parts are where they were put then.
            if at == 0 && !is_fresh(&answers) {
                break;
            }
        }
        Ok(self.admitted(errand, answers))
    }

    async fn ask_group(
        &self,
        errand: &Errand,
        group: &Group,
        turn: &Turn,
    ) -> Result<Answer, LinkError> {
        let place = |key: &Vec<u8>| group.accounts.iter().position(|one| one.key == *key);
        let stand = turn.stand.as_ref().and_then(|(key, stand)| {
            place(key).map(|account| Stand {
                account,
                ..stand.clone()
            })
        });
        let accounts = group.accounts.clone();
        let desk = &errand.desk;
        let op = desk.reserve(&errand.ask, accounts, group.tag, (turn.order.0, stand));
        self.pump.ask(group.tag, op).await
    }

    fn admitted(&self, errand: &Errand, answers: Vec<Answer>) -> Option<Outcomes> {
        let first = answers.first()?;
        self.denials.outdate(&errand.ask.accounts);
        let (at, all) = (first.at, merged(&answers));
        match errand.desk.reserved(&errand.ask, &all, at)? {
            Heard::Held(admission, held) => {
                self.holds.keep(admission.id, held.clone(), all.now);
                Some(Outcomes::Admitted(admission, Some(held)))
            }
            Heard::Known(admission, held) => {
                if let Some(held) = &held {
                    self.holds.keep(admission.id, held.clone(), all.now);
                }
                Some(Outcomes::Admitted(admission, held))
            }
            _ => None,
        }
    }

    /// Gives back what the groups before number `upto` hold of a demand that another one denied, the last first.
    async fn undo(&self, errand: &Errand, upto: usize) {
        let held = Arc::new(Held {
            accounts: errand.ask.accounts.clone(),
            parts: vec![errand.ask.demand],
            deadline: Time::MAX,
            name: errand.ask.name,
        });
        for group in errand.groups.iter().take(upto).rev() {
            let place = (group.tag, group.accounts.clone());
            let op = errand.desk.withdraw(errand.ask.id, &held, place);
            // What cannot be given back now ends at its deadline.
            let _ = self.pump.ask(group.tag, op).await;
        }
    }

    /// Why a demand does not fit that group number `at` denied: the others are looked at too.
    async fn blocked(
        &self,
        errand: &Errand,
        turn: &Turn,
        denier: Denier,
    ) -> Result<Option<Outcomes>, LinkError> {
        let at = denier.at;
        let mut sheets = Sheets::default();
        sheets.add(errand, &errand.groups[at], turn.order, &denier.answer);
        for (other, group) in errand.groups.iter().enumerate() {
            if other != at {
                let op = Op::Peek(group.accounts.clone(), errand.ask.demand);
                let answer = self.pump.ask(group.tag, op).await?;
                sheets.add(errand, group, turn.order, &answer);
            }
        }
        let (ordered, now) = (sheets.of(&errand.ask), sheets.now);
        if turn.stand.is_some() {
            self.denials.outdate(&errand.ask.accounts);
        } else if turn.order == Order::NEWCOMER {
            self.denials.remember(errand, &ordered, denier.mark);
        }
        let views = super::desk::views(&errand.ask.accounts, &ordered);
        Ok(match remote::judge(&views, &errand.ask.demand, now) {
            Judgement::Free => None,
            Judgement::Blocked(blocks) => Some(Outcomes::Blocked(blocks, now)),
            Judgement::Never(never) => Some(Outcomes::Never(Decision::Never(never))),
        })
    }

    /// The answer to a demand that is larger than a limit.
    async fn never(&self, errand: &Errand) -> Result<Option<Decision>, LinkError> {
        let ask = &errand.ask;
        let larger = ask
            .accounts
            .iter()
            .filter(|one| one.rule.rule.is_enforced());
        let mut limits = larger.flat_map(|account| account.rule.rule.limits());
        if !limits.any(|limit| ask.demand.get(limit.metric()) > limit.largest()) {
            return Ok(None);
        }
        let (sheets, now) = self.look_at(errand).await?;
        let views = super::desk::views(&ask.accounts, &sheets);
        Ok(match remote::judge(&views, &ask.demand, now) {
            Judgement::Never(never) => Some(Decision::Never(never)),
            _ => None,
        })
    }

    /// The counters of a demand as they stand.
    pub(crate) async fn look_at(&self, errand: &Errand) -> Result<(Vec<Sheet>, Time), LinkError> {
        let mut sheets = Sheets::default();
        for group in &errand.groups {
            let op = Op::Peek(group.accounts.clone(), errand.ask.demand);
            let answer = self.pump.ask(group.tag, op).await?;
            sheets.add(errand, group, Order::NEWCOMER, &answer);
        }
        Ok((sheets.of(&errand.ask), sheets.now))
    }

    /// Cancels what was admitted for a caller that was never told.
    pub(crate) async fn withdraw(&self, id: ReservationId, held: &Arc<Held>) {
        let desk = self.desk();
        for group in self.parts_of(id, held) {
            let op = desk.withdraw(id, held, (group.tag, group.accounts));
            // What cannot be given back now ends at its deadline.
            let _ = self.pump.ask(group.tag, op).await;
        }
        self.holds.forget(id);
        self.made_room(&held.accounts);
    }

    /// Something was given back on these accounts.
    fn made_room(&self, accounts: &[Arc<Account>]) {
        accounts
            .iter()
            .for_each(|account| self.denials.forget(&account.key));
        self.room.ring(accounts);
    }

    /// Where the parts of a reservation are, its record first.
    fn parts_of(&self, id: ReservationId, held: &Held) -> Vec<Group> {
        let home = names::home(id);
        let mut parts = groups(&held.accounts, self.is_apart());
        if !self.is_apart() || parts.is_empty() {
            return vec![Group {
                tag: home,
                accounts: held.accounts.clone(),
            }];
        }
        parts.sort_by_key(|group| group.tag != home);
        parts
    }

    async fn held(&self, id: ReservationId) -> Result<Result<Arc<Held>, EndError>, LinkError> {
        if let Some(held) = self.holds.get(id) {
            return Ok(Ok(held));
        }
        let desk = self.desk();
        let answer = self.pump.ask(names::home(id), desk.look(id)).await?;
        Ok(match desk.looked(&answer.all, answer.at) {
            Some(Record::Open(held)) => Ok(Arc::new(held)),
            Some(Record::Ended(receipt)) => Err(EndError::Ended(Box::new(receipt))),
            None => Err(EndError::Unknown),
        })
    }

    async fn end(
        &self,
        id: ReservationId,
        ending: (Outcome, Ending),
    ) -> Result<Receipt, SettleError> {
        let mut held = match self.held(id).await? {
            Ok(held) => held,
            Err(EndError::Ended(receipt)) if receipt.outcome == ending.0 => return Ok(*receipt),
            Err(error) => return Err(error.into()),
        };
        for _ in 0..CHANGES {
            let home = self.end_home(id, &held, ending).await?;
            match home {
                Done::Ended(receipt) => {
                    self.holds.forget(id);
                    let receipt = self.end_rest(id, &held, (ending, receipt)).await;
                    self.made_room(&held.accounts);
                    return receipt;
                }
                Done::Changed(changed) => held = changed,
                Done::Failed(error) => {
                    self.holds.forget(id);
                    return Err(error.into());
                }
                Done::Extended(_) | Done::Again => {}
            }
        }
        Err(LinkError::from(Strange).into())
    }

    async fn end_home(
        &self,
        id: ReservationId,
        held: &Arc<Held>,
        ending: (Outcome, Ending),
    ) -> Result<Done, LinkError> {
        let parts = self.parts_of(id, held);
        let home = names::home(id);
        let accounts = parts.into_iter().filter(|part| part.tag == home);
        let accounts = accounts.flat_map(|part| part.accounts).collect();
        let desk = self.desk();
        let op = Op::Finish(desk.finish(id, held, (home, accounts), ending));
        let answer = self.pump.ask(home, op).await?;
        let done = desk.finished(ending.0, &answer.all, answer.at);
        done.ok_or_else(|| Strange.into())
    }

    /// Ends the parts of a reservation that are kept elsewhere than its record, which has been ended.
    async fn end_rest(
        &self,
        id: ReservationId,
        held: &Arc<Held>,
        (ending, mut receipt): ((Outcome, Ending), Receipt),
    ) -> Result<Receipt, SettleError> {
        let desk = self.desk();
        let home = names::home(id);
        let parts = self.parts_of(id, held).into_iter();
        for part in parts.filter(|part| part.tag != home) {
            let op = Op::Finish(desk.finish(id, held, (part.tag, part.accounts), ending));
            let answer = self.pump.ask(part.tag, op).await?;
            if let Some(Done::Ended(part)) = desk.finished(ending.0, &answer.all, answer.at) {
                receipt.debt = receipt.debt.zip(&part.debt, u64::max);
            }
        }
        Ok(receipt)
    }

    async fn extend(
        &self,
        id: ReservationId,
        more: (Amounts, Option<Span>),
    ) -> Result<Extended, SettleError> {
        let mut held = match self.held(id).await? {
            Ok(held) => held,
            Err(error) => return Err(error.into()),
        };
        for _ in 0..CHANGES {
            if more.0 != Amounts::ZERO && held.parts.len() > MAX_EXTENSIONS {
                return Err(SettleError::TooOften);
            }
            match self.extend_parts(id, &held, more).await? {
                Done::Extended(granted) => {
                    self.remember(id, &held, more.0, &granted);
                    return Ok(granted);
                }
                Done::Changed(changed) => held = changed,
                Done::Failed(error) => {
                    self.holds.forget(id);
                    return Err(error.into());
                }
                Done::Ended(_) | Done::Again => {}
            }
        }
        Err(LinkError::from(Strange).into())
    }

    async fn extend_parts(
        &self,
        id: ReservationId,
        held: &Arc<Held>,
        more: (Amounts, Option<Span>),
    ) -> Result<Done, LinkError> {
        let desk = self.desk();
        let mut granted = None;
        for part in self.parts_of(id, held) {
            let op = desk.extend(id, held, (part.tag, part.accounts.clone()), more);
            let answer = self.pump.ask(part.tag, op).await?;
            let here = Held {
                accounts: part.accounts,
                ..Held::clone(held)
            };
            let done = desk.extended(&here, &more.0, &answer.all, answer.at);
            let done = done.ok_or(Strange)?;
            if !matches!(done, Done::Extended(Extended::Granted { .. })) {
                return Ok(done);
            }
            granted.get_or_insert(done);
        }
        granted.ok_or_else(|| Strange.into())
    }

    fn remember(&self, id: ReservationId, held: &Held, more: Amounts, granted: &Extended) {
        if let Extended::Granted { expires_at, .. } = granted {
            let mut after = held.clone();
            after.deadline = *expires_at;
            if more != Amounts::ZERO {
                after.parts.push(more);
            }
            self.holds.keep(id, Arc::new(after), self.now());
            // A deadline may have come nearer.
            self.made_room(&held.accounts);
        }
    }

    async fn peek(&self, subject: &[(&str, &str)]) -> Result<Vec<Standing>, LinkError> {
        let errand = self.errand_of(subject, (Amounts::ZERO, Span::ZERO), None);
        let (sheets, now) = self.look_at(&errand).await?;
        let views = super::desk::views(&errand.ask.accounts, &sheets);
        Ok(remote::standings(&views, now))
    }

    async fn reserve(self: &Arc<Self>, ask: Reserve<'_>) -> Result<Decision, StoreError> {
        if !ask.max_wait.is_zero() {
            return self.wait(&ask).await;
        }
        let errand = self.errand(&ask);
        if let Some(denial) = self.denials.decide(&errand, self.now()) {
            return Ok(denial);
        }
        Ok(match self.attempt(&errand, &Turn::newcomer()).await? {
            Outcomes::Admitted(admission, _) => Decision::Admit(admission),
            Outcomes::Blocked(blocks, now) => remote::denial(blocks, now),
            Outcomes::Never(never) => never,
        })
    }
}

impl Store for RedisStore {
    fn reserve<'a>(&'a self, ask: Reserve<'a>) -> BoxFuture<'a, Result<Decision, StoreError>> {
        Box::pin(self.shared.reserve(ask))
    }

    fn settle<'a>(
        &'a self,
        id: ReservationId,
        usage: Settlement,
    ) -> BoxFuture<'a, Result<Receipt, SettleError>> {
        let used = match usage {
            Settlement::Exact(amounts) => Ending::Exactly(amounts),
            Settlement::Stated(stated) => Ending::Stated(stated),
            Settlement::AtLeast(amounts) => Ending::AtLeast(amounts),
        };
        Box::pin(self.shared.end(id, (Outcome::Settled, used)))
    }

    fn cancel<'a>(&'a self, id: ReservationId) -> BoxFuture<'a, Result<Receipt, SettleError>> {
        let nothing = Ending::Exactly(Amounts::ZERO);
        Box::pin(self.shared.end(id, (Outcome::Cancelled, nothing)))
    }

    fn extend<'a>(
        &'a self,
        id: ReservationId,
        more: Amounts,
        ttl: Option<Duration>,
    ) -> BoxFuture<'a, Result<Extended, SettleError>> {
        Box::pin(self.shared.extend(id, (more, ttl.map(Span::from))))
    }

    fn peek<'a>(
        &'a self,
        subject: &'a [(&'a str, &'a str)],
    ) -> BoxFuture<'a, Result<Vec<Standing>, StoreError>> {
        Box::pin(async move { Ok(self.shared.peek(subject).await?) })
    }

    fn replace_policy(&self, policy: Arc<Policy>) -> Result<(), StoreError> {
        let mut desk = self.shared.desk.write();
        let node = desk.node.clone();
        *desk = Arc::new(Desk::new(node, &policy));
        drop(desk);
        self.shared.denials.clear(None);
        self.shared.rehome();
        Ok(())
    }

    fn stats(&self) -> StoreStats {
        StoreStats {
            counters: 0,
            reservations: self.shared.holds.count(self.shared.now()) + self.shared.room.unsure(),
            waiters: self.shared.room.waiting(),
        }
    }

    fn now(&self) -> Time {
        self.shared.now()
    }
}

/// The group that denied a demand.
struct Denier {
    at: usize,
    answer: Answer,
    mark: Mark,
}

/// The counters of a demand, from the answers of its groups.
#[derive(Default)]
struct Sheets {
    by_key: std::collections::HashMap<Vec<u8>, Sheet>,
    now: Time,
}

impl Sheets {
    fn add(&mut self, errand: &Errand, group: &Group, order: Order, answer: &Answer) {
        let mut sheets = errand.desk.sheets(&group.accounts, order, &answer.all);
        let said = answer.all.operations.get(answer.at);
        sheet::add_ends(
            &mut sheets,
            said.and_then(|said| said.get(1..)).unwrap_or(&[]),
        );
        let keys = group.accounts.iter().map(|account| account.key.clone());
        self.by_key.extend(keys.zip(sheets));
        self.now = self.now.max(answer.all.now);
    }

    fn of(&self, ask: &Ask) -> Vec<Sheet> {
        let sheet = |account: &Arc<Account>| {
            let known = self.by_key.get(&account.key).cloned();
            known.unwrap_or_else(|| sheet::fresh(account))
        };
        ask.accounts.iter().map(sheet).collect()
    }
}

/// Takes back what was admitted for callers that have left.
async fn take_back(shared: Weak<Shared>, mut orphans: mpsc::UnboundedReceiver<Orphan>) {
    while let Some(orphan) = orphans.recv().await {
        let (Some(shared), Op::Reserve(ask)) = (shared.upgrade(), &*orphan.op) else {
            continue;
        };
        let said = orphan.answer.all.operations.get(orphan.answer.at);
        if said.and_then(|said| said.first()) != Some(&b'A') {
            continue;
        }
        let held = Arc::new(Held {
            accounts: ask.accounts.clone(),
            parts: vec![ask.demand],
            deadline: Time::MAX,
            name: None,
        });
        shared.take_back(orphan.tag, ask, &held).await;
    }
}

impl Shared {
    async fn take_back(&self, tag: Tag, ask: &script::Reserve, held: &Arc<Held>) {
        let random = ask.record.last_chunk::<12>().copied().unwrap_or_default();
        let id = names::id_of(tag, random);
        let mut op = self.desk().withdraw(id, held, (tag, ask.accounts.clone()));
        if let Op::Finish(finish) = &mut op {
            finish.name.clone_from(&ask.name);
        }
        // What cannot be given back now ends at its deadline.
        let _ = self.pump.ask(tag, op).await;
    }
}

fn is_blocked(answer: &Answer) -> bool {
    let said = answer.all.operations.get(answer.at);
    said.and_then(|said| said.first()) == Some(&b'B')
}

fn is_fresh(answers: &[Answer]) -> bool {
    let said = answers
        .first()
        .and_then(|answer| answer.all.operations.get(answer.at));
    said.and_then(|said| said.first()) == Some(&b'A')
}

/// The answers of several groups as those of one.
fn merged(answers: &[Answer]) -> Arc<Answers> {
    let [first, rest @ ..] = answers else {
        return Arc::new(Answers::default());
    };
    if rest.is_empty() {
        return first.all.clone();
    }
    let mut all = Answers::clone(&first.all);
    for answer in rest {
        let accounts = answer.all.accounts.iter();
        all.accounts
            .extend(accounts.map(|(key, raw)| (key.clone(), raw.clone())));
        all.now = all.now.max(answer.all.now);
    }
    Arc::new(all)
}

/// A random name of eight letters and digits for this process.
fn node_name() -> [u8; 8] {
    const LETTERS: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";
    let mut random = [0; 8];
    getrandom::fill(&mut random).expect("invariant: the machine has a source of randomness");
    random.map(|byte| LETTERS[usize::from(byte % 32)])
}

/// The script gave an answer that cannot be.
struct Strange;

impl From<Strange> for LinkError {
    fn from(_: Strange) -> Self {
        Self::Refused {
            reason: "the script gave an answer that is none".to_owned(),
        }
    }
}

impl From<LinkError> for StoreError {
    fn from(error: LinkError) -> Self {
        match error {
            LinkError::Down {
                reason,
                retry_after,
            } => Self::Down {
                reason,
                retry_after,
            },
            LinkError::Refused { reason } => Self::Down {
                reason,
                retry_after: Duration::from_secs(1),
            },
        }
    }
}

impl From<LinkError> for SettleError {
    fn from(error: LinkError) -> Self {
        Self::Store(error.into())
    }
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared").finish_non_exhaustive()
    }
}
