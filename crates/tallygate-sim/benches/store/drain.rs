//! A batch of mixed jobs through one limit: how near to the optimum it is drained, whether a strict provider of the same
//! size ever refuses a call, and whether large jobs wait longer than their turn.
//!
//! The optimum is the instant at which a perfect scheduler admits the last job: it knows each job's real use, admits in
//! order, each at the very instant at which it fits, with as many workers as the contestant has ([`fifo`]). The provider
//! is told each call's real use at its beginning, in the order of the machine's clock; the limit is 99 % of the provider's.
//!
//! The same batch goes through a limit twenty times as fast besides, of some 1,500 jobs a second, and on a way to the server
//! that takes a millisecond more: there it shows how many of a line one round trip lets in.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tallygate_core::{Amounts, Decision, Metric, Policy};
use tallygate_sim::fifo::{self, Arrivals, Quota, Task};
use tallygate_sim::limit::{Fit, Meter};
use tallygate_sim::servers::Server;
use tallygate_sim::{At, Clock, MockLimit, MockMetric, Rng, Sizes};
use tallygate_store::{Reserve, SettledBy, Store, WaitsFor};

use super::crew::Crew;
use super::options::Options;
use super::report::{Figure, Report, Table, Wanted};
use super::worker::{self, Post};
use super::{Outcome, detour, machine, policies};

const JOBS: usize = 2000;
const SIZES: Sizes = Sizes {
    median: 2_000,
    sigma_per_mille: 800,
    min: 200,
    max: 20_000,
};
const LIMIT: Quota = Quota {
    amount: 400_000,
    every: Duration::from_secs(2),
};
/// The same in a twentieth of the time.
const FAST: Quota = Quota {
    every: Duration::from_millis(100),
    ..LIMIT
};
/// How much later on the long way what is asked arrives, and what is answered.
const LATE: Duration = Duration::from_micros(500);
/// The limit is so many percent of the provider's.
const HEADROOM: u64 = 99;
/// Calls take up to so many microseconds.
const LONGEST_CALL: u64 = 20_000;
/// Jobs from this size on are large.
const LARGE: u64 = 10_000;
/// All wait as long as it takes.
const PATIENCE: Duration = Duration::from_secs(600);

/// The least percentage of the optimum.
const OPTIMUM_BAR: f64 = 99.0;
/// The most that large jobs may wait, in what first come, first served gives them.
const WAIT_BAR: f64 = 1.2;

/// Processes and tasks in each; the last one has a task for every job.
const CREWS: [(usize, usize); 4] = [(1, 16), (1, 64), (4, 16), (1, JOBS)];
/// Those who drain it through the fast limit.
const FAST_CREWS: [(usize, usize); 3] = [(1, 64), (4, 16), (1, JOBS)];

#[derive(Clone, Serialize, Deserialize)]
pub(super) struct Duty {
    tasks: usize,
    /// In how long the limit refills.
    every: Duration,
}

/// What came of a job, in nanoseconds of the machine's clock.
#[derive(Clone, Copy, Serialize, Deserialize)]
struct Done {
    job: usize,
    asked: u64,
    admitted: u64,
    settled: u64,
    /// How often the store was said to be out of reach.
    down: usize,
}

/// One of those who drain the batch.
struct Contestant {
    name: String,
    workers: usize,
    limit: Quota,
    crew: Crew,
    laps: Vec<Lap>,
}

struct Lap {
    seconds: f64,
    of_optimum: f64,
    refused: f64,
    down: f64,
    large: f64,
    latest: f64,
}

pub(super) fn run(options: &Options, report: &mut Report) -> Outcome {
    let jobs = jobs();
    let tokens: u64 = jobs.iter().map(|job| job.used).sum();
    let about = format!(
        "{JOBS} jobs of {tokens} tokens, {} of them of {LARGE} or more, through {} tokens in {:?}; tokens / rate = {:.2} s",
        jobs.iter().filter(|job| job.used >= LARGE).count(),
        LIMIT.amount,
        LIMIT.every,
        tokens as f64 * LIMIT.every.as_secs_f64() / LIMIT.amount as f64,
    );
    let mut table = Table::new("drain", about);
    let server = Server::start(options.engine, &[])?;
    let mut contestants = Vec::new();
    for (who, url) in [("tallygate", server.url()), ("memory store", String::new())] {
        for crew in CREWS {
            if crew.0 == 1 || !url.is_empty() {
                contestants.push(Contestant::start((who, &url), crew, LIMIT)?);
            }
        }
    }
    let late = format!("redis://{}", detour::begin(server.addr(), LATE)?);
    for (who, url) in [("fast", server.url()), ("fast, 1 ms away", late)] {
        for crew in FAST_CREWS {
            contestants.push(Contestant::start((who, &url), crew, FAST)?);
        }
    }
    for lap in 0..options.laps.min(MOST_LAPS) {
        drain_all(&mut contestants, &jobs, lap)?;
    }
    for contestant in &contestants {
        table.row(contestant.name.clone(), contestant.figures());
    }
    for contestant in &contestants {
        contestant.judge(&mut table);
    }
    report.add(table);
    Ok(())
}

