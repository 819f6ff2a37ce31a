//! `tallygate`: a token-aware rate limiter and quota governor for LLM traffic.

mod args;
mod audit;
mod check;
mod count;
mod demo;
mod exit;
mod explain;
mod keys;
mod length;
mod log;
mod mock;
mod overrides;
mod prices;
mod progress;
mod remote;
mod screen;
mod serve;
mod settings;
mod signals;
mod storage;
mod table;
mod usage;

use std::future::Future;
use std::process::ExitCode;

use clap::Parser;

use args::{Cli, Command};
use exit::{Exit, Failure};
use screen::Screen;

/// A gateway allocates in small pieces and on many threads, which mimalloc is made for.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let cli = Cli::parse();
    let screen = Screen::new(cli.json);
    log::start(&screen);
    match run(&cli.command, &screen) {
        Ok(()) => ExitCode::from(Exit::Done.code()),
        Err(failure) => failure.report(),
    }
}

fn run(command: &Command, screen: &Screen) -> Result<(), Failure> {
    match command {
        Command::Serve(args) => block_on(serve::run(args, screen)),
        Command::Demo(args) => block_on(demo::run(args, screen)),
        Command::Mock(args) => block_on(mock::run(args, screen)),
        Command::Count(args) => count::run(args, screen),
        Command::Check(args) => block_on(check::run(args, screen)),
        Command::Explain(args) => block_on(explain::run(args, screen)),
        Command::Keys(args) => block_on(keys::run(args, screen)),
        Command::Overrides(args) => block_on(overrides::run(args, screen)),
        Command::Prices(args) => prices::run(args, screen),
        Command::Audit(args) => block_on(audit::run(args, screen)),
        Command::Usage(args) => block_on(usage::run(args, screen)),
    }
}

/// Runs to the end on a runtime of its own.
fn block_on(command: impl Future<Output = Result<(), Failure>>) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build();
    let runtime = runtime.map_err(|error| {
        Failure::new(Exit::Failed, format!("no threads from the system: {error}"))
    })?;
    runtime.block_on(command)
}
