//! How much of everything the data listener accepts.

use std::time::Duration;

use super::amount;
use super::fields::{Fields, Known, Number, Reading};
use super::tree::Node;

/// The bounds of the data listener. Each may be set under `bounds:` by the name of its field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Bounds {
    /// `max_body`: bytes of a request body; more is answered 413. Default 32 MiB (images travel inline as base64).
    pub max_body: usize,
    /// `max_headers`: bytes of a request's head; more is answered 431. Default 64 KiB.
    pub max_headers: usize,
    /// `header_time`: from the connection's first byte to the end of the head. Default 10 s.
    pub header_time: Duration,
    /// `body_time`: from the end of the head to the end of the request body. Default 60 s.
    pub body_time: Duration,
    /// `answer_time`: from the sending of a call to the head of its answer, which for an answer that is not streamed comes
    /// with all of it. Default 600 s.
    pub answer_time: Duration,
    /// `idle_time`: silence of the upstream inside an answer before it counts as broken off, and how long a caller may take
    /// nothing of what is written to it. Default 300 s.
    pub idle_time: Duration,
    /// `total_time`: from the request's end to the answer's end, waiting in line apart. Default 3600 s.
    pub total_time: Duration,
    /// `connect_time`: until a connection to an upstream stands. Default 10 s.
    pub connect_time: Duration,
    /// `drain_time`: how long a stop waits for answers under way. Default 30 s.
    pub drain_time: Duration,
    /// `max_connections`: clients connected at once; more wait in the listener's backlog. Default 10,000.
    pub max_connections: usize,
    /// `overrun`: what becomes of a streamed answer that outgrows its hold when no more can be had. Default `run`.
    pub overrun: Overrun,
    /// `revoked`: what becomes of a streamed answer whose caller's key is revoked meanwhile. Default `run`.
    pub revoked: Revoked,
}

/// What becomes of a streamed answer whose caller's key is revoked meanwhile.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Revoked {
    /// It runs on to its end.
    #[default]
    Run,
    /// It is cut at its next piece, and the caller is told by the dialect's error event.
    Cut,
}

/// The words of `revoked`.
const REVOKED: [(&str, Revoked); 2] = [("run", Revoked::Run), ("cut", Revoked::Cut)];

/// What becomes of a streamed answer that outgrows its hold when no more can be had.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Overrun {
    /// It runs on; what it uses above its hold becomes debt.
    #[default]
    Run,
    /// It is cut, and the caller is told by the dialect's error event.
    Cut,
}

/// The words of `overrun`.
const OVERRUN: [(&str, Overrun); 2] = [("run", Overrun::Run), ("cut", Overrun::Cut)];

impl Default for Bounds {
    fn default() -> Self {
        Self {
            max_body: 32 << 20,
            max_headers: 64 << 10,
            header_time: Duration::from_secs(10),
            body_time: Duration::from_secs(60),
            answer_time: Duration::from_secs(600),
            idle_time: Duration::from_secs(300),
            total_time: Duration::from_secs(3600),
            connect_time: Duration::from_secs(10),
            drain_time: Duration::from_secs(30),
            max_connections: 10_000,
            overrun: Overrun::default(),
            revoked: Revoked::default(),
        }
    }
}

/// How callers may wait in line, from `waiting:`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Waiting {
    /// `queue`: waiters over all counters at once; the next is denied at once. Default 10,000.
    pub queue: usize,
    /// `max_wait`: the longest a gateway call waits, and the most a decision call may ask for. Zero: deny at once (default).
    pub max_wait: Duration,
}

impl Default for Waiting {
    fn default() -> Self {
        Self {
            queue: 10_000,
            max_wait: Duration::ZERO,
        }
    }
}

const BOUNDS: Known<'static> = Known {
    what: "`bounds`",
    keys: &[
        "max_body",
        "max_headers",
        "header_time",
        "body_time",
        "answer_time",
        "idle_time",
        "total_time",
        "connect_time",
        "drain_time",
        "max_connections",
        "overrun",
        "revoked",
    ],
    later: &[],
};
const WAITING: Known<'static> = Known {
    what: "`waiting`",
    keys: &["queue", "max_wait"],
    later: &[],
};