/// A lap takes half a minute.
const MOST_LAPS: usize = 3;

/// Lets all drain the batch, each through a limit of its own: those of the slow one side by side, as nearly all of the time they
/// wait, then each of the fast one alone.
fn drain_all(contestants: &mut [Contestant], jobs: &[Task], lap: usize) -> Outcome {
    let slow = contestants.partition_point(|one| one.limit == LIMIT);
    let (slow, fast) = contestants.split_at_mut(slow);
    drain_together(slow, jobs, lap)?;
    for alone in fast.chunks_mut(1) {
        drain_together(alone, jobs, lap)?;
    }
    Ok(())
}

fn drain_together(contestants: &mut [Contestant], jobs: &[Task], lap: usize) -> Outcome {
    for contestant in &mut *contestants {
        let batch = format!("{lap}, {}", contestant.name);
        contestant.crew.order(&batch)?;
        // The rush of each start is to be over before the next.
        machine::pause(Duration::from_millis(500));
    }
    for contestant in contestants {
        let answers: Vec<Vec<Done>> = contestant.crew.answers()?;
        let done: Vec<Done> = answers.into_iter().flatten().collect();
        let lap = contestant.lap(jobs, done)?;
        contestant.laps.push(lap);
    }
    Ok(())
}

/// The batch, the same in every run.
fn jobs() -> Vec<Task> {
    let mut rng = Rng::new(2_000);
    let mut job = || {
        let used = SIZES.draw(&mut rng);
        Task {
            held: used + used / 2,
            used,
            call: Duration::from_micros(rng.below(LONGEST_CALL + 1)),
        }
    };
    (0..JOBS).map(|_| job()).collect()
}

impl Contestant {
    fn start(
        (who, url): (&str, &str),
        (processes, tasks): (usize, usize),
        limit: Quota,
    ) -> Outcome<Self> {
        let every = limit.every;
        let duty = worker::Duty::Drain(Duty { tasks, every });
        Ok(Self {
            name: format!("{who}, {processes} x {tasks}"),
            workers: processes * tasks,
            limit,
            crew: Crew::start(processes, url, &duty)?,
            laps: Vec::new(),
        })
    }

    fn lap(&self, jobs: &[Task], mut done: Vec<Done>) -> Outcome<Lap> {
        if done.len() != JOBS {
            return Err(format!("{} of {JOBS} jobs were done", done.len()).into());
        }
        done.sort_by_key(|done| done.asked);
        let start = done.first().map_or(0, |done| done.asked);
        let last = done.iter().map(|done| done.admitted).max().unwrap_or(0);
        let seconds = Duration::from_nanos(last - start).as_secs_f64();
        let foreseen: Vec<Task> = jobs.iter().map(|job| job.foreseen()).collect();
        let optimum = fifo::admissions(self.limit, &foreseen, &Arrivals::Workers(self.workers));
        let optimum = optimum.iter().max().map_or(0.0, Duration::as_secs_f64);
        let (large, latest) = large_waits(jobs, &done, (start, self.limit));
        Ok(Lap {
            seconds,
            of_optimum: 100.0 * optimum / seconds,
            refused: refusals(jobs, &done, self.limit) as f64,
            down: done.iter().map(|done| done.down as f64).sum(),
            large,
            latest,
        })
    }

    fn figures(&self) -> Vec<Figure> {
        let figure =
            |measure, value: fn(&Lap) -> f64| Figure::of(measure, self.laps.iter().map(value));
        let mut figures = vec![
            figure("last admitted s", |lap| lap.seconds),
            figure("% of optimum", |lap| lap.of_optimum),
            figure("429s", |lap| lap.refused),
            figure("store down", |lap| lap.down),
            figure("last to FIFO ms", |lap| lap.latest),
        ];
        if self.limit == LIMIT {
            figures.push(figure("large / FIFO", |lap| lap.large));
        }
        figures
    }

    fn judge(&self, table: &mut Table) {
        let median = |value: fn(&Lap) -> f64| Figure::of("", self.laps.iter().map(value)).median();
        let bars = [
            (
                "% of the optimum",
                median(|lap| lap.of_optimum),
                Wanted::AtLeast(OPTIMUM_BAR),
            ),
            (
                "429s of all laps",
                self.laps.iter().map(|lap| lap.refused).sum(),
                Wanted::AtMost(0.0),
            ),
            (
                "large jobs' waits / FIFO",
                median(|lap| lap.large),
                Wanted::AtMost(WAIT_BAR),
            ),
        ];
        // At the fast limit a hundredth is the time of a few round trips, and a thread that wakes late looks like a burst to the
        // provider: what it comes to is shown beside.
        let bars = bars.into_iter().filter(|_| self.limit == LIMIT);
        for (what, value, wanted) in bars {
            table.bar(format!("{}: {what}", self.name), value, wanted);
        }
    }
}

