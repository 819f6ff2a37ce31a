//! What is asked of the script, and what its answers mean: all of the store that needs no connection.
use super::metrics::MetricNames;
use super::names::{self, Account, Tag};
use super::record::{self, Ending, Held, Record, Registry, byte_of};
use super::rules::NamedRules;
use super::script::{Answers, Extend, Finish, LATE, Node, Op, Reserve, Retract, Stand, WITHDRAWN};
use super::sheet::{self, Order, Sheet, instant};
use crate::pack::Unpack;
use std::sync::Arc;
use std::time::Duration;
use tallygate_core::remote::{self, Block, Judgement};
use tallygate_core::{
    Admission, Amounts, Decision, EndError, Extended, Outcome, Policy, Receipt, Replay,
    ReservationId, Span, Time,
};

/// The rules in force and who asks.
#[derive(Debug, Clone)]
pub(crate) struct Desk {
    pub(crate) node: Node,
    pub(crate) rules: NamedRules,
    pub(crate) metrics: MetricNames,
}

/// A demand of a subject.
#[derive(Debug, Clone)]
pub(crate) struct Ask {
    pub(crate) accounts: Vec<Arc<Account>>,
    pub(crate) demand: Amounts,
    pub(crate) ttl: Span,
    pub(crate) name: Option<[u8; 16]>,
    pub(crate) id: ReservationId,
}

/// What a reservation is to be extended by.
#[derive(Debug, Clone, Copy)]
pub(crate) struct More {
    pub(crate) amounts: Amounts,
    /// From now; none: the deadline stays.
    pub(crate) ttl: Option<Span>,
    /// Tells this extension from all others, so that one that is sent twice counts once.
    mark: [u8; 8],
}

impl More {
    pub(crate) fn new(amounts: Amounts, ttl: Option<Span>) -> Self {
        let mut mark = [0; 8];
        getrandom::fill(&mut mark).expect("invariant: the machine has a source of randomness");
        Self { amounts, ttl, mark }
    }

    pub(crate) const fn without_ttl(&self) -> Self {
        Self { ttl: None, ..*self }
    }

    pub(crate) const fn without_amounts(&self) -> Self {
        Self {
            amounts: Amounts::ZERO,
            ..*self
        }
    }
}

/// What came of a demand.
#[derive(Debug, Clone)]
pub(crate) enum Heard {
    /// It is held now.
    Held(Admission, Arc<Held>),
    /// It was admitted before under the same idempotency key.
    Known(Admission, Option<Arc<Held>>),
    /// It does not fit.
    Blocked(Vec<Block>),
    /// It does not fit, and never will.
    Never(Decision),
    /// Room came up in the same breath: to be asked again.
    Again,
}

/// What came of an attempt to end or extend a reservation.
#[derive(Debug, Clone)]
pub(crate) enum Done {
    Ended(Receipt),
    Extended(Extended),
    /// It is not as it was thought to be.
    Changed(Arc<Held>),
    Failed(EndError),
    Again,
}

/// How long a receipt is kept for repeats.
pub(crate) const RECEIPT_TTL: Duration = Duration::from_secs(120);

/// The longest time to live of a reservation: ten years.
const LONGEST_TTL: u64 = 3650 * 86_400 * 1_000_000;

impl Desk {
    pub(crate) fn new(node: Node, policy: &Policy) -> Self {
        Self {
            metrics: MetricNames::of(policy.metrics()),
            rules: NamedRules::new(policy),
            node,
        }
    }

    /// The same process's desk under another policy.
    pub(crate) fn followed_by(&self, policy: &Policy) -> Self {
        Self {
            metrics: MetricNames::of(policy.metrics()),
            rules: self.rules.followed_by(policy),
            node: self.node.clone(),
        }
    }

    /// Accounts under the policy in force, whatever it was when they were looked up. A rule that has gone has taken its
    /// counters with it.
    pub(crate) fn current(&self, accounts: &[Arc<Account>]) -> Vec<Arc<Account>> {
        let accounts = accounts.iter();
        accounts
            .filter_map(|account| self.current_account(account))
            .collect()
    }

