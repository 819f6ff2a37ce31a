//! Workers that are killed (`kill -9`) while they and others are busy: how long the others stall, and what is left behind.
//!
//! Five workers reserve, call and settle; one after the other at random is killed and replaced. In the calm before it is
//! seen how long operations take anyway: a stall is what one takes beyond all but a thousandth of those. On the limits
//! of `plenty` nobody waits; on those of `scarce` all stand in line all the time, and an operation is the wait for the turn.

#[path = "kill/member.rs"]
mod member;
#[path = "kill/shift.rs"]
mod shift;

use std::time::Duration;

use serde::{Deserialize, Serialize};
use tallygate_core::{Calendar, Metric, Policy, Shape};
use tallygate_sim::Rng;
use tallygate_sim::servers::Server;

use super::histogram::Histogram;
use super::options::Options;
use super::report::{Figure, Report, Table, Wanted};
use super::worker::{self, Post};
use super::{Outcome, machine, policies};
use member::Member;
pub(super) use shift::work;

const WORKERS: usize = 5;
const KILLS: usize = 20;
const TASKS: usize = 16;
const CALM: Duration = Duration::from_secs(3);
/// Between two kills, in milliseconds.
const PAUSE: std::ops::Range<u64> = 200..500;
/// How long reservations stand unsettled.
const TTL: Duration = Duration::from_secs(2);

/// The most milliseconds that an operation may take beyond what all but a thousandth take in the calm.
const STALL_BAR: f64 = 50.0;

/// Which limits the workers share.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Duty {
    Plenty,
    Scarce,
}

/// What a worker did since it was asked last.
#[derive(Default, Serialize, Deserialize)]
struct Did {
    /// Reserves with their waits, and settles.
    operations: Histogram,
    /// When callers were admitted, in nanoseconds of the machine's clock.
    admitted: Vec<u64>,
    /// How often the store was out of reach, as it is on a machine that halts for long.
    down: usize,
}

/// What was seen of the workers in a stretch of time.
#[derive(Default)]
struct Seen {
    operations: Histogram,
    admitted: Vec<u64>,
    down: usize,
}

impl Seen {
    fn add(&mut self, more: Did) {
        self.operations.merge(&more.operations);
        self.admitted.extend(more.admitted);
        self.down += more.down;
    }

    /// The longest time in which nobody was admitted.
    fn gap(&self) -> Duration {
        let mut admitted = self.admitted.clone();
        admitted.sort_unstable();
        let gaps = admitted.windows(2).map(|pair| pair[1] - pair[0]);
        Duration::from_nanos(gaps.max().unwrap_or(0))
    }
}

pub(super) fn run(options: &Options, report: &mut Report) -> Outcome {
    let about = format!(
        "{KILLS} times kill -9 of one of {WORKERS} workers x {TASKS} tasks, on {}",
        options.engine
    );
    let mut table = Table::new("kill", about);
    let server = Server::start(options.engine, &[])?;
    for (name, duty) in [("plenty", Duty::Plenty), ("scarce", Duty::Scarce)] {
        one(&mut table, (&server, options), (name, duty))?;
    }
    report.add(table);
    Ok(())
}

fn one(
    table: &mut Table,
    (server, options): (&Server, &Options),
    (name, duty): (&str, Duty),
) -> Outcome {
    let url = format!("{}?prefix={name}", server.url());
    let mut crew = Vec::new();
    for number in 0..WORKERS {
        crew.push(Member::start(&url, number, duty)?);
    }
    let mut calm = Vec::new();
    for _ in 0..options.laps.min(3) {
        see(&mut crew, &mut Seen::default())?;
        machine::pause(CALM);
        let mut seen = Seen::default();
        see(&mut crew, &mut seen)?;
        calm.push(seen);
    }
    let mut lost = Progress::default();
    let mut rng = Rng::new(20);
    let mut turmoil = Seen::default();
    for kill in 0..KILLS {
        machine::pause(Duration::from_millis(
            PAUSE.start + rng.below(PAUSE.end - PAUSE.start),
        ));
        let victim = rng.below(WORKERS as u64) as usize;
        let next = Member::start(&url, WORKERS + kill, duty)?;
        // The victim takes to its grave what it does from here on.
        see(&mut crew, &mut turmoil)?;
        lost.add(std::mem::replace(&mut crew[victim], next).kill());
    }
    machine::pause(Duration::from_millis(PAUSE.end));
    see(&mut crew, &mut turmoil)?;
    let mut survivors = Progress::default();
    for member in crew {
        survivors.add(member.end()?);
    }
    // What the dead held ends at its deadline.
    machine::pause(TTL + Duration::from_millis(500));
    let left = left(&url, duty)?;
    judge(table, name, (&calm, &turmoil));
    check(table, name, (&left, survivors, lost))
}

