//! Natural batching: what is asked while a call is under way goes into the next one, without a timer.
use super::clock::ServerClock;
use super::found::RedisFindings;
use super::link::{Call, LinkError, Notice, Route};
use super::names::Tag;
use super::script::{self, Answers, Node, Op};
use crate::mailbox::{Receiver, Sender, mailbox};
use crate::store::BoxFuture;
use parking_lot::Mutex;
use redis::Value;
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use tokio::runtime::Handle;
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

/// The most operations of one call.
pub(crate) const BATCH: usize = 64;

/// The most accounts that the operations of one call name, each counted for every operation that does, so that no call keeps
/// the server for long. One operation alone may name more.
const ACCOUNTS: usize = 1000;

/// How many calls of one route are under way at once: while the server works on one, the next is written.
const UNDER_WAY: usize = 2;

/// How often a call is written anew because a calendar window has ended on its way.
const TURNS: usize = 3;

/// The way to the script: connections, or in tests a network that delays and loses.
pub(crate) trait Carrier: Send + Sync {
    /// Runs the script once.
    fn call<'a>(&'a self, call: &'a Call) -> BoxFuture<'a, Result<Vec<Value>, LinkError>>;

    /// Which calls may go out as one with a call of `tag`.
    fn route(&self, tag: Tag) -> Route;

    /// Whether keys of different tags may be on different servers.
    fn is_cluster(&self) -> bool;

    /// What is published on these channels from now on.
    fn subscribe(&self, channels: Vec<String>) -> mpsc::Receiver<Notice>;

    /// What the servers were at the start.
    fn findings(&self) -> &RedisFindings {
        &NOTHING
    }

    /// How many servers are known to be out of reach: calls to them are not even sent.
    fn open_circuits(&self) -> watch::Receiver<usize> {
        watch::channel(0).1
    }
}

static NOTHING: RedisFindings = RedisFindings::NONE;

/// The operations of a process on their way.
pub(crate) struct Pump {
    carrier: Arc<dyn Carrier>,
    node: Node,
    clock: ServerClock,
    calls: AtomicU64,
    lanes: Mutex<HashMap<Route, Lane>>,
    /// How many operations named a counter that cannot be read, and what was said of the last one.
    unreadable: Mutex<(u64, Option<String>)>,
    /// Where answers go that nobody waits for any more.
    orphans: mpsc::UnboundedSender<Orphan>,
    runtime: Handle,
}

/// An answer whose caller has left.
#[derive(Debug)]
pub(crate) struct Orphan {
    pub(crate) tag: Tag,
    pub(crate) op: Arc<Op>,
    /// None where it was lost: the operation may have taken effect.
    pub(crate) answer: Option<Answer>,
}

/// The answers to a call, and which of them is meant.
#[derive(Debug, Clone)]
pub(crate) struct Answer {
    pub(crate) all: Arc<Answers>,
    pub(crate) at: usize,
    /// When the call was sent.
    pub(crate) sent: Instant,
}

impl Answer {
    /// The letter that says what came of the operation.
    pub(crate) fn kind(&self) -> Option<u8> {
        self.all.operations.get(self.at)?.first().copied()
    }
}

#[derive(Default)]
struct Lane {
    waiting: VecDeque<Job>,
    under_way: usize,
}

impl Lane {
    /// How many of those that wait go into one call.
    fn fill(&self) -> usize {
        let mut accounts = 0;
        let fits = |job: &&Job| {
            accounts += job.op.accounts().len();
            accounts <= ACCOUNTS
        };
        let most = self.waiting.iter().take(BATCH).take_while(fits);
        most.count().max(1)
    }
}

struct Job {
    tag: Tag,
    op: Arc<Op>,
    reply: Sender<Result<Answer, LinkError>>,
}

