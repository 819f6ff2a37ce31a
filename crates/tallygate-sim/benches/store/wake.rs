//! From one process to the other: how long from a settle's return until the caller is admitted who waits for its slot.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use tallygate_core::{Amounts, Decision, Metric, Shape};
use tallygate_sim::servers::Server;
use tallygate_sim::{Clock, Rng};
use tallygate_store::{Reserve, SettledBy, Settlement, Store, WaitsFor};

use super::crew::Crew;
use super::histogram::Histogram;
use super::options::Options;
use super::report::{Figure, Report, Table, Wanted};
use super::worker::{self, Post};
use super::{Outcome, machine, policies};

/// Turns of each process a lap.
const TURNS: usize = 100;
/// The median may be so many milliseconds.
const BAR: f64 = 10.0;

#[derive(Clone, Serialize, Deserialize)]
pub(super) struct Duty;

/// One turn with the slot, in nanoseconds of the machine's clock.
#[derive(Clone, Copy, Serialize, Deserialize)]
struct Turn {
    admitted: u64,
    /// When settle was called, and when it had returned.
    settling: u64,
    settled: u64,
}

pub(super) fn run(options: &Options, report: &mut Report) -> Outcome {
    let about = format!(
        "two processes, one slot, {} hand-overs a lap, on {}",
        2 * TURNS,
        options.engine
    );
    let mut table = Table::new("wake", about);
    let server = Server::start(options.engine, &[])?;
    let mut crew = Crew::start(2, &server.url(), &worker::Duty::Wake(Duty))?;
    let mut laps = Vec::new();
    for _ in 0..options.laps {
        let turns: Vec<Vec<Turn>> = crew.lap("go")?;
        laps.push(hand_overs(&turns));
    }
    let figure = |measure, value: &dyn Fn(&HandOvers) -> Duration| {
        Figure::of(
            measure,
            laps.iter().map(|lap| value(lap).as_secs_f64() * 1e3),
        )
    };
    let half = figure("p50 ms", &|lap| lap.after.at(0.5));
    table.bar(
        "from settle's return to admission, p50 ms",
        half.median(),
        Wanted::AtMost(BAR),
    );
    let figures = vec![
        half,
        figure("p99 ms", &|lap| lap.after.at(0.99)),
        figure("longest ms", &|lap| lap.after.longest()),
        figure("p50 from its call ms", &|lap| lap.whole.at(0.5)),
    ];
    table.row("settle to admission", figures);
    report.add(table);
    Ok(())
}

/// From a settle's return (nothing if admission was earlier) and from its call, to the next admission.
#[derive(Default)]
struct HandOvers {
    after: Histogram,
    whole: Histogram,
}

fn hand_overs(turns: &[Vec<Turn>]) -> HandOvers {
    let mut all: Vec<(usize, Turn)> = Vec::new();
    for (process, turns) in turns.iter().enumerate() {
        all.extend(turns.iter().map(|turn| (process, *turn)));
    }
    all.sort_by_key(|(_, turn)| turn.admitted);
    let mut found = HandOvers::default();
    for pair in all.windows(2) {
        let [(from, before), (to, next)] = pair else {
            continue;
        };
        if from != to {
            let since = |at: u64| Duration::from_nanos(next.admitted.saturating_sub(at));
            found.after.add(since(before.settled));
            found.whole.add(since(before.settling));
        }
    }
    found
}

pub(super) async fn work(post: &Post, _: Duty) -> Outcome {
    let policy = policies::policy(&[], vec![(Metric::CONCURRENCY, 1, Shape::Concurrency)])?;
    let store = post.store(&policy).await?;
    let (clock, mut rng) = (Clock::machine(), Rng::new(post.number as u64));
    worker::say_ready();
    while worker::order().await?.is_some() {
        let mut turns = Vec::new();
        for _ in 0..TURNS {
            turns.push(
                turn(
                    &*store,
                    &clock,
                    Duration::from_micros(5_000 + rng.below(5_000)),
                )
                .await?,
            );
        }
        worker::say(&turns)?;
    }
    Ok(())
}

/// Waits for the slot, keeps it for a while, gives it back.
async fn turn(store: &dyn Store, clock: &Clock, call: Duration) -> Outcome<Turn> {
    let ask = Reserve {
        subject: &[],
        demand: Amounts::ZERO.with(Metric::CONCURRENCY, 1),
        ttl: Duration::from_secs(30),
        max_wait: Duration::from_secs(60),
        idempotency_key: None,
        waits_for: WaitsFor::Anything,
        settled_by: SettledBy::AnyNode,
    };
    let admission = match store.reserve(ask).await? {
        Decision::Admit(admission) => admission,
        other => return Err(format!("the slot comes free: {other:?}").into()),
    };
    let admitted = clock.now().nanos();
    machine::wait(call).await;
    let settling = clock.now().nanos();
    store
        .settle(admission.id, Settlement::Exact(Amounts::ZERO))
        .await?;
    Ok(Turn {
        admitted,
        settling,
        settled: clock.now().nanos(),
    })
}
