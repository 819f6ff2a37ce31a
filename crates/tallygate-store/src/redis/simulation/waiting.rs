//! Those who wait while something else happens: they leave, their patience ends, the rules change, answers are lost.
use super::engine::Engine;
use super::network::{Network, Weather};
use super::rule;
use crate::redis::link::{Call, LinkError, Notice, Route};
use crate::redis::pump::Carrier;
use crate::redis::{RedisOptions, RedisStore};
use crate::store::{BoxFuture, Reserve, SettledBy, Store, StoreError, WaitsFor};
use redis::Value;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tallygate_core::{Admission, Amounts, Decision, Metric, Metrics, Policy, Shape, Span};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};

/// What becomes of calls that would take something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mood {
    Open,
    /// They do not leave.
    Shut,
    /// Answers to those that take for so many at least do not arrive yet.
    Late(usize),
    /// Their answers are lost.
    Lossy,
}

/// The way of a process, with a door.
struct Door {
    behind: Arc<dyn Carrier>,
    mood: watch::Sender<Mood>,
    /// How many calls that take something came to it.
    calls: AtomicUsize,
}

impl Door {
    async fn until(&self, fits: impl Fn(&Mood) -> bool) {
        let mut mood = self.mood.subscribe();
        mood.wait_for(fits).await.expect("the door is there");
    }

    async fn pass(&self, call: &Call) -> Result<Vec<Value>, LinkError> {
        const RESERVE: u8 = 1;
        let takes = call.args.iter().skip(1).filter(|op| op[0] == RESERVE);
        let takes = takes.count();
        if takes == 0 {
            return self.behind.call(call).await;
        }
        self.calls.fetch_add(1, Ordering::Relaxed);
        self.until(|mood| *mood != Mood::Shut).await;
        let answer = self.behind.call(call).await;
        if *self.mood.borrow() == Mood::Lossy {
            return Err(LinkError::Down {
                reason: "the answer is lost".to_owned(),
                retry_after: Duration::from_millis(20),
            });
        }
        self.until(|mood| !matches!(mood, Mood::Late(least) if takes >= *least))
            .await;
        answer
    }
}

impl Carrier for Door {
    fn call<'a>(&'a self, call: &'a Call) -> BoxFuture<'a, Result<Vec<Value>, LinkError>> {
        Box::pin(self.pass(call))
    }

    fn route(&self, tag: u32) -> Route {
        self.behind.route(tag)
    }

    fn is_cluster(&self) -> bool {
        self.behind.is_cluster()
    }

    fn subscribe(&self, channels: Vec<String>) -> mpsc::Receiver<Notice> {
        self.behind.subscribe(channels)
    }

    fn open_circuits(&self) -> watch::Receiver<usize> {
        self.behind.open_circuits()
    }
}

/// A caller, what it was told and when.
type Waiting = JoinHandle<(Result<Decision, StoreError>, Instant)>;

/// Two processes, one of them behind a door.
struct World {
    door: Arc<Door>,
    one: Arc<RedisStore>,
    other: Arc<RedisStore>,
}

/// So many tokens, none of which comes back by itself.
fn policy(tokens: u64) -> Policy {
    let every = Span::from_secs(7 * 86_400);
    let week = (Metric::TOKENS, tokens, Shape::Sliding { every });
    Policy::new(vec![rule("week", &[], &[week])], Metrics::default()).unwrap()
}

fn ask(tokens: u64, max_wait: Duration) -> Reserve<'static> {
    Reserve {
        subject: &[],
        demand: Amounts::ZERO.with(Metric::TOKENS, tokens),
        ttl: Duration::from_secs(3600),
        max_wait,
        idempotency_key: None,
        waits_for: WaitsFor::Anything,
        settled_by: SettledBy::AnyNode,
    }
}

fn admitted(decision: Result<Decision, StoreError>) -> Admission {
    match decision {
        Ok(Decision::Admit(admission)) => admission,
        other => panic!("{other:?}"),
    }
}

const LONG: Duration = Duration::from_secs(1000);

