//! The network of a simulation: what is on its way is delayed and lost, processes are cut off and die, the server's clock
//! is set and its state falls back to that of a replica.
mod reach;
mod wire;

use self::reach::Reach;
pub(in crate::redis) use self::wire::Wire;
use super::engine::Engine;
use super::ground::{Ground, Left, Overshoot};
use super::truth::{Moment, Truth, Verdict};
use crate::pack::Unpack;
use crate::redis::desk::Desk;
use crate::redis::link::{Call, Notice};
use crate::redis::names::Account;
use crate::redis::script::{Answers, Node as Name};
use crate::redis::sheet::{self, Order, Sheet, instant};
use parking_lot::Mutex;
use redis::Value;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;
use tallygate_core::{Policy, Shape};
use tallygate_sim::Rng;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, sleep_until};

/// A morning, far from midnight: 2026-03-02 09:00 UTC.
const MORNING: u64 = 1_772_442_000_000_000;

/// How rough a seed is.
#[derive(Debug, Clone, Copy)]
pub(in crate::redis) struct Weather {
    /// How many of a thousand requests, answers and messages are lost.
    pub(in crate::redis) lost: u64,
    /// Milliseconds on the way at most, and now and then.
    pub(in crate::redis) delay: u64,
    pub(in crate::redis) stall: u64,
}

/// One server and the way to it.
pub(in crate::redis) struct Network(Mutex<Inner>);

pub(in crate::redis) struct Inner {
    pub(in crate::redis) engine: Engine,
    pub(in crate::redis) truth: Truth,
    pub(in crate::redis) rng: Rng,
    weather: Weather,
    /// How much faster than the processes' clocks the server's runs, in parts per million.
    pub(in crate::redis) drift: i64,
    desk: Desk,
    seats: Vec<Seat>,
    started: Instant,
    /// How far the server's clock was set, in microseconds.
    set: i64,
    /// Whether that was since it was last read.
    is_set: bool,
    /// Whether what had ended may have come back.
    pub(super) was_set_back: bool,
    moment: Moment,
    /// How often another server has taken over.
    reign: u64,
    away_until: Instant,
    behind: Option<Truth>,
    /// Whether keys of different tags are on different servers, as far as the processes know.
    pub(in crate::redis) is_apart: bool,
    /// Whether processes know that they cannot reach the server, once they had no answer.
    pub(in crate::redis) has_circuits: bool,
    /// Looks at the processes after every call, at this moment of the server's.
    pub(in crate::redis) witness: Option<Witness>,
    /// How much longer than requests answers take.
    pub(in crate::redis) late: Duration,
    /// By how many microseconds at most the server's clock is ahead of what has passed.
    pub(in crate::redis) fine: u64,
    /// What took effect and was lost since.
    pub(in crate::redis) lost: BTreeSet<u128>,
    pub(in crate::redis) broken: Option<String>,
    pub(in crate::redis) log: Vec<String>,
}

/// What holds of the processes.
pub(in crate::redis) type Witness = Box<dyn Fn(&Ground, u64) -> Verdict + Send>;

/// A process as the network knows it.
#[derive(Default)]
struct Seat {
    reach: Reach,
    name: String,
    to: Option<mpsc::Sender<Notice>>,
    /// Whether the server tells it.
    hears: bool,
    is_cut: bool,
    is_dead: bool,
    /// When what was told last arrives: nothing overtakes it.
    last: Option<Instant>,
}

/// What a run came to.
pub(in crate::redis) struct Came {
    pub(in crate::redis) log: Vec<String>,
    /// What must hold and did not.
    pub(in crate::redis) broken: Option<String>,
    pub(in crate::redis) overshoot: Overshoot,
}

impl Network {
    pub(in crate::redis) fn new(
        engine: Engine,
        seed: u64,
        (weather, policy): (Weather, &Policy),
    ) -> Arc<Self> {
        let node = Name {
            name: *b"observer",
            prefix: "tg".into(),
            sees_subscribers: true,
            writes_many: true,
        };
        Arc::new(Self(Mutex::new(Inner {
            engine,
            truth: Truth::default(),
            rng: Rng::new(seed),
            weather,
            drift: 0,
            desk: Desk::new(node, policy),
            seats: Vec::new(),
            started: Instant::now(),
            set: 0,
            is_set: false,
            was_set_back: false,
            moment: Moment { shown: 0, fair: 0 },
            reign: 0,
            away_until: Instant::now(),
            behind: None,
            is_apart: false,
            has_circuits: false,
            witness: None,
            late: Duration::ZERO,
            fine: 900,
            lost: BTreeSet::new(),
            broken: None,
            log: Vec::new(),
        })))
    }