/// How often a strict provider would have refused these calls, each charged what it really used as it begins.
fn refusals(jobs: &[Task], done: &[Done], quota: Quota) -> usize {
    let mut calls: Vec<(At, u64)> = done
        .iter()
        .map(|done| (At::from_nanos(done.admitted), jobs[done.job].used))
        .collect();
    calls.sort_unstable();
    let limit = MockLimit {
        every: quota.every,
        ..MockLimit::per_minute(MockMetric::Tokens, quota.amount * 100 / HEADROOM)
    };
    let mut meter = Meter::new(&limit, calls[0].0);
    let mut refused = |(at, tokens): &(At, u64)| {
        let fits = meter.fit(*at, *tokens) == Fit::Now;
        if fits {
            meter.charge(*at, *tokens);
        }
        !fits
    };
    calls.iter().filter(|call| refused(call)).count()
}

/// How long large jobs waited, in what a perfect scheduler gives them that holds and gives back the same for jobs that ask
/// at the same instants; and by how many milliseconds the latest of all jobs was behind it.
fn large_waits(jobs: &[Task], done: &[Done], (start, limit): (u64, Quota)) -> (f64, f64) {
    let nanos = Duration::from_nanos;
    let tasks: Vec<Task> = done
        .iter()
        .map(|done| Task {
            call: nanos(done.settled - done.admitted),
            ..jobs[done.job]
        })
        .collect();
    let asked = done.iter().map(|done| nanos(done.asked - start)).collect();
    let perfect = fifo::admissions(limit, &tasks, &Arrivals::At(asked));
    let (mut real, mut ideal, mut latest) = (0.0, 0.0, 0.0f64);
    for (done, perfect) in done.iter().zip(perfect) {
        let perfect = perfect.as_secs_f64() - nanos(done.asked - start).as_secs_f64();
        let waited = nanos(done.admitted - done.asked).as_secs_f64();
        latest = latest.max((waited - perfect) * 1e3);
        if jobs[done.job].used >= LARGE {
            real += waited;
            ideal += perfect;
        }
    }
    (real / ideal, latest)
}

fn policy(every: Duration) -> Outcome<Policy> {
    let shape = policies::bucket(every);
    policies::policy(&["batch"], vec![(Metric::TOKENS, LIMIT.amount, shape)])
}

/// What the tasks of a worker share.
struct Batch {
    store: Arc<dyn Store>,
    /// Names the counter.
    name: String,
    jobs: Vec<(usize, Task)>,
    next: AtomicUsize,
    clock: Clock,
}

pub(super) async fn work(post: &Post, duty: Duty) -> Outcome {
    let store = post.store(&policy(duty.every)?).await?;
    let jobs = jobs().into_iter().enumerate();
    let mine: Vec<_> = jobs
        .filter(|(number, _)| number % post.count == post.number)
        .collect();
    worker::say_ready();
    while let Some(name) = worker::order().await? {
        let batch = Arc::new(Batch {
            store: store.clone(),
            name,
            jobs: mine.clone(),
            next: AtomicUsize::new(0),
            clock: Clock::machine(),
        });
        let tasks: Vec<_> = (0..duty.tasks)
            .map(|_| tokio::spawn(batch.clone().drain()))
            .collect();
        let mut done: Vec<Done> = Vec::new();
        for task in tasks {
            done.extend(task.await??);
        }
        worker::say(&done)?;
    }
    Ok(())
}

impl Batch {
    /// One task: job after job.
    async fn drain(self: Arc<Self>) -> Outcome<Vec<Done>> {
        let mut done = Vec::new();
        while let Some((number, job)) = self.jobs.get(self.next.fetch_add(1, Ordering::Relaxed)) {
            done.push(self.one(*number, job).await?);
        }
        Ok(done)
    }

    async fn one(&self, number: usize, job: &Task) -> Outcome<Done> {
        let asked = self.clock.now().nanos();
        let ask = Reserve {
            subject: &[("batch", &self.name)],
            demand: Amounts::ZERO.with(Metric::TOKENS, job.held),
            ttl: Duration::from_secs(60),
            max_wait: PATIENCE,
            idempotency_key: None,
            waits_for: WaitsFor::Anything,
            settled_by: SettledBy::AnyNode,
        };
        let mut down = 0;
        let admission = match worker::reserve(&*self.store, ask, &mut down).await? {
            Decision::Admit(admission) => admission,
            other => return Err(format!("job {number} was refused: {other:?}").into()),
        };
        let admitted = self.clock.now().nanos();
        // The call.
        machine::wait(job.call).await;
        let used = Amounts::ZERO.with(Metric::TOKENS, job.used);
        worker::settle(&*self.store, (admission.id, used), &mut down).await?;
        Ok(Done {
            job: number,
            asked,
            admitted,
            settled: self.clock.now().nanos(),
            down,
        })
    }
}