/// Waits for what comes soon, or never.
async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let since = Instant::now();
    while !holds().await {
        assert!(since.elapsed() < Duration::from_secs(300), "no {what}");
        sleep(Duration::from_millis(1)).await;
    }
}

impl World {
    /// With so many tokens, and as many milliseconds on a way at most.
    async fn new(tokens: u64, delay: u64) -> Self {
        let policy = policy(tokens);
        let weather = Weather {
            lost: 0,
            delay,
            stall: delay,
        };
        let network = Network::new(Engine::start(), delay, (weather, &policy));
        let door = Arc::new(Door {
            behind: network.wire().1,
            mood: watch::Sender::new(Mood::Open),
            calls: AtomicUsize::new(0),
        });
        let options = RedisOptions::parse("redis://simulated").expect("the URL is one");
        let one = RedisStore::over(door.clone(), &options, &policy).await;
        let other = RedisStore::over(network.wire().1, &options, &policy).await;
        Self {
            door,
            one: one.expect("no folder is asked for"),
            other: other.expect("no folder is asked for"),
        }
    }

    /// The other process takes so many tokens.
    async fn hold(&self, tokens: u64) -> Admission {
        admitted(self.other.reserve(ask(tokens, Duration::ZERO)).await)
    }

    async fn give_back(&self, held: Admission) {
        self.other.cancel(held.id).await.expect("it is open");
    }

    /// Somebody waits behind the door.
    fn wait(&self, asks: Reserve<'static>) -> Waiting {
        let store = self.one.clone();
        tokio::spawn(async move { (store.reserve(asks).await, Instant::now()) })
    }

    async fn stand(&self, waiters: usize) {
        until("line", async || self.one.stats().waiters == waiters).await;
    }

    async fn used(&self) -> u64 {
        let standings = self.other.peek(&[]).await.expect("it answers");
        standings[0].used
    }
}

async fn come_while_the_rules_change() {
    let world = World::new(100, 2).await;
    world.hold(100).await;
    world.door.mood.send_replace(Mood::Shut);
    let waiting = world.wait(ask(10, LONG));
    until("call", async || {
        world.door.calls.load(Ordering::Relaxed) == 1
    })
    .await;
    let more = world.one.replace_policy(Arc::new(policy(300)));
    more.expect("the same metrics");
    sleep(Duration::from_millis(50)).await;
    world.door.mood.send_replace(Mood::Open);
    let answer = timeout(Duration::from_secs(10), waiting).await;
    admitted(answer.expect("the rules in force have room").unwrap().0);
}

#[test]
fn who_comes_while_the_rules_change_waits_by_those_in_force() {
    super::runtime().block_on(come_while_the_rules_change());
}

/// A line of one, who is admitted and does not hear of it.
async fn let_in_unheard(world: &World) -> Waiting {
    let held = world.hold(100).await;
    let waiting = world.wait(ask(10, LONG));
    world.stand(1).await;
    world.door.mood.send_replace(Mood::Lossy);
    world.give_back(held).await;
    waiting
}

/// Leaves `after` an admission, of which nobody has heard.
async fn leave_unheard(world: World, waiting: Waiting, after: Duration) {
    until("admission", async || world.used().await == 10).await;
    sleep(after).await;
    waiting.abort();
    sleep(Duration::from_secs(20)).await;
    world.door.mood.send_replace(Mood::Open);
    let since = Instant::now();
    until("room", async || world.used().await == 0).await;
    assert!(since.elapsed() < Duration::from_secs(120));
}

#[test]
fn who_leaves_after_a_lost_answer_holds_nothing() {
    // While it is asked for again, and between two times.
    for after in [0, 20_000, 20_003, 20_010] {
        super::runtime().block_on(async {
            let world = World::new(100, 2).await;
            let waiting = let_in_unheard(&world).await;
            leave_unheard(world, waiting, Duration::from_millis(after)).await;
        });
    }
}

