//! A batch of mixed jobs through one limit: how near to the optimum it is drained, whether a strict provider of the same
//! size ever refuses a call, and whether large jobs wait longer than their turn.
//!
//! The optimum is the instant at which a perfect scheduler admits the last job: it knows each job's real use, admits in
//! order, each at the very instant at which it fits, with as many workers as the contestant has ([`fifo`]). The provider
//! is told each call's real use at its beginning, in the order of the machine's clock; the limit is 99 % of the provider's.

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
use super::{Outcome, machine, policies};

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

#[derive(Clone, Serialize, Deserialize)]
pub(super) struct Duty {
    tasks: usize,
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
        for (processes, tasks) in CREWS {
            if processes == 1 || !url.is_empty() {
                contestants.push(Contestant::start((who, &url), (processes, tasks))?);
            }
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

/// Lets all drain the batch side by side, each through a limit of its own: nearly all of the time they wait.
fn drain_all(contestants: &mut [Contestant], jobs: &[Task], lap: usize) -> Outcome {
    for (number, contestant) in contestants.iter_mut().enumerate() {
        contestant.crew.order(&format!("{lap}-{number}"))?;
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
    fn start((who, url): (&str, &str), (processes, tasks): (usize, usize)) -> Outcome<Self> {
        let duty = worker::Duty::Drain(Duty { tasks });
        Ok(Self {
            name: format!("{who}, {processes} x {tasks}"),
            workers: processes * tasks,
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
        let optimum = fifo::admissions(LIMIT, &foreseen, &Arrivals::Workers(self.workers));
        let optimum = optimum.iter().max().map_or(0.0, Duration::as_secs_f64);
        let (large, latest) = large_waits(jobs, &done, start);
        Ok(Lap {
            seconds,
            of_optimum: 100.0 * optimum / seconds,
            refused: refusals(jobs, &done) as f64,
            down: done.iter().map(|done| done.down as f64).sum(),
            large,
            latest,
        })
    }

    fn figures(&self) -> Vec<Figure> {
        let figure =
            |measure, value: fn(&Lap) -> f64| Figure::of(measure, self.laps.iter().map(value));
        vec![
            figure("last admitted s", |lap| lap.seconds),
            figure("% of optimum", |lap| lap.of_optimum),
            figure("429s", |lap| lap.refused),
            figure("store down", |lap| lap.down),
            figure("large / FIFO", |lap| lap.large),
            figure("last to FIFO ms", |lap| lap.latest),
        ]
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
        for (what, value, wanted) in bars {
            table.bar(format!("{}: {what}", self.name), value, wanted);
        }
    }
}

/// How often a strict provider would have refused these calls, each charged what it really used as it begins.
fn refusals(jobs: &[Task], done: &[Done]) -> usize {
    let mut calls: Vec<(At, u64)> = done
        .iter()
        .map(|done| (At::from_nanos(done.admitted), jobs[done.job].used))
        .collect();
    calls.sort_unstable();
    let limit = MockLimit {
        every: LIMIT.every,
        ..MockLimit::per_minute(MockMetric::Tokens, LIMIT.amount * 100 / HEADROOM)
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
fn large_waits(jobs: &[Task], done: &[Done], start: u64) -> (f64, f64) {
    let nanos = Duration::from_nanos;
    let tasks: Vec<Task> = done
        .iter()
        .map(|done| Task {
            call: nanos(done.settled - done.admitted),
            ..jobs[done.job]
        })
        .collect();
    let asked = done.iter().map(|done| nanos(done.asked - start)).collect();
    let perfect = fifo::admissions(LIMIT, &tasks, &Arrivals::At(asked));
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

fn policy() -> Outcome<Policy> {
    let shape = policies::bucket(LIMIT.every);
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
    let store = post.store(&policy()?).await?;
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