impl Pump {
    /// # Panics
    /// Outside a tokio runtime.
    pub(crate) fn new(
        carrier: Arc<dyn Carrier>,
        node: Node,
        orphans: mpsc::UnboundedSender<Orphan>,
    ) -> Arc<Self> {
        Arc::new(Self {
            carrier,
            node,
            clock: ServerClock::default(),
            calls: AtomicU64::new(0),
            lanes: Mutex::default(),
            unreadable: Mutex::default(),
            orphans,
            runtime: Handle::current(),
        })
    }

    pub(crate) fn carrier(&self) -> &dyn Carrier {
        &*self.carrier
    }

    /// The runtime that the store's tasks run in.
    pub(crate) fn runtime(&self) -> &Handle {
        &self.runtime
    }

    /// How many calls were made.
    pub(crate) fn calls(&self) -> u64 {
        self.calls.load(Ordering::Relaxed)
    }

    /// How many operations named a counter that cannot be read, and what was said of the last one.
    pub(crate) fn unreadable(&self) -> (u64, Option<String>) {
        self.unreadable.lock().clone()
    }

    pub(crate) fn clock(&self) -> &ServerClock {
        &self.clock
    }

    /// Asks the script; all keys of the operation carry `tag`, or there is but one server.
    ///
    /// # Cancel safety
    /// The operation may take effect all the same; its answer is an [`Orphan`] then.
    pub(crate) async fn ask(self: &Arc<Self>, tag: Tag, op: Op) -> Result<Answer, LinkError> {
        let (job, wait) = self.job(tag, op);
        self.enter(self.carrier.route(tag), [job]);
        wait.answer().await
    }

    /// Asks the script several things one after the other; all of them go the way of the first. One call carries them if it
    /// can.
    ///
    /// # Cancel safety
    /// As [`Self::ask`].
    pub(crate) async fn ask_all(
        self: &Arc<Self>,
        asks: Vec<(Tag, Op)>,
    ) -> Vec<Result<Answer, LinkError>> {
        let route = asks.first().map(|(tag, _)| self.carrier.route(*tag));
        let asks = asks.into_iter().map(|(tag, op)| self.job(tag, op));
        let (jobs, waits): (Vec<_>, Vec<_>) = asks.unzip();
        if let Some(route) = route {
            self.enter(route, jobs);
        }
        let mut answers = Vec::with_capacity(waits.len());
        for wait in waits {
            answers.push(wait.answer().await);
        }
        answers
    }

    fn job(self: &Arc<Self>, tag: Tag, op: Op) -> (Job, Wait<'_>) {
        let (reply, receiver) = mailbox();
        let op = Arc::new(op);
        let wait = Wait {
            pump: self,
            tag,
            op: op.clone(),
            receiver,
            done: false,
        };
        (Job { tag, op, reply }, wait)
    }

    fn enter(self: &Arc<Self>, route: Route, jobs: impl IntoIterator<Item = Job>) {
        let mut lanes = self.lanes.lock();
        let lane = lanes.entry(route).or_default();
        lane.waiting.extend(jobs);
        // A second call only when the first is full: else what queues meanwhile shares one.
        if lane.under_way == 0 || (lane.under_way < UNDER_WAY && lane.waiting.len() >= BATCH) {
            lane.under_way += 1;
            drop(lanes);
            self.runtime.spawn(self.clone().run(route));
        }
    }

    async fn run(self: Arc<Self>, route: Route) {
        while let Some(mut jobs) = self.next(route) {
            let answer = self.call_readable(&mut jobs).await;
            for (at, job) in jobs.into_iter().enumerate() {
                let answer = answer.clone();
                let answer = answer.map(|(all, sent)| Answer { all, at, sent });
                let refused = job.reply.send(answer);
                self.orphan(job.tag, job.op, refused);
            }
        }
    }

    /// The next operations of a route; with none left the lane is closed.
    fn next(&self, route: Route) -> Option<Vec<Job>> {
        let mut lanes = self.lanes.lock();
        let lane = lanes.get_mut(&route)?;
        if lane.waiting.is_empty() {
            lane.under_way -= 1;
            if lane.under_way == 0 {
                lanes.remove(&route);
            }
            return None;
        }
        let count = lane.fill();
        Some(lane.waiting.drain(..count).collect())
    }