    /// A way for another process.
    pub(in crate::redis) fn wire(self: &Arc<Self>) -> (usize, Arc<Wire>) {
        let mut inner = self.0.lock();
        inner.seats.push(Seat::default());
        let seat = inner.seats.len() - 1;
        let network = self.clone();
        (seat, Arc::new(Wire { network, seat }))
    }

    /// Takes the network apart.
    pub(in crate::redis) fn with<T>(&self, look: impl FnOnce(&mut Inner) -> T) -> T {
        look(&mut self.0.lock())
    }

    /// The server, and what it all came to.
    pub(in crate::redis) fn into_parts(self) -> (Engine, Came) {
        let inner = self.0.into_inner();
        let came = Came {
            log: inner.log,
            broken: inner.broken,
            overshoot: inner.truth.ground.worst(),
        };
        (inner.engine, came)
    }

    pub(in crate::redis) fn note(&self, what: &str) {
        self.with(|inner| inner.note(what));
    }

    /// Cuts a process off for a while; whether the server sees that is drawn.
    pub(in crate::redis) fn cut(self: &Arc<Self>, seat: usize, length: Duration) {
        let is_seen = self.with(|inner| {
            let is_seen = inner.rng.below(2) == 0;
            inner.note(&format!(
                "n{seat} is cut off for {length:?}, seen: {is_seen}"
            ));
            inner.reach(seat).darken(length);
            inner.seats[seat].is_cut = true;
            inner.seats[seat].hears &= !is_seen;
            is_seen
        });
        if is_seen {
            self.interrupt(seat);
        }
        let network = self.clone();
        tokio::spawn(async move {
            sleep(length).await;
            network.with(|inner| {
                inner.note(&format!("n{seat} is back"));
                inner.seats[seat].is_cut = false;
            });
            network.resume(seat).await;
        });
    }

    /// Ends a process as `kill -9` does; the server learns it at once, or never if its machine has gone too.
    pub(in crate::redis) fn kill(&self, seat: usize) {
        self.with(|inner| {
            let is_seen = inner.rng.below(3) > 0;
            inner.note(&format!("n{seat} dies, seen: {is_seen}"));
            let seat = &mut inner.seats[seat];
            seat.is_dead = true;
            seat.to = None;
            seat.hears &= !is_seen;
        });
    }

    /// Sets the server's clock, by so many microseconds.
    pub(in crate::redis) fn set_clock(&self, by: i64) {
        self.with(|inner| {
            inner.note(&format!("the clock is set by {by} us"));
            inner.set += by;
            inner.truth.ground.allow_anything_once();
            inner.is_set = true;
            inner.was_set_back |= by < 0;
        });
    }

    /// A replica falls behind by `lag`, then takes over; nothing answers for `away`.
    pub(in crate::redis) fn fail_over(self: &Arc<Self>, lag: Duration, away: Duration) {
        self.with(|inner| {
            inner.note("the replica falls behind");
            inner.engine.copy();
            inner.behind = Some(inner.truth.clone());
        });
        let network = self.clone();
        tokio::spawn(async move { network.take_over(lag, away).await });
    }

    async fn take_over(self: Arc<Self>, lag: Duration, away: Duration) {
        sleep(lag).await;
        let seats = self.with(|inner| inner.fall_back(away));
        for seat in 0..seats {
            self.interrupt(seat);
            let network = self.clone();
            tokio::spawn(async move {
                sleep(away).await;
                network.resume(seat).await;
            });
        }
    }

    fn interrupt(self: &Arc<Self>, seat: usize) {
        self.deliver(seat, Notice::Interrupted);
    }

    async fn resume(self: &Arc<Self>, seat: usize) {
        let pause = self.with(|inner| inner.delay());
        sleep(pause).await;
        let hears = self.with(|inner| {
            let seat = &mut inner.seats[seat];
            if seat.is_cut || seat.is_dead || seat.hears {
                return false;
            }
            seat.hears = true;
            true
        });
        if hears {
            self.deliver(seat, Notice::Resumed);
        }
    }