#[test]
fn a_newcomer_that_leaves_after_a_lost_answer_holds_nothing() {
    for max_wait in [Duration::ZERO, LONG] {
        super::runtime().block_on(async {
            let world = World::new(100, 2).await;
            world.door.mood.send_replace(Mood::Lossy);
            let waiting = world.wait(ask(10, max_wait));
            leave_unheard(world, waiting, Duration::ZERO).await;
        });
    }
}

async fn leave_together() {
    const CROWD: u64 = 300;
    let world = World::new(1000, 2).await;
    world.door.mood.send_replace(Mood::Late(2));
    let crowd: Vec<_> = (0..CROWD)
        .map(|_| world.wait(ask(1, Duration::ZERO)))
        .collect();
    until("admissions", async || world.used().await > CROWD / 10).await;
    crowd.iter().for_each(JoinHandle::abort);
    let behind = world.wait(ask(1000, LONG));
    let since = Instant::now();
    world.door.mood.send_replace(Mood::Open);
    let (decision, at) = behind.await.unwrap();
    admitted(decision);
    let took = at.duration_since(since);
    assert!(took < Duration::from_millis(150), "after {took:?}");
}

#[test]
fn what_a_crowd_that_leaves_was_given_comes_back_at_once() {
    super::runtime().block_on(leave_together());
}

async fn lose_patience_together() {
    const CROWD: usize = 300;
    const PATIENCE: Duration = Duration::from_secs(10);
    let world = World::new(100, 2).await;
    world.hold(100).await;
    let since = Instant::now();
    let crowd = (0..CROWD).map(|_| world.wait(ask(1, PATIENCE)));
    let crowd: Vec<_> = crowd.collect();
    world.stand(CROWD).await;
    for caller in crowd {
        let (decision, at) = caller.await.unwrap();
        assert!(matches!(decision, Ok(Decision::Deny(_))), "{decision:?}");
        let late = at.duration_since(since).saturating_sub(PATIENCE);
        assert!(late < Duration::from_millis(500), "{late:?} late");
    }
}

#[test]
fn a_crowd_whose_patience_ends_is_told_so_at_once() {
    super::runtime().block_on(lose_patience_together());
}

async fn outlast_one_in_the_way() {
    let world = World::new(100, 2).await;
    world.hold(50).await;
    let patience = Duration::from_secs(5);
    let large = world.wait(ask(80, patience));
    world.stand(1).await;
    let small: Vec<_> = (0..5).map(|_| world.wait(ask(10, patience))).collect();
    for caller in small {
        admitted(caller.await.unwrap().0);
    }
    let (decision, _) = large.await.unwrap();
    assert!(matches!(decision, Ok(Decision::Deny(_))), "{decision:?}");
}

#[test]
fn who_is_kept_by_one_whose_patience_ends_goes_in_then() {
    super::runtime().block_on(outlast_one_in_the_way());
}

/// Of those who are let in at one go all but the last have left before they hear of it.
async fn leave_in_a_run() {
    const BEFORE: usize = 1 + 2 + 4 + 8 + 16;
    const RUN: usize = 32;
    let world = World::new(1000, 20).await;
    let held = world.hold(1000).await;
    let mut callers = Vec::new();
    for number in 1..=BEFORE + RUN {
        callers.push(world.wait(ask(1, LONG)));
        world.stand(number).await;
    }
    world.door.mood.send_replace(Mood::Late(RUN));
    world.give_back(held).await;
    until("run", async || world.used().await == (BEFORE + RUN) as u64).await;
    let last = callers.pop().expect("there is a last one");
    callers[BEFORE..].iter().for_each(JoinHandle::abort);
    sleep(Duration::from_millis(1)).await;
    let opened = Instant::now();
    world.door.mood.send_replace(Mood::Open);
    let (decision, at) = last.await.unwrap();
    admitted(decision);
    let late = at.duration_since(opened);
    assert!(late < Duration::from_millis(100), "{late:?} late");
    until("room", async || world.used().await == BEFORE as u64 + 1).await;
}

#[test]
fn who_is_let_in_beside_others_who_have_left_hears_of_it_at_once() {
    super::runtime().block_on(leave_in_a_run());
}
