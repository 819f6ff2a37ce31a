//! The distributed store on a real server, and the one in a folder: `cargo xtask bench store [PART]... [--engine redis] [--laps N] [--json]`.
//!
//! Parts, all of them unless some are named: `pairs`, `drain`, `flood`, `wake`, `kill`, `memory`, and `durable`, which is the
//! store in a folder and needs no server. Each other starts a Valkey (or Redis) of its own on a free loopback port, and
//! worker processes, which are this program again. What is quoted
//! is the median of some laps, in which contestants take turns. Wall-clock figures need a quiet machine: the share of
//! the processors that others use is printed with them.
#![expect(clippy::print_stdout, reason = "a benchmark speaks on standard output")]

#[path = "store/again.rs"]
mod again;
#[path = "store/crew.rs"]
mod crew;
#[path = "store/detour.rs"]
mod detour;
#[path = "store/drain.rs"]
mod drain;
#[path = "store/durable.rs"]
mod durable;
#[path = "store/flood.rs"]
mod flood;
#[path = "store/histogram.rs"]
mod histogram;
#[path = "store/kill.rs"]
mod kill;
#[path = "store/machine.rs"]
mod machine;
#[path = "store/memory.rs"]
mod memory;
#[path = "store/options.rs"]
mod options;
#[path = "store/pairs.rs"]
mod pairs;
#[path = "store/policies.rs"]
mod policies;
#[path = "store/report.rs"]
mod report;
#[path = "store/wake.rs"]
mod wake;
#[path = "store/worker.rs"]
mod worker;
#[path = "store/yardstick.rs"]
mod yardstick;

use std::error::Error;

use options::{Options, Part};
use report::Report;

/// As the program has it; the yardstick's client gains by it too.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

type Outcome<T = ()> = Result<T, Box<dyn Error + Send + Sync>>;

fn main() -> Outcome {
    if let Some(post) = worker::post() {
        return worker::run(post?);
    }
    let options = Options::from_args(std::env::args().skip(1))?;
    let mut report = Report::new(&options);
    for part in &options.parts {
        let run = match part {
            Part::Pairs => pairs::run,
            Part::Drain => drain::run,
            Part::Flood => flood::run,
            Part::Wake => wake::run,
            Part::Kill => kill::run,
            Part::Memory => memory::run,
            Part::Durable => durable::run,
        };
        run(&options, &mut report)?;
    }
    report.end();
    Ok(())
}
