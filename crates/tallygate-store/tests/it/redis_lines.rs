//! Waiting over several processes: their order, what wakes them, and what the dead cost the living.
use crate::live::{admitted, denied, until};
use crate::support::{CALM_LAPS, open_redis, rule, tokens};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tallygate_core::{Admission, Amounts, Decision, Metric, Metrics, Policy, Shape};
use tallygate_sim::servers::{Engine, Server};
use tallygate_store::{RedisStore, Reserve, SettledBy, Store, WaitsFor};
use tokio::runtime::Runtime;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

/// How often a place in line is made good, as the store's documentation says.
const BEAT: Duration = Duration::from_millis(250);

/// What a busy machine may take for a few calls.
const BUSY: Duration = Duration::from_millis(700);

/// What is to happen soon, and would not for ever.
const SOON: Duration = Duration::from_secs(10);

/// A limit of so many slots for everybody.
fn slots(amount: u64) -> Policy {
    let limits = [(Metric::CONCURRENCY, amount, Shape::Concurrency)];
    Policy::new(vec![rule("slots", &[], &limits)], Metrics::default()).expect("a policy")
}

fn slot(max_wait: Duration) -> Reserve<'static> {
    Reserve {
        subject: &[],
        demand: Amounts::ZERO.with(Metric::CONCURRENCY, 1),
        ttl: Duration::from_secs(60),
        max_wait,
        idempotency_key: None,
        waits_for: WaitsFor::Anything,
        settled_by: SettledBy::AnyNode,
    }
}

const PATIENT: Duration = Duration::from_secs(30);

async fn take(store: &RedisStore, max_wait: Duration) -> Admission {
    match store.reserve(slot(max_wait)).await {
        Ok(Decision::Admit(admission)) => admission,
        other => panic!("an admission instead of {other:?}"),
    }
}

/// Waits for a slot in a task of its own.
fn queue(store: &Arc<RedisStore>) -> JoinHandle<Admission> {
    let store = store.clone();
    tokio::spawn(async move { take(&store, PATIENT).await })
}

/// Waits until so many callers of a process are known to stand in line.
async fn stand(store: &RedisStore, waiters: usize) {
    until("line", async || store.stats().waiters == waiters).await;
}

/// How often the script was run on a server.
fn runs(server: &Server) -> u64 {
    let stats: String = server.ask(&["INFO", "commandstats"]).expect("an answer");
    let line = stats
        .lines()
        .find_map(|line| line.strip_prefix("cmdstat_evalsha:calls="));
    let calls = line.and_then(|line| line.split(',').next());
    calls.map_or(0, |calls| calls.parse().expect("a number"))
}

