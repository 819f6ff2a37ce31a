//! A flood of callers at one instant, on a limit that never binds: how long until the last one is in.

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tallygate_core::{Amounts, Decision};
use tallygate_sim::Clock;
use tallygate_sim::servers::Server;
use tallygate_store::{Reserve, SettledBy, Store, WaitsFor};

use super::crew::Crew;
use super::options::Options;
use super::report::{Figure, Report, Table, Wanted};
use super::worker::{self, Post};
use super::{Outcome, policies};

const CALLERS: usize = 2000;
/// The most milliseconds until all are in.
const BAR: f64 = 1000.0;

#[derive(Clone, Serialize, Deserialize)]
pub(super) struct Duty {
    callers: usize,
}

/// When the first asked and when the last was admitted, in nanoseconds of the machine's clock.
#[derive(Serialize, Deserialize)]
struct Did {
    first: u64,
    last: u64,
}

pub(super) fn run(options: &Options, report: &mut Report) -> Outcome {
    let about = format!(
        "{CALLERS} callers at once, 2 limits of one user, on {}",
        options.engine
    );
    let mut table = Table::new("flood", about);
    let server = Server::start(options.engine, &[])?;
    for processes in [1, 4] {
        let duty = worker::Duty::Flood(Duty {
            callers: CALLERS / processes,
        });
        let mut crew = Crew::start(processes, &server.url(), &duty)?;
        let mut laps = Vec::new();
        for lap in 0..=options.laps {
            let did: Vec<Did> = crew.lap(&format!("{processes}-{lap}"))?;
            let first = did.iter().map(|did| did.first).min().unwrap_or(0);
            let last = did.iter().map(|did| did.last).max().unwrap_or(0);
            laps.push(Duration::from_nanos(last - first).as_secs_f64() * 1e3);
        }
        // The first lap loads the script.
        let figure = Figure::of("all admitted ms", laps.split_off(1));
        let name = format!("{processes} x {}", CALLERS / processes);
        table.bar(
            format!("{name}: all admitted, ms"),
            figure.median(),
            Wanted::AtMost(BAR),
        );
        table.row(name, vec![figure]);
    }
    report.add(table);
    Ok(())
}

pub(super) async fn work(post: &Post, duty: Duty) -> Outcome {
    let store = post.store(&policies::plenty_a_user()?).await?;
    worker::say_ready();
    let clock = Clock::machine();
    while let Some(user) = worker::order().await? {
        let first = clock.now().nanos();
        let callers: Vec<_> = (0..duty.callers)
            .map(|_| tokio::spawn(acquire(store.clone(), user.clone(), clock.clone())))
            .collect();
        let mut last = first;
        for caller in callers {
            last = last.max(caller.await??);
        }
        worker::say(&Did { first, last })?;
    }
    Ok(())
}

/// When it was admitted.
async fn acquire(store: Arc<dyn Store>, user: String, clock: Clock) -> Outcome<u64> {
    let ask = Reserve {
        subject: &[("user", &user)],
        demand: Amounts::call(100, 100),
        ttl: Duration::from_secs(5),
        max_wait: Duration::from_secs(30),
        idempotency_key: None,
        waits_for: WaitsFor::Anything,
        settled_by: SettledBy::AnyNode,
    };
    match store.reserve(ask).await? {
        Decision::Admit(_) => Ok(clock.now().nanos()),
        other => Err(format!("the limits are wide enough: {other:?}").into()),
    }
}