    /// The same for one.
    pub(crate) fn current_account(&self, account: &Arc<Account>) -> Option<Arc<Account>> {
        let rule = self.rules.find(&account.rule.name)?;
        Some(match rule.rule.is(&account.rule.rule) {
            true => account.clone(),
            false => Arc::new(rule.named(&self.node.prefix, account.tag, account.name)),
        })
    }

    /// The counters a subject is charged to, in the order of the rules.
    pub(crate) fn resolve(&self, subject: &[(&str, &str)]) -> Vec<Arc<Account>> {
        let rules = self.rules.applying(subject);
        rules
            .map(|rule| rule.account(&self.node.prefix, subject))
            .collect()
    }

    pub(crate) fn registry(&self) -> Registry<'_> {
        Registry {
            prefix: &self.node.prefix,
            rules: &self.rules,
            metrics: &self.metrics,
        }
    }

    fn name_key(&self, tag: Tag, name: Option<[u8; 16]>) -> Option<Vec<u8>> {
        name.map(|name| names::key(&self.node.prefix, tag, b'n', &name))
    }

    /// The part of a demand that concerns `accounts`, all of one tag or of one server.
    pub(crate) fn reserve(
        &self,
        ask: &Ask,
        accounts: Vec<Arc<Account>>,
        tag: Tag,
        place: (u64, Option<Stand>),
    ) -> Op {
        let held = Held {
            accounts: ask.accounts.clone(),
            parts: vec![ask.demand],
            deadline: Time::MAX,
            name: ask.name,
        };
        let is_home = names::home(ask.id) == tag;
        Op::Reserve(Reserve {
            record: names::record(&self.node.prefix, tag, ask.id),
            name: self.name_key(tag, ask.name.filter(|_| is_home)),
            ttl: lifetime(ask.ttl),
            keep: keep(),
            order: place.0,
            stand: place.1,
            accounts,
            demand: ask.demand,
            blob: held.write(&self.metrics),
        })
    }

    /// What the answer to [`Self::reserve`] means.
    pub(crate) fn reserved(&self, ask: &Ask, answers: &Answers, at: usize) -> Option<Heard> {
        let raw = answers.operations.get(at)?;
        let (kind, rest) = raw.split_first()?;
        match kind {
            b'A' => {
                let deadline = instant(Unpack(rest).long()?);
                Some(self.held(ask, answers, deadline))
            }
            b'P' => self.known(ask.id, rest, ask, answers),
            b'N' => {
                let (random, rest) = rest.split_first_chunk::<12>()?;
                self.known(
                    names::id_of(names::home(ask.id), *random),
                    rest,
                    ask,
                    answers,
                )
            }
            _ => Some(self.blocked(&ask.accounts, &ask.demand, Order::NEWCOMER, (answers, rest))),
        }
    }

    /// What blocks a demand of this order, by the accounts as they were answered.
    pub(crate) fn blocked(
        &self,
        accounts: &[Arc<Account>],
        demand: &Amounts,
        order: Order,
        (answers, ends): (&Answers, &[u8]),
    ) -> Heard {
        let mut sheets = self.sheets(accounts, order, answers);
        sheet::add_ends(&mut sheets, ends);
        match remote::judge(&views(accounts, &sheets), demand, answers.now) {
            Judgement::Free => Heard::Again,
            Judgement::Blocked(blocks) => Heard::Blocked(blocks),
            Judgement::Never(never) => Heard::Never(Decision::Never(never)),
        }
    }

    /// The accounts as they were answered, for an asker of this order.
    pub(crate) fn sheets(
        &self,
        accounts: &[Arc<Account>],
        order: Order,
        answers: &Answers,
    ) -> Vec<Sheet> {
        let read = |account: &Arc<Account>| {
            let raw = answers.accounts.get(&account.key);
            let raw = raw.map_or(&[][..], Vec::as_slice);
            sheet::read(account, raw, order, answers.now)
        };
        accounts.iter().map(read).collect()
    }

    fn held(&self, ask: &Ask, answers: &Answers, deadline: Time) -> Heard {
        let sheets = self.sheets(&ask.accounts, Order(0), answers);
        let views = views(&ask.accounts, &sheets);
        let held = Held {
            accounts: ask.accounts.clone(),
            parts: vec![ask.demand],
            deadline,
            name: ask.name,
        };
        let admission = Admission {
            id: ask.id,
            expires_at: deadline,
            reserved: ask.demand,
            standings: remote::standings(&views, answers.now),
            shadowed: remote::shadowed(&views, &ask.demand, answers.now),
            waited: Duration::ZERO,
            replay: Replay::Fresh,
        };
        Heard::Held(admission, Arc::new(held))
    }

    fn known(&self, id: ReservationId, raw: &[u8], ask: &Ask, answers: &Answers) -> Option<Heard> {
        let sheets = self.sheets(&ask.accounts, Order(0), answers);
        let standings = remote::standings(&views(&ask.accounts, &sheets), answers.now);
        let (replay, reserved, expires_at, held) =
            match record::read(raw, answers.now, &self.registry())? {
                Record::Open(held) => {
                    let (total, deadline) = (held.total(), held.deadline);
                    (Replay::Open, total, deadline, Some(Arc::new(held)))
                }
                Record::Ended(receipt) => {
                    let reserved = receipt.charged.zip(&receipt.returned, u64::saturating_add);
                    (Replay::Ended(receipt.outcome), reserved, answers.now, None)
                }
            };
        // Ours, admitted by a call whose answer was lost.
        let replay = match replay {
            Replay::Open if id == ask.id => Replay::Fresh,
            other => other,
        };
        let admission = Admission {
            id,
            expires_at,
            reserved,
            standings,
            shadowed: Vec::new(),
            waited: Duration::ZERO,
            replay,
        };
        Some(Heard::Known(admission, held))
    }

    /// Asks how a reservation stands.
    pub(crate) fn look(&self, id: ReservationId) -> Op {
        Op::Look(names::record(&self.node.prefix, names::home(id), id))
    }

    /// What the answer to [`Self::look`] says.
    pub(crate) fn looked(&self, answers: &Answers, at: usize) -> Option<Record> {
        let raw = answers.operations.get(at)?;
        record::read(raw.get(1..)?, answers.now, &self.registry())
    }

    /// Ends a reservation on those of its accounts that are kept with the record under `tag`.
    pub(crate) fn finish(
        &self,
        id: ReservationId,
        held: &Arc<Held>,
        place: (Tag, Vec<Arc<Account>>),
        ending: (Outcome, Ending),
    ) -> Finish {
        let (tag, accounts) = (place.0, self.current(&place.1));
        let (outcome, used) = ending;
        let is_home = names::home(id) == tag;
        let part = Held {
            accounts: accounts.clone(),
            ..Held::clone(held)
        };
        Finish {
            record: names::record(&self.node.prefix, tag, id),
            name: self.name_key(tag, held.name.filter(|_| is_home)),
            outcome: byte_of(outcome) + if is_home { 0 } else { LATE },
            keep: keep(),
            receipt: part.write_receipt(&held.receipt(outcome, &used), &self.metrics),
            held: held.clone(),
            accounts,
            used,
        }
    }

    /// Cancels a reservation whose caller was never told of it.
    pub(crate) fn withdraw(
        &self,
        id: ReservationId,
        held: &Arc<Held>,
        place: (Tag, Vec<Arc<Account>>),
    ) -> Op {
        let nothing = Ending::Exactly(Amounts::ZERO);
        let mut finish = self.finish(id, held, place, (Outcome::Cancelled, nothing));
        finish.outcome = WITHDRAWN + (finish.outcome & LATE);
        Op::Finish(finish)
    }

    /// What the answer to [`Self::finish`] means to who wanted this outcome.
    pub(crate) fn finished(&self, wanted: Outcome, answers: &Answers, at: usize) -> Option<Done> {
        let raw = answers.operations.get(at)?;
        let (kind, rest) = raw.split_first()?;
        let registry = self.registry();
        let found = || record::read(rest, answers.now, &registry);
        Some(match kind {
            b'E' => match found()? {
                Record::Ended(receipt) => Done::Ended(receipt),
                Record::Open(_) => return None,
            },
            b'U' => Done::Failed(EndError::Unknown),
            _ => match found()? {
                Record::Open(held) => Done::Changed(Arc::new(held)),
                Record::Ended(receipt) if receipt.outcome == wanted => Done::Ended(receipt.again()),
                Record::Ended(receipt) => Done::Failed(EndError::Ended(Box::new(receipt))),
            },
        })
    }

    /// Extends a reservation on those of its accounts that are kept with the record under `tag`.
    pub(crate) fn extend(
        &self,
        id: ReservationId,
        held: &Arc<Held>,
        place: (Tag, Vec<Arc<Account>>),
        more: &More,
    ) -> Op {
        let (tag, accounts) = (place.0, self.current(&place.1));
        let is_home = names::home(id) == tag;
        let mut after = Held::clone(held);
        let mut mark = &[][..];
        if more.amounts != Amounts::ZERO {
            after.parts.push(more.amounts);
            mark = &more.mark;
        }
        Op::Extend(Extend {
            record: names::record(&self.node.prefix, tag, id),
            name: self.name_key(tag, held.name.filter(|_| is_home)),
            held: held.clone(),
            accounts,
            more: more.amounts,
            ttl: more.ttl.map_or(0, |ttl| lifetime(ttl).max(1)),
            keep: keep(),
            blob: [&after.write(&self.metrics), mark].concat(),
        })
    }

    /// Gives back what [`Self::extend`] added, where it did.
    pub(crate) fn retract(
        &self,
        id: ReservationId,
        held: &Held,
        place: (Tag, Vec<Arc<Account>>),
        more: &More,
    ) -> Op {
        let (tag, accounts) = (place.0, self.current(&place.1));
        let mut after = held.clone();
        after.parts.push(more.amounts);
        Op::Retract(Retract {
            record: names::record(&self.node.prefix, tag, id),
            held: Arc::new(after),
            accounts,
            keep: keep(),
            blob: held.write(&self.metrics),
            mark: more.mark,
        })
    }

    /// What the answer to [`Self::extend`] means.
    pub(crate) fn extended(
        &self,
        held: &Held,
        more: &Amounts,
        answers: &Answers,
        at: usize,
    ) -> Option<Done> {
        let raw = answers.operations.get(at)?;
        let (kind, rest) = raw.split_first()?;
        Some(match kind {
            b'A' => Done::Extended(Extended::Granted {
                expires_at: instant(Unpack(rest).long()?),
                reserved: held.total().zip(more, u64::saturating_add),
            }),
            b'B' => self.refused(&held.accounts, more, answers, rest),
            b'U' => Done::Failed(EndError::Unknown),
            _ => match record::read(rest, answers.now, &self.registry())? {
                Record::Open(held) => Done::Changed(Arc::new(held)),
                Record::Ended(receipt) => Done::Failed(EndError::Ended(Box::new(receipt))),
            },
        })
    }

    /// What keeps an extension by `more` from fitting, by the accounts as they were answered; [`Done::Again`] if nothing does.
    pub(crate) fn refused(
        &self,
        accounts: &[Arc<Account>],
        more: &Amounts,
        answers: &Answers,
        ends: &[u8],
    ) -> Done {
        match self.blocked(&self.current(accounts), more, Order(0), (answers, ends)) {
            Heard::Blocked(blocks) => match remote::denial(blocks, answers.now) {
                Decision::Deny(denial) => Done::Extended(Extended::Deny(denial)),
                Decision::Never(never) => Done::Extended(Extended::Never(never)),
                Decision::Admit(_) => Done::Again,
            },
            Heard::Never(Decision::Never(never)) => Done::Extended(Extended::Never(never)),
            _ => Done::Again,
        }
    }
}

/// Accounts with what was read of them, as the core judges them.
pub(crate) fn views<'a>(
    accounts: &'a [Arc<Account>],
    sheets: &'a [Sheet],
) -> Vec<remote::Sheet<'a>> {
    let pairs = accounts.iter().zip(sheets);
    let view = |(account, sheet): (&'a Arc<Account>, &'a Sheet)| remote::Sheet {
        rule: &account.rule.rule,
        counters: &sheet.counters,
    };
    pairs.map(view).collect()
}

/// A time to live in microseconds, rounded up.
fn lifetime(ttl: Span) -> u64 {
    ttl.as_nanos().div_ceil(1000).min(LONGEST_TTL)
}

fn keep() -> u64 {
    u64::try_from(RECEIPT_TTL.as_millis()).unwrap_or(u64::MAX)
}