fn server() -> Server {
    Server::start(Engine::Redis, &[]).expect("redis-server starts")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn processes_are_served_in_the_order_of_arrival() {
    let server = server();
    let mut stores = Vec::new();
    for _ in 0..3 {
        stores.push(open_redis(&server, &slots(1)).await);
    }
    let first = take(&stores[0], Duration::ZERO).await;
    let (served, mut order) = mpsc::unbounded_channel();
    // Two of one process behind each other, and gaps: a process's next caller may be behind another's.
    let homes = [0, 1, 2, 2, 1, 0, 0, 1, 2, 1, 2, 0];
    let (mut standing, mut tasks) = ([0; 3], Vec::new());
    for (number, home) in homes.into_iter().enumerate() {
        let (store, served) = (stores[home].clone(), served.clone());
        tasks.push(tokio::spawn(async move {
            let admission = take(&store, PATIENT).await;
            served.send(number).expect("the test listens");
            store.cancel(admission.id).await.expect("it is open");
        }));
        standing[home] += 1;
        stand(&stores[home], standing[home]).await;
    }
    stores[1].cancel(first.id).await.expect("it is open");
    for number in 0..homes.len() {
        assert_eq!(order.recv().await, Some(number));
    }
    for task in tasks {
        task.await.expect("a task ends");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_newcomer_overtakes_no_other_processs_waiter() {
    let server = server();
    let limits = [(Metric::TOKENS, 100, crate::live::hour())];
    let rules = vec![rule("tokens", &[], &limits)];
    let policy = Policy::new(rules, Metrics::default()).expect("a policy");
    let (one, other) = (
        open_redis(&server, &policy).await,
        open_redis(&server, &policy).await,
    );
    let ask = |amount, max_wait| Reserve {
        demand: tokens(amount),
        ..slot(max_wait)
    };
    let Ok(Decision::Admit(held)) = one.reserve(ask(60, Duration::ZERO)).await else {
        panic!("there is room");
    };
    let waiter = one.clone();
    let waiting = tokio::spawn(async move { waiter.reserve(ask(50, PATIENT)).await });
    stand(&one, 1).await;
    // There are 40 left, and somebody waits for 50.
    denied(other.reserve(ask(10, Duration::ZERO)).await);
    one.cancel(held.id).await.expect("it is open");
    let decision = waiting.await.expect("the task ends");
    assert!(matches!(decision, Ok(Decision::Admit(_))), "{decision:?}");
}

#[test]
fn a_dead_head_blocks_nobody_for_longer_than_a_second() {
    // A machine that is busy may take longer in some of them.
    let mut waits = (0..CALM_LAPS).map(|_| wait_behind_a_dead_head());
    let most = Duration::from_secs(1) + BUSY;
    assert!(waits.any(|wait| wait <= most), "never within {most:?}");
}

fn wait_behind_a_dead_head() -> Duration {
    let server = server();
    let living = Runtime::new().expect("a runtime");
    let dying = Runtime::new().expect("a runtime");
    let (store, holder) = living.block_on(async {
        let store = open_redis(&server, &slots(1)).await;
        let held = take(&store, Duration::ZERO).await;
        (store, held)
    });
    let head = dying.block_on(async {
        let head = open_redis(&server, &slots(1)).await;
        drop(queue(&head));
        stand(&head, 1).await;
        head
    });
    let behind = {
        let _inside = living.enter();
        queue(&store)
    };
    living.block_on(stand(&store, 1));
    // As a process does that is killed: nothing is told, connections end.
    dying.shutdown_background();
    let waited = living.block_on(async {
        let freed = Instant::now();
        store.cancel(holder.id).await.expect("it is open");
        behind.await.expect("the task ends");
        freed.elapsed()
    });
    drop(head);
    eprintln!("behind a dead head for {waited:?}");
    waited
}

#[test]
fn a_dead_holder_blocks_nobody() {
    let server = server();
    let dying = Runtime::new().expect("a runtime");
    let holder = dying.block_on(async {
        let holder = open_redis(&server, &slots(40)).await;
        for _ in 0..20 {
            take(&holder, Duration::ZERO).await;
        }
        holder
    });
    let living = Runtime::new().expect("a runtime");
    living.block_on(async {
        let store = open_redis(&server, &slots(40)).await;
        dying.shutdown_background();
        let before = runs(&server);
        let began = Instant::now();
        for _ in 0..20 {
            take(&store, Duration::ZERO).await;
        }
        assert!(began.elapsed() < SOON, "{:?}", began.elapsed());
        denied(store.reserve(slot(Duration::ZERO)).await);
        assert_eq!(runs(&server) - before, 21, "one call a decision");
    });
    drop(holder);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_message_costs_one_look_at_the_next_beat() {
    let server = server();
    let one = open_redis(&server, &slots(1)).await;
    let other = open_redis(&server, &slots(1)).await;
    for _ in 0..3 {
        let held = take(&one, PATIENT).await;
        let waiting = queue(&other);
        stand(&other, 1).await;
        // Nobody is subscribed when the message is sent.
        server
            .command(&["CLIENT", "KILL", "TYPE", "pubsub"])
            .expect("they are killed");
        let freed = Instant::now();
        one.cancel(held.id).await.expect("it is open");
        let admission = waiting.await.expect("the task ends");
        assert!(freed.elapsed() < SOON, "{:?}", freed.elapsed());
        other.cancel(admission.id).await.expect("it is open");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_waits_asks_at_the_beat_and_not_between() {
    let server = server();
    let mut stores = Vec::new();
    for _ in 0..3 {
        stores.push(open_redis(&server, &slots(1)).await);
    }
    take(&stores[0], Duration::ZERO).await;
    let waiting: Vec<_> = stores
        .iter()
        .flat_map(|store| (0..20).map(|_| queue(store)))
        .collect();
    for store in &stores {
        stand(store, 20).await;
    }
    let (before, since) = (runs(&server), Instant::now());
    tokio::time::sleep(Duration::from_secs(2)).await; // tidy: sleeps because what is counted is what happens by itself
    let calls = u128::from(runs(&server) - before);
    let beats = since.elapsed().as_millis() / BEAT.as_millis() + 1;
    assert!(
        calls <= 3 * beats,
        "{calls} calls of 3 processes in {beats} beats"
    );
    assert!(calls >= 3, "their places are kept");
    waiting.iter().for_each(JoinHandle::abort);
}

/// A crowd of this many comes to one process, then one to the other, and so on.
const CLUMP: usize = 250;

/// Lets crowds come to two processes in turns, behind one who has all there is; answers the processes, what holds it all, and the
/// crowds.
async fn crowd(
    server: &Server,
) -> (
    [Arc<RedisStore>; 2],
    Admission,
    Vec<Vec<JoinHandle<Admission>>>,
) {
    let stores = [
        open_redis(server, &hourly(ALL)).await,
        open_redis(server, &hourly(ALL)).await,
    ];
    for store in &stores {
        // What comes back soonest tells the server's time best.
        for _ in 0..50 {
            store.peek(&[]).await.expect("an answer");
        }
    }
    let held = admitted(stores[0].reserve(some(ALL, Duration::ZERO)).await);
    let mut clumps = Vec::new();
    for turn in 0..8 {
        let store = &stores[turn % 2];
        let clump = (0..CLUMP).map(|_| {
            let store = store.clone();
            let waits = async move { admitted(store.reserve(some(1, CROWDS_PATIENCE)).await) };
            tokio::spawn(waits)
        });
        clumps.push(clump.collect());
        stand(store, (turn / 2 + 1) * CLUMP).await;
    }
    (stores, held, clumps)
}

/// All tokens that there are at first.
const ALL: u64 = 100_000;

const CROWDS_PATIENCE: Duration = Duration::from_secs(300);

fn hourly(amount: u64) -> Policy {
    let rules = vec![rule(
        "tokens",
        &[],
        &[(Metric::TOKENS, amount, crate::live::hour())],
    )];
    Policy::new(rules, Metrics::default()).expect("a policy")
}

fn some(amount: u64, max_wait: Duration) -> Reserve<'static> {
    Reserve {
        demand: tokens(amount),
        ttl: Duration::from_secs(600),
        ..slot(max_wait)
    }
}

/// All of a crowd are in, each clump before the next, and by few calls.
async fn are_let_in(server: &Server, clumps: Vec<Vec<JoinHandle<Admission>>>, before: u64) {
    let since = Instant::now();
    let mut taken = Vec::new();
    for clump in clumps {
        let mut used = Vec::new();
        for caller in clump {
            let admission = caller.await.expect("it ends");
            // As its call left it, in which nobody of another process was.
            used.push(admission.standings[0].used);
        }
        taken.push(used);
    }
    let calls = runs(server) - before;
    let beats = 2 * (since.elapsed().as_millis() / BEAT.as_millis() + 1);
    eprintln!("{calls} calls in {:?}", since.elapsed());
    for pair in taken.windows(2) {
        let (last, first) = (pair[0].iter().max(), pair[1].iter().min());
        assert!(last < first, "{last:?} before {first:?}");
    }
    assert!(u128::from(calls) <= 200 + beats, "{calls} calls");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_crowd_in_line_is_let_in_by_few_calls() {
    let server = server();
    let (stores, held, clumps) = crowd(&server).await;
    let before = runs(&server);
    stores[0].cancel(held.id).await.expect("it is open");
    are_let_in(&server, clumps, before).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_crowd_in_line_is_let_in_by_few_calls_under_another_policy() {
    let server = server();
    let (stores, _, clumps) = crowd(&server).await;
    let before = runs(&server);
    for store in &stores {
        let more = Arc::new(hourly(3 * ALL));
        store.replace_policy(more).expect("the same metrics");
    }
    are_let_in(&server, clumps, before).await;
}