const BYTES: Number<usize> = Number {
    what: "the bound",
    read: bytes,
    mend: "write bytes from 1 KiB to 1 GiB, as 1_048_576, 64KiB or 32MiB",
};
const TIME: Number<Duration> = Number {
    what: "the bound",
    read: time,
    mend: "write a length from 1ms to 24h, as 500ms or 60s",
};
const COUNT: Number<usize> = Number {
    what: "the bound",
    read: count,
    mend: "write a whole number from 1 to 1_000_000",
};
const QUEUE: Number<usize> = Number {
    what: "the queue",
    read: queue,
    mend: "write a whole number up to 1_000_000; 0 lets nobody wait",
};
const WAIT: Number<Duration> = Number {
    what: "the wait",
    read: wait,
    mend: "write a length up to 1h, as 30s; 0 denies at once",
};

/// Reads `bounds:`.
pub(super) fn read(top: &Fields<'_>, reading: &mut Reading<'_>) -> Bounds {
    let mut bounds = Bounds::default();
    let Some(fields) = top
        .get("bounds")
        .and_then(|node| reading.fields(node, &BOUNDS))
    else {
        return bounds;
    };
    let mut set = Setting {
        fields: &fields,
        reading,
    };
    set.to("max_body", &BYTES, &mut bounds.max_body);
    set.to("max_headers", &BYTES, &mut bounds.max_headers);
    set.to("header_time", &TIME, &mut bounds.header_time);
    set.to("body_time", &TIME, &mut bounds.body_time);
    set.to("answer_time", &TIME, &mut bounds.answer_time);
    set.to("idle_time", &TIME, &mut bounds.idle_time);
    set.to("total_time", &TIME, &mut bounds.total_time);
    set.to("connect_time", &TIME, &mut bounds.connect_time);
    set.to("drain_time", &TIME, &mut bounds.drain_time);
    set.to("max_connections", &COUNT, &mut bounds.max_connections);
    let overrun = fields.get("overrun");
    if let Some(word) = overrun.and_then(|node| reading.word(node, "`overrun`", &OVERRUN)) {
        bounds.overrun = word;
    }
    let revoked = fields.get("revoked");
    if let Some(word) = revoked.and_then(|node| reading.word(node, "`revoked`", &REVOKED)) {
        bounds.revoked = word;
    }
    bounds
}

/// Reads `waiting:`.
pub(super) fn read_waiting(top: &Fields<'_>, reading: &mut Reading<'_>) -> Waiting {
    let mut waiting = Waiting::default();
    let Some(fields) = top
        .get("waiting")
        .and_then(|node| reading.fields(node, &WAITING))
    else {
        return waiting;
    };
    let mut set = Setting {
        fields: &fields,
        reading,
    };
    set.to("queue", &QUEUE, &mut waiting.queue);
    set.to("max_wait", &WAIT, &mut waiting.max_wait);
    waiting
}

struct Setting<'a, 'n, 'e> {
    fields: &'a Fields<'n>,
    reading: &'a mut Reading<'e>,
}

impl Setting<'_, '_, '_> {
    fn to<T>(&mut self, name: &str, number: &Number<T>, slot: &mut T) {
        let node: Option<&Node> = self.fields.get(name);
        if let Some(value) = node.and_then(|node| self.reading.number(node, number)) {
            *slot = value;
        }
    }
}

fn bytes(text: &str) -> Result<usize, amount::Refusal> {
    within(amount::bytes(text)?, 1 << 10, 1 << 30)
}

fn time(text: &str) -> Result<Duration, amount::Refusal> {
    within(
        amount::length(text)?,
        Duration::from_millis(1),
        Duration::from_secs(86_400),
    )
}

fn count(text: &str) -> Result<usize, amount::Refusal> {
    within(amount::count(text)?, 1, 1_000_000)
}

fn queue(text: &str) -> Result<usize, amount::Refusal> {
    within(amount::count(text)?, 0, 1_000_000)
}

fn wait(text: &str) -> Result<Duration, amount::Refusal> {
    within(
        amount::length(text)?,
        Duration::ZERO,
        Duration::from_secs(3_600),
    )
}

fn within<T: PartialOrd>(value: T, least: T, most: T) -> Result<T, amount::Refusal> {
    if value < least {
        Err("is too small".to_owned())
    } else if value > most {
        Err("is too large".to_owned())
    } else {
        Ok(value)
    }
}