    /// Brings a notice to a process, after those before it.
    fn deliver(self: &Arc<Self>, seat: usize, notice: Notice) {
        let at = self.with(|inner| {
            let at = Instant::now() + inner.delay();
            let seat = &mut inner.seats[seat];
            let at = seat.last.map_or(at, |last| last.max(at));
            seat.last = Some(at);
            at
        });
        let network = self.clone();
        tokio::spawn(async move {
            sleep_until(at).await;
            let to = network.with(|inner| inner.seats[seat].to.clone());
            if let Some(to) = to {
                // One who does not listen loses it.
                let _ = to.try_send(notice);
            }
        });
    }

    /// Publishes to those who listen and are not cut off.
    fn publish(self: &Arc<Self>, told: Vec<(String, Vec<u8>)>) {
        for (channel, payload) in told {
            let hearers = self.with(|inner| inner.hearers(&channel));
            for seat in hearers {
                let channel = channel.clone();
                let payload = payload.clone();
                self.deliver(seat, Notice::Message { channel, payload });
            }
        }
    }
}

impl Inner {
    pub(in crate::redis) fn note(&mut self, what: &str) {
        let at = self.started.elapsed().as_millis();
        self.log.push(format!("{at:>6} {what}"));
    }

    /// Whether no replica is about to take over.
    pub(in crate::redis) fn is_settled(&self) -> bool {
        self.behind.is_none() && self.away_until <= Instant::now()
    }

    /// From here on nothing is lost.
    pub(in crate::redis) fn brighten(&mut self) {
        self.weather.lost = 0;
    }

    fn delay(&mut self) -> Duration {
        let most = match self.rng.below(50) {
            0 => self.weather.stall,
            _ => self.weather.delay,
        };
        Duration::from_millis(self.rng.below(most + 1))
    }

    fn is_lost(&mut self) -> bool {
        self.rng.below(1000) < self.weather.lost
    }

    /// Reads the server's clock.
    pub(in crate::redis) fn look_at_clock(&mut self) -> Moment {
        let passed = i64::try_from(self.started.elapsed().as_micros()).unwrap();
        let passed = passed + passed * self.drift / 1_000_000;
        let fine = i64::try_from(self.rng.below(self.fine)).unwrap();
        let shown = MORNING.saturating_add_signed(passed + self.set + fine);
        let shown = match std::mem::take(&mut self.is_set) {
            true => shown,
            false => shown.max(self.moment.shown),
        };
        let passed = match self.moment.shown {
            0 => 0,
            before => shown.saturating_sub(before),
        };
        self.moment = Moment {
            shown,
            fair: self.moment.fair + passed,
        };
        self.moment
    }

    fn hearers(&mut self, channel: &str) -> Vec<usize> {
        let name = channel.split_once(":n:").map(|(_, name)| name.to_owned());
        let mut hearers = Vec::new();
        for at in 0..self.seats.len() {
            let lost = self.is_lost();
            let seat = &self.seats[at];
            let meant = name.as_ref().is_none_or(|name| *name == seat.name);
            if meant && seat.hears && !seat.is_cut && !seat.is_dead && !lost {
                hearers.push(at);
            }
        }
        hearers
    }

    /// Runs a call at the server.
    fn run(&mut self, seat: usize, call: &Call) -> (Vec<Value>, Vec<(String, Vec<u8>)>) {
        let moment = self.look_at_clock();
        let mut hearing = String::new();
        for one in self.seats.iter().filter(|one| one.hears) {
            hearing.push_str(&one.name);
            hearing.push(' ');
        }
        let ran = self.engine.run(call, &hearing, moment.shown);
        let answers = read(call, &ran.values);
        let said: String = answers
            .operations
            .iter()
            .map(|one| char::from(one[0]))
            .collect();
        let ops: Vec<u8> = call.args.iter().skip(1).map(|op| op[0]).collect();
        self.note(&format!(
            "n{seat} asks {ops:?} -> {said} {} told",
            ran.told.len()
        ));
        let verdict = self
            .truth
            .observe(&self.desk, (call, &answers), &mut self.engine, moment);
        self.hold(verdict);
        self.witness(moment.shown);
        (ran.values, ran.told)
    }

    /// Looks at the processes.
    pub(in crate::redis) fn witness(&mut self, now: u64) {
        let verdict = self
            .witness
            .as_ref()
            .map(|see| see(&self.truth.ground, now));
        self.hold(verdict.unwrap_or(Ok(())));
    }

    fn reach(&mut self, seat: usize) -> &mut Reach {
        &mut self.seats[seat].reach
    }

