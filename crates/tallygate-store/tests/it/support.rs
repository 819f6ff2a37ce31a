//! Stores for tests: in memory, on a clock that is moved by hand, with what drives their futures; and on a server.
use std::collections::BTreeMap;
use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread::Thread;
use std::time::Duration;
use tallygate_core::{Amounts, Metric, Metrics, Mode, Policy, Rule, Shape, StoreDown, Time};
use tallygate_sim::servers::Server;
use tallygate_store::conformance::{Harness, Rig};
use tallygate_store::{
    BoxFuture, Clock, MemoryOptions, MemoryStore, RedisOptions, RedisStore, Reserve, SettledBy,
    Store, WaitsFor,
};

/// The middle of a month, a second and a bit past its full hour.
pub(crate) const START: Time = Time::from_millis(1_794_571_201_250);

/// Runs a future on this thread; it sleeps until it is woken.
pub(crate) fn block_on<T>(future: impl Future<Output = T>) -> T {
    struct Unpark(Thread);
    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
    let mut context = Context::from_waker(&waker);
    let mut future = pin!(future);
    loop {
        match future.as_mut().poll(&mut context) {
            Poll::Ready(output) => return output,
            Poll::Pending => std::thread::park(),
        }
    }
}

/// A memory store on a clock that stands until it is moved.
pub(crate) fn virtual_store(policy: &Policy) -> Arc<MemoryStore> {
    let options = MemoryOptions {
        clock: Clock::manual(START),
        ..MemoryOptions::default()
    };
    MemoryStore::new(policy, options)
}

/// Moves a store's clock and lets what is due take effect.
pub(crate) fn pass(store: &MemoryStore, length: Duration) {
    store.clock().pass(length);
    store.tick();
}

/// Memory stores on virtual clocks; tasks run on a thread each.
pub(crate) struct Memory;

/// A memory store as the suite sees it: through a front that may be something else.
pub(crate) struct MemoryRig {
    pub(crate) memory: Arc<MemoryStore>,
    pub(crate) front: Arc<dyn Store>,
}

impl Harness for Memory {
    fn open(&self, policy: Policy) -> BoxFuture<'_, Result<Box<dyn Rig>, String>> {
        let memory = virtual_store(&policy);
        let front = memory.clone();
        Box::pin(std::future::ready(Ok(
            Box::new(MemoryRig { memory, front }) as Box<dyn Rig>,
        )))
    }

    fn together<'a>(&'a self, tasks: Vec<BoxFuture<'static, ()>>) -> BoxFuture<'a, ()> {
        Box::pin(async move { on_threads(tasks) })
    }
}

/// How often a length of time is measured before it is told to be too long: one lap on a calm machine will do.
pub(crate) const CALM_LAPS: usize = 6;

/// Memory stores on the machine's clock, with a second of this length.
pub(crate) struct RealTime(pub(crate) Duration);

struct RealRig(Arc<MemoryStore>);

impl Harness for RealTime {
    fn open(&self, policy: Policy) -> BoxFuture<'_, Result<Box<dyn Rig>, String>> {
        let memory = MemoryStore::new(&policy, MemoryOptions::default());
        let rig: Box<dyn Rig> = Box::new(RealRig(memory));
        Box::pin(std::future::ready(Ok(rig)))
    }

    fn second(&self) -> Duration {
        self.0
    }

    fn together<'a>(&'a self, tasks: Vec<BoxFuture<'static, ()>>) -> BoxFuture<'a, ()> {
        Box::pin(async move { on_threads(tasks) })
    }
}

impl Rig for RealRig {
    fn store(&self) -> Arc<dyn Store> {
        self.0.clone()
    }

    fn pass(&self, length: Duration) -> BoxFuture<'_, ()> {
        Box::pin(async move {
            std::thread::sleep(length); // tidy: sleeps because the clock under test is the machine's
        })
    }
}

/// Runs each task on a thread of its own, to its end.
pub(crate) fn on_threads(tasks: Vec<BoxFuture<'static, ()>>) {
    std::thread::scope(|scope| {
        for task in tasks {
            scope.spawn(move || block_on(task));
        }
    });
}

impl Rig for MemoryRig {
    fn store(&self) -> Arc<dyn Store> {
        self.front.clone()
    }

    fn pass(&self, length: Duration) -> BoxFuture<'_, ()> {
        Box::pin(async move { pass(&self.memory, length) })
    }
}

/// A store on a server that may take its time, as it does beside other tests.
pub(crate) async fn open_redis(server: &Server, policy: &Policy) -> Arc<RedisStore> {
    let url = format!("{}?timeout=5s", server.url());
    let options = RedisOptions::parse(&url).expect("the URL is one");
    RedisStore::open(options, policy)
        .await
        .expect("the server is there")
}

/// How often the script was called.
pub(crate) fn script_calls(server: &Server) -> u64 {
    let stats: BTreeMap<String, String> = server.info("commandstats").expect("it answers");
    let calls = |name: &str| {
        let line = stats.get(&format!("cmdstat_{name}"))?;
        line.strip_prefix("calls=")?
            .split(',')
            .next()?
            .parse::<u64>()
            .ok()
    };
    calls("eval").unwrap_or(0) + calls("evalsha").unwrap_or(0)
}

/// A policy of one rule that counts apart by user.
pub(crate) fn policy(limits: &[(Metric, u64, Shape)]) -> Policy {
    let rules = vec![rule("quota", &["user"], limits)];
    Policy::new(rules, Metrics::default()).expect("the policy of a test is valid")
}

pub(crate) fn rule(name: &str, per: &[&str], limits: &[(Metric, u64, Shape)]) -> Rule {
    Rule {
        name: name.to_owned(),
        when: Vec::new(),
        per: per.iter().map(|label| (*label).to_owned()).collect(),
        limits: limits.to_vec(),
        mode: Mode::Enforce,
        store_down: StoreDown::Closed,
    }
}

pub(crate) fn bucket(every: Duration) -> Shape {
    Shape::Bucket {
        every: every.into(),
        burst: None,
        strict: false,
    }
}

/// An ask that does not wait.
pub(crate) fn ask<'a>(subject: &'a [(&'a str, &'a str)], demand: Amounts) -> Reserve<'a> {
    Reserve {
        subject,
        demand,
        ttl: Duration::from_secs(3600),
        max_wait: Duration::ZERO,
        idempotency_key: None,
        waits_for: WaitsFor::Anything,
        settled_by: SettledBy::AnyNode,
    }
}

pub(crate) fn tokens(amount: u64) -> Amounts {
    Amounts::ZERO.with(Metric::TOKENS, amount)
}
