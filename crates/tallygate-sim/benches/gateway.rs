//! CPU a request of the gateway with three limits on, against nginx as a plain proxy, before the same upstream in one run.
//!
//! `cargo xtask bench gateway [--rounds N] [--seconds N] [--connections N] [--stream] [--json]`
//!
//! Both proxies keep connections alive on both sides and get the same load in turn, round by round. The figure is the
//! proxy's own user and system time from `/proc`, so neither the load nor the upstream is in it.
#![expect(clippy::print_stdout, reason = "a benchmark speaks on standard output")]

#[path = "gateway/nginx.rs"]
mod nginx;
#[path = "gateway/options.rs"]
mod options;
#[path = "gateway/proc.rs"]
mod proc;
#[path = "gateway/tally.rs"]
mod tally;
#[path = "gateway/wrk.rs"]
mod wrk;

use std::error::Error;
use std::path::{Path, PathBuf};

use options::Options;
use proc::Process;

type Outcome<T = ()> = Result<T, Box<dyn Error>>;

/// A proxy under load, and what its rounds gave.
struct Lane {
    name: &'static str,
    process: Process,
    address: String,
    rounds: Vec<Round>,
}

/// One round of one proxy.
#[derive(Clone, Copy)]
struct Round {
    micros_a_request: f64,
    requests_a_second: f64,
}

fn main() -> Outcome {
    let options = Options::from_args(std::env::args().skip(1))?;
    let folder = Folder::new()?;
    let tally = tally::Programs::start(&folder.0)?;
    let nginx = nginx::start(&folder.0, &tally.upstream)?;
    let script = wrk::script(&folder.0, options.stream)?;
    let mut lanes = [
        Lane {
            name: "nginx, plain proxy",
            process: nginx.process,
            address: nginx.address,
            rounds: Vec::new(),
        },
        Lane {
            name: "tallygate, 3 limits",
            process: tally.gateway,
            address: tally.address,
            rounds: Vec::new(),
        },
    ];
    for round in 0..=options.rounds {
        for lane in &mut lanes {
            let measured = measure(lane, &script, &options)?;
            // The first round warms caches and connections.
            if round > 0 {
                lane.rounds.push(measured);
            }
        }
    }
    report(&lanes, &options);
    Ok(())
}

fn measure(lane: &Lane, script: &Path, options: &Options) -> Outcome<Round> {
    let before = lane.process.cpu()?;
    let load = wrk::run(&lane.address, script, options)?;
    let spent = lane.process.cpu()?.saturating_sub(before);
    if load.requests == 0 || load.failures > 0 {
        return Err(format!(
            "{}: {} requests, {} failures",
            lane.name, load.requests, load.failures
        )
        .into());
    }
    Ok(Round {
        micros_a_request: spent.as_secs_f64() * 1e6 / load.requests as f64,
        requests_a_second: load.requests as f64 / load.seconds,
    })
}

fn report(lanes: &[Lane; 2], options: &Options) {
    let cost = lanes
        .each_ref()
        .map(|lane| median(lane.rounds.iter().map(|round| round.micros_a_request)));
    let rate = lanes
        .each_ref()
        .map(|lane| median(lane.rounds.iter().map(|round| round.requests_a_second)));
    let ratio = cost[1] / cost[0];
    if options.json {
        let row = |index: usize| serde_json::json!({ "name": lanes[index].name, "cpu_us_a_request": cost[index], "requests_a_second": rate[index] });
        println!(
            "{}",
            serde_json::json!({ "bench": "gateway", "rows": [row(0), row(1)], "ratio": ratio, "bar": BAR })
        );
        return;
    }
    println!(
        "CPU of the proxy a request (user + system), medians of {} rounds of {} s each, {} connections, {} answers",
        options.rounds,
        options.seconds,
        options.connections,
        if options.stream { "streamed" } else { "whole" },
    );
    for index in 0..lanes.len() {
        println!(
            "{:<22} {:>8.1} µs {:>10.0} requests/s",
            lanes[index].name, cost[index], rate[index]
        );
    }
    println!("{:<22} {ratio:>8.2} ×  (bar: {BAR} × or less)", "ratio");
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

/// The most that the gateway may cost, in nginx's.
const BAR: f64 = 3.0;

/// A folder of this run's own, gone with it.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Outcome<Self> {
        let path = std::env::temp_dir().join(format!("tallygate-bench-{}", std::process::id()));
        std::fs::create_dir_all(&path)?;
        Ok(Self(path))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        drop(std::fs::remove_dir_all(&self.0));
    }
}
