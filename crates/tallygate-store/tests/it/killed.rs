//! Processes that are killed while they hold reservations and stand in line: nothing of theirs is left after the deadline.
use crate::support::rule;
use std::io::{Read, Write};
use std::process::{Child, ChildStderr, Command, Stdio};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;
use tallygate_core::{Amounts, Calendar, Decision, Metric, Metrics, Policy, Shape, Standing};
use tallygate_sim::servers::{Engine, Server};
use tallygate_store::{
    RedisOptions, RedisStore, Reserve, SettleError, SettledBy, Settlement, Store, WaitsFor,
};

/// Tells a worker, which is this program again, which server to work on.
const WORKER: &str = "TALLYGATE_KILLED_WORKER";

/// What a worker says on its error output before it asks, and after it has settled.
const BEGUN: u8 = b'b';
const SETTLED: u8 = b's';

const TASKS: usize = 8;
const TTL: Duration = Duration::from_secs(3);

/// Requests of the month; tokens, for which all stand in line all the time; and calls at once.
fn policy() -> Policy {
    let month = Shape::Fixed {
        window: Calendar::Month,
        timezone: jiff::tz::TimeZone::UTC,
    };
    let narrow = Shape::Bucket {
        every: Duration::from_secs(1).into(),
        burst: Some(500),
        strict: false,
    };
    let limits = [
        (Metric::REQUESTS, 1_000_000, month),
        (Metric::TOKENS, 50_000, narrow),
        (Metric::CONCURRENCY, 1_000, Shape::Concurrency),
    ];
    let rules = vec![rule("quota", &[], &limits)];
    Policy::new(rules, Metrics::default()).expect("the policy of a test is valid")
}

async fn open(url: &str) -> Arc<RedisStore> {
    let options = RedisOptions::parse(&format!("{url}?timeout=5s")).expect("the URL of a server");
    RedisStore::open(options, &policy())
        .await
        .expect("the server is there")
}

fn amounts(tokens: u64) -> Amounts {
    Amounts::ZERO
        .with(Metric::REQUESTS, 1)
        .with(Metric::TOKENS, tokens)
}

/// A worker, and who counts what it says.
struct Worker {
    process: Child,
    said: JoinHandle<Vec<u8>>,
}

impl Worker {
    fn start(url: &str) -> Self {
        let program = std::env::current_exe().expect("the path of this program");
        let mut process = Command::new(program)
            .args(["--exact", "killed::works_until_it_is_killed", "--nocapture"])
            .env(WORKER, url)
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("this program starts again");
        let mut said = process.stderr.take().expect("its error output is piped");
        // It is at work once it has settled something.
        let mut first = until_settled(&mut said);
        let said = std::thread::spawn(move || {
            let _ = said.read_to_end(&mut first);
            first
        });
        Self { process, said }
    }

    /// Kills it; how many pairs it had begun, and how many it had ended.
    fn kill(mut self) -> (usize, usize) {
        self.process.kill().expect("it is running");
        self.process.wait().expect("it has ended");
        let said = self.said.join().expect("its words are read");
        let count = |word| said.iter().filter(|byte| **byte == word).count();
        (count(BEGUN), count(SETTLED))
    }
}

fn until_settled(said: &mut ChildStderr) -> Vec<u8> {
    let (mut all, mut byte) = (Vec::new(), [0]);
    while !all.contains(&SETTLED) {
        said.read_exact(&mut byte)
            .expect("a worker ended before it had settled anything");
        all.push(byte[0]);
    }
    all
}

/// Nothing to do but in a process that [`Worker::start`] has started.
#[test]
fn works_until_it_is_killed() {
    let Ok(url) = std::env::var(WORKER) else {
        return;
    };
    let runtime = tokio::runtime::Runtime::new().expect("a runtime starts");
    runtime.block_on(async {
        let store = open(&url).await;
        let tasks: Vec<_> = (0..TASKS)
            .map(|_| tokio::spawn(work(store.clone())))
            .collect();
        for task in tasks {
            task.await.expect("a task works on");
        }
    });
}

async fn work(store: Arc<RedisStore>) {
    loop {
        tell(BEGUN);
        let ask = Reserve {
            subject: &[],
            demand: amounts(150).with(Metric::CONCURRENCY, 1),
            ttl: TTL,
            max_wait: Duration::from_secs(60),
            idempotency_key: None,
            waits_for: WaitsFor::Anything,
            settled_by: SettledBy::AnyNode,
        };
        let admission = match store.reserve(ask).await {
            Ok(Decision::Admit(admission)) => admission,
            other => panic!("{other:?}"),
        };
        let used = Settlement::Exact(amounts(100));
        match store.settle(admission.id, used).await {
            // On a busy machine its deadline may have passed: it counts as used then.
            Ok(_) | Err(SettleError::Standing(_)) => tell(SETTLED),
            Err(error) => panic!("{error}"),
        }
    }
}

fn tell(word: u8) {
    std::io::stderr()
        .write_all(&[word])
        .expect("somebody listens");
}

#[test]
fn the_killed_leave_nothing_behind() {
    let server = Server::start(Engine::Valkey, &[]).expect("valkey-server starts");
    let (mut begun, mut settled) = (0, 0);
    let mut add = |(more_begun, more_settled): (usize, usize)| {
        begun += more_begun;
        settled += more_settled;
    };
    let survivor = Worker::start(&server.url());
    // One after the other, each at work among others that are.
    let mut one = Worker::start(&server.url());
    for _ in 0..3 {
        let next = Worker::start(&server.url());
        add(std::mem::replace(&mut one, next).kill());
    }
    add(one.kill());
    add(survivor.kill());
    std::thread::sleep(TTL + Duration::from_millis(200)); // tidy: sleeps because deadlines are the server's
    let runtime = tokio::runtime::Runtime::new().expect("a runtime starts");
    let standings = runtime.block_on(async { open(&server.url()).await.peek(&[]).await });
    let standings = standings.expect("the server answers");
    let used = |metric| find(&standings, metric).used;
    assert_eq!(used(Metric::CONCURRENCY), 0);
    let requests = usize::try_from(used(Metric::REQUESTS)).expect("a count");
    // What they had asked for and were never told of may have been held or not.
    assert!(
        (settled..=begun).contains(&requests),
        "{requests} of {settled} to {begun}"
    );
    assert!(begun - settled <= 5 * TASKS, "{settled} to {begun}");
    // The line is free: who comes now is not behind the dead.
    let waited = runtime.block_on(async { waited(&*open(&server.url()).await).await });
    assert!(waited < Duration::from_secs(20), "{waited:?}");
}

async fn waited(store: &RedisStore) -> Duration {
    let ask = Reserve {
        subject: &[],
        demand: amounts(100),
        ttl: TTL,
        max_wait: Duration::from_secs(60),
        idempotency_key: None,
        waits_for: WaitsFor::Anything,
        settled_by: SettledBy::AnyNode,
    };
    match store.reserve(ask).await {
        Ok(Decision::Admit(admission)) => admission.waited,
        other => panic!("{other:?}"),
    }
}

fn find(standings: &[Standing], metric: Metric) -> &Standing {
    let found = standings
        .iter()
        .find(|standing| standing.limit.metric == metric);
    found.expect("a limit of the policy")
}
