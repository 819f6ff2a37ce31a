//! A demand on its way: put to the script group by group, all of it or none.
use super::super::denials::Mark;
use super::super::desk::{self, Ask, Desk, Heard};
use super::super::groups::{Group, groups};
use super::super::link::LinkError;
use super::super::names::{self, Account, Tag};
use super::super::pump::Answer;
use super::super::record::Held;
use super::super::script::{Answers, NOT_ITS_TURN, Op, Stand};
use super::super::sheet::{self, Order, Sheet};
use super::Shared;
use super::journey::Journey;
use crate::store::Reserve;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use tallygate_core::remote::{self, Block, Judgement};
use tallygate_core::{Admission, Amounts, Decision, Span, Time, WaitsFor};

/// A demand on its way, and where its counters are kept.
#[derive(Clone)]
pub(crate) struct Errand {
    subject: Vec<(String, String)>,
    pub(crate) desk: Arc<Desk>,
    pub(crate) ask: Ask,
    pub(crate) groups: Vec<Group>,
    pub(crate) waits_for: WaitsFor,
    /// Whether its caller waits for anything at all.
    waits: bool,
    /// Whether it may be held unknown to anybody: the answer to an attempt was lost.
    pub(crate) unsure: Arc<AtomicBool>,
}

/// Where a waiting caller stands.
#[derive(Debug, Clone)]
pub(crate) struct Turn {
    pub(crate) order: Order,
    /// With its account's key.
    pub(crate) stand: Option<(Vec<u8>, Stand)>,
}

impl Errand {
    /// The same demand as another reservation.
    fn renamed(&self) -> Self {
        let mut errand = self.clone();
        errand.ask.id = names::new_id(names::home(self.ask.id));
        errand
    }

    /// What is asked of a group.
    pub(super) fn op(&self, group: &Group, turn: &Turn) -> Op {
        let place = |key: &Vec<u8>| group.accounts.iter().position(|one| one.key == *key);
        let stand = turn.stand.as_ref().and_then(|(key, stand)| {
            place(key).map(|account| Stand {
                account,
                ..stand.clone()
            })
        });
        let (accounts, place) = (group.accounts.clone(), (turn.order.0, stand));
        self.desk.reserve(&self.ask, accounts, group.tag, place)
    }

    /// Whether it is larger than a limit.
    pub(crate) fn is_too_large(&self) -> bool {
        let accounts = self.ask.accounts.iter();
        let enforced = accounts.filter(|one| one.rule.rule.is_enforced());
        let mut limits = enforced.flat_map(|account| account.rule.rule.limits());
        limits.any(|limit| self.ask.demand.get(limit.metric()) > limit.largest())
    }

    /// Whether one operation decides it, so that others may be asked for in the same breath.
    pub(crate) fn is_one_step(&self) -> bool {
        self.groups.len() == 1 && !self.is_too_large()
    }

    /// It may be held unknown to anybody once its answer was lost.
    fn doubt(&self, was_open: bool, error: &LinkError) {
        let is_undone = was_open || matches!(error, LinkError::Unreadable { .. });
        self.unsure.fetch_or(!is_undone, Ordering::Relaxed);
    }

    /// Whether its caller is told of these at once.
    fn is_told(&self, blocks: &[Block]) -> bool {
        !self.waits || self.is_kept(blocks)
    }
}

impl Turn {
    /// Of one who has not stood in any line.
    pub(crate) const fn newcomer() -> Self {
        Self {
            order: Order::NEWCOMER,
            stand: None,
        }
    }

