//! The script that decides in the store: how operations are written for it and its answers read.
//!
//! Numbers are little-endian; an instant, a length or an amount has seven bytes, the parts of a microsecond six.
use super::names::{Account, ByKey, NamedRule};
use super::record::{Ending, Held};
use super::sheet::instant;
use crate::pack::{Pack, Unpack};
use redis::Value;
use std::borrow::Cow;
use std::sync::Arc;
use tallygate_core::remote::{Mark, Numbers, RemoteRule};
use tallygate_core::{Amounts, Time};

/// The script after some first words. What plain calls need runs without a function; what is for others is in the same text,
/// where it costs nothing until it is run.
macro_rules! script {
    ($first:expr) => {
        concat!(
            $first,
            include_str!("script/call.lua"),
            include_str!("script/writing.lua"),
            "for i = 1, #ARGV do\n",
            include_str!("script/plain.lua"),
            "if not answer and not f then\n",
            include_str!("script/making.lua"),
            "function make(file)\n",
            made!(1, "script/asking.lua"),
            made!(2, "script/ending.lua"),
            made!(3, "script/accounts.lua"),
            made!(4, "script/buckets.lua"),
            made!(5, "script/shapes.lua"),
            made!(6, "script/crowds.lua"),
            made!(7, "script/slots.lua"),
            made!(8, "script/lines.lua"),
            made!(9, "script/shares.lua"),
            made!(10, "script/extending.lua"),
            "end\n",
            include_str!("script/opening.lua"),
            "end\n",
            include_str!("script/running.lua"),
            "end\n",
            include_str!("script/closing.lua"),
        )
    };
}

macro_rules! made {
    ($number:literal, $file:literal) => {
        concat!(
            "if file == ",
            $number,
            " then\n",
            include_str!($file),
            "end\n"
        )
    };
}

/// The script as it runs: it reads the server's clock.
pub(crate) const TEXT: &str =
    script!("local moment = redis.call('TIME')\nlocal now = moment[1] * 1000000 + moment[2]\n");

/// The script with a clock that is told the time by its caller: the last argument. Keys end by it too.
#[cfg(test)]
pub(crate) const TIMED: &str = script!(include_str!("script/timed.lua"));

/// The script that is timed and says who hears what it tells: the argument before.
#[cfg(test)]
pub(crate) const TOLD: &str = script!(concat!(
    include_str!("script/timed.lua"),
    include_str!("simulation/told.lua")
));

/// Who asks the script.
#[derive(Debug, Clone)]
pub(crate) struct Node {
    /// The process.
    pub(crate) name: [u8; 8],
    pub(crate) prefix: Arc<str>,
    /// Whether the script can see which processes have subscribed: not on a Cluster.
    pub(crate) sees_subscribers: bool,
    /// Whether the servers were found to write many keys at one go. One that does not writes them one by one.
    pub(crate) writes_many: bool,
}

impl Node {
    fn flags(&self) -> u64 {
        u64::from(self.sees_subscribers) + 2 * u64::from(self.writes_many)
    }
}

/// A key that is not an account's.
pub(crate) type Key = Vec<u8>;

/// One operation.
#[derive(Debug, Clone)]
pub(crate) enum Op {
    Reserve(Reserve),
    /// Asks whether that could be had, and takes nothing; one who is denied takes a place in line all the same.
    Knock(Reserve),
    Finish(Finish),
    Extend(Extend),
    Peek(Vec<Arc<Account>>, Amounts),
    Look(Key),
    Leave(Arc<Account>, usize),
    Lease(Lease),
    Retract(Retract),
}

/// Asks for a reservation.
#[derive(Debug, Clone)]
pub(crate) struct Reserve {
    pub(crate) record: Key,
    pub(crate) name: Option<Key>,
    /// In microseconds.
    pub(crate) ttl: u64,
    /// How many milliseconds the record is kept past its deadline.
    pub(crate) keep: u64,
    pub(crate) order: u64,
    pub(crate) stand: Option<Stand>,
    pub(crate) accounts: Vec<Arc<Account>>,
    pub(crate) demand: Amounts,
    /// What is kept beside the reservation: [`Held::write`].
    pub(crate) blob: Vec<u8>,
}