    /// Calls without those jobs whose counters cannot be read, which are told so.
    async fn call_readable(
        &self,
        jobs: &mut Vec<Job>,
    ) -> Result<(Arc<Answers>, Instant), LinkError> {
        while !jobs.is_empty() {
            let answer = self.call(jobs).await?;
            let Some(key) = answer.0.unreadable.first() else {
                return Ok(answer);
            };
            let names_it = |job: &mut Job| job.op.accounts().iter().any(|one| one.key == *key);
            for job in jobs.extract_if(.., names_it) {
                let key = key.escape_ascii().to_string();
                let error = LinkError::Unreadable { key };
                let mut unreadable = self.unreadable.lock();
                *unreadable = (unreadable.0 + 1, Some(error.to_string()));
                job.reply.send(Err(error));
            }
        }
        Err(strange())
    }

    async fn call(&self, jobs: &[Job]) -> Result<(Arc<Answers>, Instant), LinkError> {
        let ops: Vec<&Op> = jobs.iter().map(|job| &*job.op).collect();
        let tag = jobs.first().map_or(0, |job| job.tag);
        for _ in 0..TURNS {
            let mut batch = script::write(&self.node, &ops, self.clock.now());
            let call = Call {
                tag,
                keys: std::mem::take(&mut batch.keys),
                args: std::mem::take(&mut batch.args),
            };
            let sent = Instant::now();
            self.calls.fetch_add(1, Ordering::Relaxed);
            let values = self.carrier.call(&call).await?;
            (batch.keys, batch.args) = (call.keys, call.args);
            let answers = script::read(&batch, values).ok_or_else(strange)?;
            self.clock.learn(answers.now, sent);
            if answers.operations.len() == ops.len() || !answers.unreadable.is_empty() {
                return Ok((Arc::new(answers), sent));
            }
        }
        Err(strange())
    }

    fn orphan(&self, tag: Tag, op: Arc<Op>, refused: Option<Result<Answer, LinkError>>) {
        let answer = match refused {
            Some(Ok(answer)) => Some(answer),
            Some(Err(LinkError::Down { .. })) => None,
            _ => return,
        };
        // The store is closing when nobody hears it any more.
        let _ = self.orphans.send(Orphan { tag, op, answer });
    }
}

/// A caller's wait for its answer.
struct Wait<'a> {
    pump: &'a Pump,
    tag: Tag,
    op: Arc<Op>,
    receiver: Receiver<Result<Answer, LinkError>>,
    done: bool,
}

impl Wait<'_> {
    async fn answer(mut self) -> Result<Answer, LinkError> {
        let answer = (&mut self.receiver).await;
        self.done = true;
        answer
    }
}

impl Drop for Wait<'_> {
    fn drop(&mut self) {
        if !self.done {
            let answer = self.receiver.leave();
            self.pump.orphan(self.tag, self.op.clone(), answer);
        }
    }
}

fn strange() -> LinkError {
    LinkError::Refused {
        reason: "the script gave an answer that is none: another version of it may be in use"
            .to_owned(),
    }
}

impl Carrier for super::link::Link {
    fn call<'a>(&'a self, call: &'a Call) -> BoxFuture<'a, Result<Vec<Value>, LinkError>> {
        Box::pin(Self::call(self, call))
    }

    fn route(&self, tag: Tag) -> Route {
        Self::route(self, tag)
    }

    fn is_cluster(&self) -> bool {
        Self::is_cluster(self)
    }

    fn subscribe(&self, channels: Vec<String>) -> mpsc::Receiver<Notice> {
        Self::subscribe(self, channels)
    }

    fn findings(&self) -> &RedisFindings {
        Self::findings(self)
    }

    fn open_circuits(&self) -> watch::Receiver<usize> {
        Self::open_circuits(self)
    }
}