/// What the workers did since they were asked last.
fn see(crew: &mut [Member], seen: &mut Seen) -> Outcome {
    for member in crew {
        seen.add(member.report()?);
    }
    Ok(())
}

fn judge(table: &mut Table, name: &str, (calm, turmoil): (&[Seen], &Seen)) {
    let millis = |span: Duration| span.as_secs_f64() * 1e3;
    let of_calm =
        |measure, value: &dyn Fn(&Seen) -> f64| Figure::of(measure, calm.iter().map(value));
    let usual = of_calm("p99.9 ms", &|seen| millis(seen.operations.at(0.999)));
    let longest = millis(turmoil.operations.longest());
    table.bar(
        format!("{name}: longest stall of others, ms"),
        longest - usual.median(),
        Wanted::AtMost(STALL_BAR),
    );
    table.row(
        format!("{name}, calm"),
        vec![
            of_calm("operations", &|seen| seen.operations.count() as f64),
            of_calm("p50 ms", &|seen| millis(seen.operations.at(0.5))),
            usual,
            of_calm("longest ms", &|seen| millis(seen.operations.longest())),
            of_calm("none admitted ms", &|seen| millis(seen.gap())),
            of_calm("store down", &|seen| seen.down as f64),
        ],
    );
    let once = |measure, value| Figure::of(measure, [value]);
    table.row(
        format!("{name}, others killed"),
        vec![
            once("operations", turmoil.operations.count() as f64),
            once("p50 ms", millis(turmoil.operations.at(0.5))),
            once("p99.9 ms", millis(turmoil.operations.at(0.999))),
            once("longest ms", longest),
            once("none admitted ms", millis(turmoil.gap())),
            once("store down", turmoil.down as f64),
        ],
    );
}

/// How many pairs were begun, how many ended, and how often the store was out of reach on the way.
#[derive(Clone, Copy, Default)]
struct Progress {
    begun: u64,
    settled: u64,
    down: u64,
}

impl Progress {
    fn add(&mut self, more: Self) {
        self.begun += more.begun;
        self.settled += more.settled;
        self.down += more.down;
    }
}

/// What is taken of each limit.
struct Left {
    requests: u64,
    slots: u64,
}

fn left(url: &str, duty: Duty) -> Outcome<Left> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let post = Post {
        number: 0,
        count: 1,
        url: url.to_owned(),
        duty: worker::Duty::Kill(duty),
    };
    let standings = runtime.block_on(async {
        let store = post.store(&policy(duty)?).await?;
        Outcome::Ok(store.peek(&[]).await?)
    })?;
    let used = |metric| {
        let found = standings
            .iter()
            .find(|standing| standing.limit.metric == metric);
        found
            .map(|standing| standing.used)
            .ok_or("a limit is missing")
    };
    Ok(Left {
        requests: used(Metric::REQUESTS)?,
        slots: used(Metric::CONCURRENCY)?,
    })
}

/// Slots of the dead are free again; requests count what was settled, and what the dead held or asked for, and what was asked
/// for once more for want of an answer: who ends at once may not have given it back.
fn check(
    table: &mut Table,
    name: &str,
    (left, survivors, lost): (&Left, Progress, Progress),
) -> Outcome {
    if survivors.begun != survivors.settled {
        return Err(format!(
            "survivors began {} pairs and ended {}",
            survivors.begun, survivors.settled
        )
        .into());
    }
    let least = survivors.settled + lost.settled;
    let most = survivors.settled + lost.begun + survivors.down + lost.down;
    let stray = least.saturating_sub(left.requests) + left.requests.saturating_sub(most);
    table.bar(
        format!("{name}: slots taken after the deadline"),
        left.slots as f64,
        Wanted::AtMost(0.0),
    );
    table.bar(
        format!("{name}: requests counted beyond {least} to {most}"),
        stray as f64,
        Wanted::AtMost(0.0),
    );
    Ok(())
}

/// All requests of the month, tokens by the second, and calls at once.
fn policy(duty: Duty) -> Outcome<Policy> {
    let month = Shape::Fixed {
        window: Calendar::Month,
        timezone: jiff::tz::TimeZone::UTC,
    };
    let tokens = match duty {
        Duty::Plenty => (
            Metric::TOKENS,
            1_000_000_000,
            policies::bucket(Duration::from_secs(1)),
        ),
        // A thousand calls a second, where the workers would make three; and no more than ten at once.
        Duty::Scarce => {
            let shape = Shape::Bucket {
                every: Duration::from_secs(1).into(),
                burst: Some(1_000),
                strict: false,
            };
            (Metric::TOKENS, 100_000, shape)
        }
    };
    policies::policy(
        &[],
        vec![
            (Metric::REQUESTS, 1_000_000_000, month),
            tokens,
            (Metric::CONCURRENCY, 100_000, Shape::Concurrency),
        ],
    )
}