/// A place in the line of a limit, to be taken if the demand does not fit.
#[derive(Debug, Clone, Default)]
pub(crate) struct Stand {
    /// Which of the accounts.
    pub(crate) account: usize,
    /// Which of its limits.
    pub(crate) limit: usize,
    /// What the process's callers in this line wait for.
    pub(crate) queued: u64,
    /// How long the place is kept, in microseconds.
    pub(crate) stay: u64,
    /// When the caller expects its turn.
    pub(crate) turn: u64,
    /// The order of the process's next caller, who takes the place once this one has gone; zero: there is none.
    pub(crate) after: u64,
    /// What they wait for then.
    pub(crate) after_queued: u64,
    /// Whether it is asked for only if it stands there already, as the next of one who has gone: else nothing is done, and
    /// the answer is [`NOT_ITS_TURN`].
    pub(crate) follows: bool,
}

/// What one who follows is answered while it is another's turn.
pub(crate) const NOT_ITS_TURN: u8 = b'T';

/// Ends a reservation.
#[derive(Debug, Clone)]
pub(crate) struct Finish {
    pub(crate) record: Key,
    pub(crate) name: Option<Key>,
    /// [`super::record::byte_of`] the outcome, or [`WITHDRAWN`]; with [`LATE`] past its deadline too.
    pub(crate) outcome: u8,
    /// How many milliseconds its receipt is kept.
    pub(crate) keep: u64,
    pub(crate) held: Arc<Held>,
    /// Which of its accounts are meant.
    pub(crate) accounts: Vec<Arc<Account>>,
    pub(crate) used: Ending,
    pub(crate) receipt: Vec<u8>,
}

/// Cancelled before its caller was told of it.
pub(crate) const WITHDRAWN: u8 = 9;

/// Its outcome was decided elsewhere.
pub(crate) const LATE: u8 = 16;

/// Extends a reservation.
#[derive(Debug, Clone)]
pub(crate) struct Extend {
    pub(crate) record: Key,
    pub(crate) name: Option<Key>,
    pub(crate) held: Arc<Held>,
    pub(crate) accounts: Vec<Arc<Account>>,
    pub(crate) more: Amounts,
    /// In microseconds; zero: the deadline stays.
    pub(crate) ttl: u64,
    pub(crate) keep: u64,
    pub(crate) blob: Vec<u8>,
}

/// Gives back what an extension added.
#[derive(Debug, Clone)]
pub(crate) struct Retract {
    pub(crate) record: Key,
    /// With that extension.
    pub(crate) held: Arc<Held>,
    pub(crate) accounts: Vec<Arc<Account>>,
    pub(crate) keep: u64,
    /// What is kept beside the reservation without it, and which extension is meant.
    pub(crate) blob: Vec<u8>,
    pub(crate) mark: [u8; 8],
}

/// Reports on a share of an account, gives back of it, asks for more: amounts a limit.
#[derive(Debug, Clone)]
pub(crate) struct Lease {
    pub(crate) account: Arc<Account>,
    /// How long it stands without another report, in microseconds.
    pub(crate) ttl: u64,
    /// Numbers the reports, so that one that is sent twice, or comes late, counts once.
    pub(crate) turn: u64,
    /// Whether the share exists, as far as is known here.
    pub(crate) known: bool,
    /// Whether it grows although others wait.
    pub(crate) ahead: bool,
    pub(crate) spent: Vec<u64>,
    /// What was used besides, and is no part of it.
    pub(crate) over: Vec<u64>,
    pub(crate) back: Vec<u64>,
    pub(crate) more: Vec<u64>,
    /// What must be free beside it.
    pub(crate) spare: Vec<u64>,
}

/// One call of the script.
#[derive(Debug, Clone, Default)]
pub(crate) struct Batch {
    pub(crate) keys: Vec<Key>,
    pub(crate) args: Vec<Vec<u8>>,
    /// How many of the keys are accounts.
    accounts: usize,
}

/// What the script answered to one call.
#[derive(Debug, Clone, Default)]
pub(crate) struct Answers {
    /// The server's time.
    pub(crate) now: Time,
    /// The accounts of the call as they stand now, by key.
    pub(crate) accounts: ByKey<Key, Vec<u8>>,
    /// One for each operation; none when a calendar window was not the one thought, or an account cannot be read.
    pub(crate) operations: Vec<Vec<u8>>,
    /// The accounts that hold something else.
    pub(crate) unreadable: Vec<Key>,
}

impl Op {
    /// The same question with nothing taken.
    pub(crate) fn knocking(self) -> Self {
        match self {
            Self::Reserve(one) => Self::Knock(one),
            other => other,
        }
    }

    /// The accounts it touches.
    pub(crate) fn accounts(&self) -> &[Arc<Account>] {
        match self {
            Self::Reserve(one) | Self::Knock(one) => &one.accounts,
            Self::Finish(one) => &one.accounts,
            Self::Extend(one) => &one.accounts,
            Self::Peek(accounts, _) => accounts,
            Self::Look(_) => &[],
            Self::Leave(account, _) => std::slice::from_ref(account),
            Self::Lease(one) => std::slice::from_ref(&one.account),
            Self::Retract(one) => &one.accounts,
        }
    }
}