    /// Nobody reaches the server for so long.
    fn stay_away(&mut self, length: Duration) {
        self.away_until = self.away_until.max(Instant::now() + length);
        for seat in &mut self.seats {
            seat.reach.darken(length);
        }
    }

    /// Keeps the first thing that is wrong.
    pub(in crate::redis) fn hold(&mut self, verdict: Result<(), String>) {
        if let Err(what) = verdict {
            self.note(&format!("BROKEN: {what}"));
            self.broken.get_or_insert(what);
        }
    }

    /// Answers how many processes there are.
    fn fall_back(&mut self, away: Duration) -> usize {
        let before = self.uses();
        self.engine.fail_over();
        let behind = self.behind.take().expect("a replica fell behind");
        let mut now = std::mem::replace(&mut self.truth, behind);
        self.truth.keep_what_no_store_forgets(&mut now);
        let losses = self.losses(before, &now);
        self.truth.ground.fail_over(losses);
        let gone = now.entries.iter().filter(|(id, entry)| {
            let kept = self.truth.entries.get(id);
            kept.is_none_or(|kept| kept.end != entry.end || kept.demand() != entry.demand())
        });
        let gone: Vec<u128> = gone.map(|(id, _)| *id).collect();
        self.note(&format!(
            "fails over: {} lost, away for {away:?}",
            gone.len()
        ));
        self.lost.extend(gone);
        self.reign += 1;
        self.stay_away(away);
        for seat in &mut self.seats {
            seat.hears = false;
        }
        self.seats.len()
    }

    /// What of every limit is used and shared out.
    fn uses(&mut self) -> Vec<(Arc<Account>, Sheet)> {
        let now = instant(self.look_at_clock().shown);
        let accounts: Vec<_> = self.truth.accounts().cloned().collect();
        let sheets = accounts.into_iter().map(|account| {
            let raw = self.engine.get(&account.key);
            let sheet = sheet::read(&account, &raw, Order(0), now);
            (account, sheet)
        });
        sheets.collect()
    }

    /// What was used before, and is not now, though what was given back meanwhile may be given back again.
    fn losses(
        &mut self,
        before: Vec<(Arc<Account>, Sheet)>,
        gone: &Truth,
    ) -> Vec<(Arc<Account>, Vec<u64>)> {
        let now = instant(self.moment.shown);
        let after = self.uses();
        let losses = before.into_iter().zip(after).map(|(before, mut after)| {
            // What has ended since it was written may have come back.
            after.1.forget_ended(&after.0, now);
            let uses = [&before.1, &after.1].map(|sheet| {
                let account = &before.0;
                Left {
                    account,
                    sheet,
                    now,
                }
                .used()
            });
            let account = before.0;
            let limits = account.rule.rule.limits();
            let losses = uses[0].iter().zip(&uses[1]).zip(limits);
            let losses = losses.enumerate().map(|(at, ((before, after), limit))| {
                let again = self.truth.given_back(gone, &account, limit.metric())
                    + self.truth.unshared_since(gone, &account, at);
                // Both are rounded.
                let part = u64::from(matches!(limit.info().shape, Shape::Bucket { .. }));
                (before + again + part).saturating_sub(*after)
            });
            let losses = losses.collect();
            (account.clone(), losses)
        });
        losses.collect()
    }

    fn reaches(&self, seat: usize, reign: u64) -> bool {
        self.is_reached(seat) && self.reign == reign
    }

    /// Whether what a process sends now arrives, unless it is lost.
    fn is_reached(&self, seat: usize) -> bool {
        !self.seats[seat].is_cut && self.away_until <= Instant::now()
    }
}

/// The answer to a call: the time, accounts, operations.
fn read(call: &Call, values: &[Value]) -> Answers {
    let bytes = values.iter().map(|value| match value {
        Value::BulkString(bytes) => bytes.clone(),
        other => panic!("the script answered {other:?}"),
    });
    let mut bytes: Vec<Vec<u8>> = bytes.collect();
    let now = Unpack(&bytes.remove(0)).long().map(instant);
    // Without operations a calendar window was not the one that the caller thought.
    let accounts = bytes.len().saturating_sub(call.args.len() - 1);
    let operations = bytes.split_off(accounts);
    Answers {
        now: now.expect("the script says the time"),
        accounts: call.keys.iter().cloned().zip(bytes).collect(),
        operations,
        ..Answers::default()
    }
}