    /// Of one who has stood in line, and does not any more.
    pub(crate) const fn out_of_line(order: u64) -> Self {
        Self {
            order: Order(order),
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

/// What the script told one of a line.
pub(crate) struct Told(Result<(Answer, Mark), LinkError>);

impl Told {
    /// Whether those before it are still there.
    pub(crate) fn is_not_its_turn(&self) -> bool {
        let answer = self.0.as_ref();
        answer.is_ok_and(|(answer, _)| answer.kind() == Some(NOT_ITS_TURN))
    }
}

/// How often a demand is asked again because room came up in the same breath.
const AGAIN: usize = 16;

impl Shared {
    /// What a call asks, ready to be put to the script.
    pub(crate) fn errand(&self, ask: &Reserve<'_>) -> Errand {
        let name = ask.idempotency_key;
        let name = name.map(|key| names::idempotency(key, ask.subject));
        Errand {
            waits_for: ask.waits_for,
            waits: !ask.max_wait.is_zero(),
            ..self.errand_of(ask.subject, (ask.demand, ask.ttl.into()), name)
        }
    }

    /// The same errand under the rules that are in force now.
    pub(crate) fn renewed(&self, errand: &Errand) -> Errand {
        let subject = errand.subject.iter();
        let subject: Vec<_> = subject.map(|(label, value)| (&**label, &**value)).collect();
        let ask = &errand.ask;
        Errand {
            waits_for: errand.waits_for,
            waits: errand.waits,
            ..self.errand_of(&subject, (ask.demand, ask.ttl), ask.name)
        }
    }

    pub(crate) fn errand_of(
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
            waits_for: WaitsFor::Anything,
            waits: false,
            unsure: Arc::default(),
        }
    }

    /// Puts a demand to the script: all of its groups, or none.
    ///
    /// # Cancel safety
    /// A caller that leaves holds nothing.
    pub(crate) async fn attempt(
        self: &Arc<Self>,
        errand: &Errand,
        turn: &Turn,
    ) -> Result<Outcomes, LinkError> {
        match errand.groups.len() {
            ..2 => self.attempt_all(errand, turn).await,
            // Whoever leaves on the way from one to the next shall leave nothing behind.
            _ => Journey::begin(self, errand, turn).outcome().await,
        }
    }

    pub(super) async fn attempt_all(
        self: &Arc<Self>,
        errand: &Errand,
        turn: &Turn,
    ) -> Result<Outcomes, LinkError> {
        if let Some(never) = self.never(errand).await? {
            return Ok(Outcomes::Never(never));
        }
        for _ in 0..AGAIN {
            let outcome = match errand.groups.len() {
                ..2 => self.attempt_once(errand, turn).await?,
                // What was withdrawn may still be on its way: its name is not used again.
                _ => self.attempt_once(&errand.renamed(), turn).await?,
            };
            if let Some(outcome) = outcome {
                return Ok(outcome);
            }
        }
        Ok(Outcomes::Blocked(Vec::new(), self.now()))
    }

    async fn attempt_once(
        self: &Arc<Self>,
        errand: &Errand,
        turn: &Turn,
    ) -> Result<Option<Outcomes>, LinkError> {
        // What is known to be in vain is not even sent.
        let was_open = self.outage.is_open();
        let mut answers: Vec<Answer> = Vec::new();
        let mark = self.denials.mark(&errand.ask.accounts);
        if let Some((at, answer)) = self.knock(errand, turn).await? {
            return self
                .blocked(errand, turn, Denier { at, answer, mark })
                .await;
        }
        for (at, group) in errand.groups.iter().enumerate() {
            match self.pump.ask(group.tag, errand.op(group, turn)).await {
                Ok(answer) if answer.kind() == Some(b'B') => {
                    let left = self.undo(errand, at).await;
                    self.outage.keep_withdrawals(errand.ask.id, &left);
                    let denier = Denier { at, answer, mark };
                    return self.blocked(errand, turn, denier).await;
                }
                Ok(answer) if answer.kind() == Some(b'N') => {
                    return self.follow(errand, turn, (answer, mark)).await;
                }
                Ok(answer) => answers.push(answer),
                Err(error) => {
                    errand.doubt(was_open, &error);
                    self.undo_later(errand, at);
                    return Err(error);
                }
            }
        }
        Ok(self.admitted(errand, answers))
    }

    /// Puts demands of one group each to the script, one after the other: callers of one line, the first first, of whom each
    /// is asked for only if those before it were admitted.
    ///
    /// # Cancel safety
    /// A caller that leaves holds nothing.
    pub(crate) async fn ask_in_turn(&self, run: &[(&Errand, Turn)]) -> Vec<Told> {
        let was_open = self.outage.is_open();
        let marks = run
            .iter()
            .map(|(errand, _)| self.denials.mark(&errand.ask.accounts));
        let marks: Vec<Mark> = marks.collect();
        let ops = run.iter().flat_map(|(errand, turn)| {
            let group = errand.groups.first();
            group.map(|group| (group.tag, errand.op(group, turn)))
        });
        let answers = self.pump.ask_all(ops.collect()).await;
        let told = run.iter().zip(answers).zip(marks);
        let told = told.map(|(((errand, _), answer), mark)| {
            let answer = answer.inspect_err(|error| errand.doubt(was_open, error));
            Told(answer.map(|answer| (answer, mark)))
        });
        told.collect()
    }

    /// What one of those was told; nothing if it is to be asked for again.
    pub(crate) async fn hear(
        self: &Arc<Self>,
        errand: &Errand,
        turn: &Turn,
        told: Told,
    ) -> Result<Option<Outcomes>, LinkError> {
        let (answer, mark) = told.0?;
        match answer.kind() {
            Some(b'B') => {
                let denier = Denier {
                    at: 0,
                    answer,
                    mark,
                };
                self.blocked(errand, turn, denier).await
            }
            Some(b'N') => self.follow(errand, turn, (answer, mark)).await,
            _ => Ok(self.admitted(errand, vec![answer])),
        }
    }

    /// A demand whose namesake was admitted before: who made that may have got no further than here.
    async fn follow(
        self: &Arc<Self>,
        errand: &Errand,
        turn: &Turn,
        (first, mark): (Answer, Mark),
    ) -> Result<Option<Outcomes>, LinkError> {
        let outcome = self.admitted(errand, vec![first]);
        let Some(Outcomes::Admitted(admission, Some(held))) = &outcome else {
            return Ok(outcome);
        };
        // Only who was told of a reservation extends it.
        let [demand] = held.parts[..] else {
            return Ok(outcome);
        };
        let ask = Ask {
            accounts: held.accounts.clone(),
            demand,
            ttl: held.deadline.since(self.now()),
            name: held.name,
            id: admission.id,
        };
        for part in self.parts_of(ask.id, held).into_iter().skip(1) {
            let op = errand
                .desk
                .reserve(&ask, part.accounts, part.tag, (turn.order.0, None));
            let answer = self.pump.ask(part.tag, op).await?;
            if answer.kind() == Some(b'B') {
                self.holds.forget(ask.id);
                let at = errand.groups.iter().position(|group| group.tag == part.tag);
                return match at {
                    Some(at) => {
                        let denier = Denier { at, answer, mark };
                        self.blocked(errand, turn, denier).await
                    }
                    None => Ok(None),
                };
            }
        }
        Ok(outcome)
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

    /// Gives back what the groups before number `upto` hold of a demand that another one denied, the last first. Under an
    /// idempotency key the first goes first: it knows whether a namesake was told of it, whose all of it is then.
    async fn undo(&self, errand: &Errand, upto: usize) -> Vec<Tag> {
        let held = Arc::new(Held {
            accounts: errand.ask.accounts.clone(),
            parts: vec![errand.ask.demand],
            deadline: Time::MAX,
            name: errand.ask.name,
        });
        let mut groups: Vec<Group> = errand.groups.iter().take(upto).cloned().collect();
        if errand.ask.name.is_none() {
            groups.reverse();
        }
        self.withdraw_parts((errand.ask.id, &groups), &held).await
    }

    /// The same of a demand that group number `at` did not answer to, without the caller: it may have taken effect there.
    fn undo_later(self: &Arc<Self>, errand: &Errand, at: usize) {
        if errand.groups.len() > 1 {
            let (shared, errand) = (self.clone(), errand.clone());
            self.pump.runtime().spawn(async move {
                let left = shared.undo(&errand, at + 1).await;
                if errand.unsure.load(Ordering::Relaxed) {
                    shared.outage.keep_withdrawals(errand.ask.id, &left);
                }
            });
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
        let seen = (sheets.of(&errand.ask), sheets.now);
        if self.make_room(errand, &seen.0).await {
            return Ok(None);
        }
        let is_told = |blocks: &[Block]| errand.is_told(blocks);
        let (ordered, now) = self.believed(errand, (turn.order, seen), is_told).await?;
        if turn.stand.is_some() {
            self.denials.outdate(&errand.ask.accounts);
        } else if turn.order == Order::NEWCOMER {
            self.denials.remember(errand, &ordered, denier.mark);
        }
        let views = desk::views(&errand.ask.accounts, &ordered);
        Ok(match remote::judge(&views, &errand.ask.demand, now) {
            Judgement::Free => None,
            Judgement::Blocked(blocks) => Some(Outcomes::Blocked(blocks, now)),
            Judgement::Never(never) => Some(Outcomes::Never(Decision::Never(never))),
        })
    }

    /// The answer to a demand that is larger than a limit.
    async fn never(&self, errand: &Errand) -> Result<Option<Decision>, LinkError> {
        if !errand.is_too_large() {
            return Ok(None);
        }
        let ask = &errand.ask;
        let (sheets, now) = self.look_at(errand).await?;
        let views = desk::views(&ask.accounts, &sheets);
        Ok(match remote::judge(&views, &ask.demand, now) {
            Judgement::Never(never) => Some(Decision::Never(never)),
            _ => None,
        })
    }

    /// The counters of a demand as they stand.
    pub(crate) async fn look_at(&self, errand: &Errand) -> Result<(Vec<Sheet>, Time), LinkError> {
        self.look_as(errand, Order::NEWCOMER).await
    }

    /// The same for an asker of this order.
    pub(super) async fn look_as(
        &self,
        errand: &Errand,
        order: Order,
    ) -> Result<(Vec<Sheet>, Time), LinkError> {
        let mut sheets = Sheets::default();
        for group in &errand.groups {
            let op = Op::Peek(group.accounts.clone(), errand.ask.demand);
            let answer = self.pump.ask(group.tag, op).await?;
            sheets.add(errand, group, order, &answer);
        }
        Ok((sheets.of(&errand.ask), sheets.now))
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