/// Writes operations as one call; `now` is what the server's clock is thought to show.
pub(crate) fn write<'a>(node: &'a Node, ops: &[&'a Op], now: Time) -> Batch {
    let mut writer = Writer::new(node, ops, now);
    for op in ops {
        let written = writer.operation(op);
        writer.batch.args.push(written);
    }
    writer.batch
}

/// Reads the answer to a call.
pub(crate) fn read(batch: &Batch, values: Vec<Value>) -> Option<Answers> {
    let mut values = values.into_iter().map(|value| match value {
        Value::BulkString(bytes) => Some(bytes),
        Value::SimpleString(text) => Some(text.into_bytes()),
        _ => None,
    });
    let now = instant(Unpack(&values.next()??).long()?);
    let mut answers = Answers {
        now,
        accounts: ByKey::with_capacity_and_hasher(batch.accounts, Default::default()),
        operations: Vec::with_capacity(batch.args.len()),
        unreadable: Vec::new(),
    };
    if values.len() == 0 {
        return Some(answers);
    }
    if values.len() == 1 && batch.accounts > 0 {
        answers.unreadable = unreadable(batch, &values.next()??)?;
        return Some(answers);
    }
    for key in batch.keys.iter().take(batch.accounts) {
        answers.accounts.insert(key.clone(), values.next()??);
    }
    for (value, asked) in values.zip(batch.args.iter().skip(1)) {
        let said = value?;
        let as_asked = said == AS_ASKED;
        answers.operations.push(if as_asked {
            ended_as_asked(asked)?
        } else {
            said
        });
    }
    Some(answers)
}

/// The answer to a [`Finish`] that left no debt: its receipt stands in the call.
const AS_ASKED: &[u8] = b"D";

/// The answer to a [`Finish`] that says its receipt.
fn ended_as_asked(finish: &[u8]) -> Option<Vec<u8>> {
    let mut finish = Unpack(finish);
    finish.bytes(RECEIPT_AT)?;
    let size = usize::try_from(finish.uint(3)?).ok()?;
    Some([b"E", finish.bytes(size)?].concat())
}

/// Where the receipt stands in a [`Finish`] as it is written, its length before it.
const RECEIPT_AT: usize = 1 + 2 + 2 + 1 + 2 + 7;

fn unreadable(batch: &Batch, places: &[u8]) -> Option<Vec<Key>> {
    let mut places = Unpack(places);
    let mut keys = Vec::new();
    while !places.is_empty() {
        let place = usize::try_from(places.uint(2)?).ok()?;
        keys.push(batch.keys.get(place.checked_sub(1)?)?.clone());
    }
    Some(keys)
}

struct Writer<'a> {
    node: &'a Node,
    places: ByKey<Cow<'a, [u8]>, u64>,
    /// By place. One that comes under two policies counts as it came first.
    accounts: Vec<&'a Arc<Account>>,
    batch: Batch,
}

/// The rules of a call, and where each of them is.
#[derive(Default)]
struct Rules<'a> {
    listed: Vec<&'a RemoteRule>,
    places: ByKey<[u8; 8], usize>,
}

impl<'a> Rules<'a> {
    /// The number of a rule. A policy may have ten thousand of them: none is looked for among the others.
    fn place(&mut self, named: &'a NamedRule) -> u64 {
        let known = self.places.get(&named.name).copied();
        let same = |place: &usize| {
            self.listed
                .get(*place)
                .is_some_and(|rule| rule.is(&named.rule))
        };
        let place = known.filter(same).unwrap_or_else(|| {
            // The same rule of another policy counts by other amounts: it is listed once more.
            self.listed.push(&named.rule);
            self.listed.len() - 1
        });
        self.places.insert(named.name, place);
        place as u64 + 1
    }
}

impl<'a> Writer<'a> {
    fn new(node: &'a Node, ops: &[&'a Op], now: Time) -> Self {
        let mut writer = Self {
            node,
            places: ByKey::with_capacity_and_hasher(4 * ops.len(), Default::default()),
            accounts: Vec::new(),
            batch: Batch::default(),
        };
        for account in ops.iter().flat_map(|op| op.accounts()) {
            if !writer.places.contains_key(&account.key[..]) {
                writer.place(&account.key);
                writer.accounts.push(account);
            }
        }
        writer.batch.accounts = writer.accounts.len();
        for op in ops {
            if let Op::Reserve(Reserve { record, .. }) | Op::Finish(Finish { record, .. }) = op {
                writer.place(record);
            }
        }
        let head = writer.head(now);
        writer.batch.args.push(head);
        writer
    }

    /// Writes the number of an account; answers it as it is described to the script.
    fn account(&mut self, out: &mut Vec<u8>, account: &'a Arc<Account>) -> &'a Arc<Account> {
        let place = self.place(&account.key);
        out.uint(place, 2);
        let known = usize::try_from(place - 1).ok();
        let known = known.and_then(|at| self.accounts.get(at));
        known.copied().unwrap_or(account)
    }

    /// The number of a key.
    fn place(&mut self, key: impl Into<Cow<'a, [u8]>>) -> u64 {
        let key = key.into();
        let next = self.batch.keys.len() as u64 + 1;
        let place = *self.places.entry(key.clone()).or_insert(next);
        if place == next {
            self.batch.keys.push(key.into_owned());
        }
        place
    }

    fn place_if(&mut self, key: Option<impl Into<Cow<'a, [u8]>>>) -> u64 {
        key.map_or(0, |key| self.place(key))
    }

    fn head(&mut self, now: Time) -> Vec<u8> {
        let mut out = Vec::with_capacity(64);
        out.extend_from_slice(&self.node.name);
        out.uint(self.node.flags(), 1);
        out.uint(self.node.prefix.len() as u64, 1);
        out.extend_from_slice(self.node.prefix.as_bytes());
        let accounts = self.accounts.clone();
        let records = self.batch.keys.len() - accounts.len();
        let mut rules = Rules::default();
        let mut places = Vec::with_capacity(4 * accounts.len());
        for account in &accounts {
            places.uint(rules.place(&account.rule), 2);
            let slots = account.slots(&self.node.prefix);
            places.uint(self.place_if(slots), 2);
        }
        out.uint(rules.listed.len() as u64, 2);
        for rule in rules.listed {
            out.uint(rule.limits().len() as u64, 1);
            out.uint(u64::from(rule.is_enforced()), 1);
            rule.limits()
                .for_each(|limit| numbers(&mut out, limit.numbers(now)));
        }
        out.uint(accounts.len() as u64, 2);
        out.uint(records as u64, 2);
        out.extend(places);
        out
    }

    fn operation(&mut self, op: &'a Op) -> Vec<u8> {
        // Enough for a reservation of two accounts, or its end.
        let mut out = Vec::with_capacity(256);
        match op {
            Op::Reserve(one) => self.reserve((&mut out, 1), one),
            Op::Knock(one) => self.reserve((&mut out, 9), one),
            Op::Finish(one) => self.finish(&mut out, one),
            Op::Extend(one) => self.extend(&mut out, one),
            Op::Peek(accounts, demand) => {
                out.push(4);
                self.asks(&mut out, accounts, demand);
            }
            Op::Look(record) => {
                out.push(5);
                out.uint(self.place(record), 2);
            }
            Op::Leave(account, limit) => {
                out.push(6);
                out.uint(self.place(&account.key), 2);
                out.uint(*limit as u64 + 1, 1);
            }
            Op::Lease(one) => self.lease(&mut out, one),
            Op::Retract(one) => self.retract(&mut out, one),
        }
        out
    }

    fn reserve(&mut self, (out, kind): (&mut Vec<u8>, u8), one: &'a Reserve) {
        out.push(kind);
        out.uint(self.place(&one.record), 2);
        out.uint(self.place_if(one.name.as_ref()), 2);
        let stand = one.stand.as_ref();
        let stand = stand.and_then(|stand| Some((stand, one.accounts.get(stand.account)?)));
        out.uint(self.place_if(stand.map(|(_, account)| &account.key)), 2);
        out.long(one.ttl);
        out.long(one.keep);
        out.text(&one.blob);
        self.asks(out, &one.accounts, &one.demand);
        out.long(one.order);
        let Some((stand, _)) = stand else {
            return out.push(0);
        };
        out.uint(stand.limit as u64 + 1, 1);
        for number in [
            stand.queued,
            stand.stay,
            stand.turn,
            stand.after,
            stand.after_queued,
        ] {
            out.long(number);
        }
        out.push(u8::from(stand.follows));
    }

    fn finish(&mut self, out: &mut Vec<u8>, one: &'a Finish) {
        out.push(2);
        out.uint(self.place(&one.record), 2);
        out.uint(self.place_if(one.name.as_ref()), 2);
        out.push(one.outcome);
        out.uint(one.held.parts.len() as u64, 2);
        out.long(one.keep);
        out.text(&one.receipt);
        out.uint(one.accounts.len() as u64, 2);
        for account in &one.accounts {
            let account = self.account(out, account);
            for part in 0..one.held.parts.len() {
                truth(out, account, (&one.held, part), &one.used);
            }
        }
    }

    fn extend(&mut self, out: &mut Vec<u8>, one: &'a Extend) {
        out.push(3);
        out.uint(self.place(&one.record), 2);
        out.uint(self.place_if(one.name.as_ref()), 2);
        out.uint(one.held.parts.len() as u64, 2);
        out.push(u8::from(one.more != Amounts::ZERO));
        out.long(one.ttl);
        out.long(one.keep);
        out.text(&one.blob);
        self.asks(out, &one.accounts, &one.more);
        for account in &one.accounts {
            let limits = account.rule.rule.limits();
            let slots =
                limits.filter(|limit| matches!(limit.numbers(Time::ZERO), Numbers::Gauge { .. }));
            for limit in slots {
                for part in &one.held.parts {
                    out.long(part.get(limit.metric()));
                }
            }
        }
    }

    fn retract(&mut self, out: &mut Vec<u8>, one: &'a Retract) {
        out.push(8);
        out.uint(self.place(&one.record), 2);
        out.uint(one.held.parts.len() as u64, 2);
        out.long(one.keep);
        out.text(&one.blob);
        out.uint(one.accounts.len() as u64, 2);
        let last = one.held.parts.len().saturating_sub(1);
        let nothing = Ending::Exactly(Amounts::ZERO);
        for account in &one.accounts {
            let account = self.account(out, account);
            truth(out, account, (&one.held, last), &nothing);
        }
        out.extend_from_slice(&one.mark);
    }

    fn lease(&mut self, out: &mut Vec<u8>, one: &'a Lease) {
        out.push(7);
        let account = self.account(out, &one.account);
        out.long(one.ttl);
        out.long(one.turn);
        out.push(u8::from(one.ahead) + 2 * u8::from(one.known));
        for (at, limit) in account.rule.rule.limits().enumerate() {
            for amounts in [&one.spent, &one.over, &one.back, &one.more, &one.spare] {
                let amount = amounts.get(at).copied().unwrap_or(0);
                out.long(amount);
                mark(out, limit.cost(amount));
            }
        }
    }

    fn asks(&mut self, out: &mut Vec<u8>, accounts: &'a [Arc<Account>], demand: &Amounts) {
        out.uint(accounts.len() as u64, 2);
        for account in accounts {
            let account = self.account(out, account);
            for limit in account.rule.rule.limits() {
                let amount = demand.get(limit.metric());
                out.long(amount);
                mark(out, limit.cost(amount));
            }
        }
    }
}

fn numbers(out: &mut Vec<u8>, numbers: Numbers) {
    match numbers {
        Numbers::Bucket {
            amount,
            base,
            burst,
        } => {
            out.push(b'b');
            out.long(amount);
            out.uint(base, 6);
            mark(out, burst);
        }
        Numbers::Sliding {
            amount,
            every,
            width,
        } => {
            out.push(b's');
            [amount, every, width]
                .into_iter()
                .for_each(|number| out.long(number));
        }
        Numbers::Fixed {
            amount,
            number,
            from,
            to,
        } => {
            out.push(b'f');
            [amount, number, from, to]
                .into_iter()
                .for_each(|number| out.long(number));
        }
        Numbers::Gauge { amount } => {
            out.push(b'g');
            out.long(amount);
        }
    }
}

/// What a part of a reservation held of each limit of an account and what of it was used; what a bucket's level moves by
/// for that, and what it held in microseconds, rounded up.
fn truth(out: &mut Vec<u8>, account: &Account, (held, part): (&Held, usize), used: &Ending) {
    for limit in account.rule.rule.limits() {
        let (held, used) = held.truth(part, limit.metric(), used);
        out.long(held);
        out.long(used);
        mark(out, limit.cost(held.abs_diff(used)));
        let cost = limit.cost(held);
        out.long(cost.micros + u64::from(cost.rest > 0));
    }
}

fn mark(out: &mut Vec<u8>, mark: Mark) {
    out.long(mark.micros);
    out.uint(mark.rest, 6);
}

/// The time of an instant for the timed script.
#[cfg(test)]
pub(crate) fn timed(batch: &mut Batch, now: Time) {
    batch
        .args
        .push(super::sheet::micros(now).to_string().into_bytes());
}

#[cfg(test)]
pub(super) mod tests;
