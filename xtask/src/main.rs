//! The project's own commands, run as `cargo xtask …`.
#![expect(
    clippy::print_stdout,
    reason = "a command-line program speaks on standard output"
)]

mod bench;
mod ci;
mod prices;
mod process;
mod provision;
mod tidy;
mod workspace;

use std::process::ExitCode;

use workspace::Workspace;

/// What a command ends with: nothing, or a sentence that says what failed and how to mend it.
type Outcome<T = ()> = Result<T, String>;

const HELP: &str = "\
the project's own commands

usage: cargo xtask COMMAND

  ci [--only STEP]... [--list]      everything that continuous integration runs, or some steps of it
  tidy                              the rules that no compiler checks: crate arrows, sizes, words, links
  bench decide|pipeline|gateway|count|store|usage|books [--json] [ARGS]
                                    one benchmark, optimised, against its peers in the same run
  bench python [--python INTERPRETER] [PART]...
                                    the Python package beside token-throttle, which needs Python 3.12
  prices                            a fresh snapshot of the built-in prices, from two packages of PyPI
";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match run(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("xtask: {failure}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &[String]) -> Outcome {
    let workspace = Workspace::find();
    let (command, rest) = arguments.split_first().ok_or(HELP)?;
    match command.as_str() {
        "ci" => ci::run(&workspace, rest),
        "tidy" => tidy::run(&workspace),
        "bench" => bench::run(&workspace, rest),
        "prices" => prices::run(&workspace),
        "help" | "--help" | "-h" => {
            print!("{HELP}");
            Ok(())
        }
        other => Err(format!("unknown command `{other}`\n\n{HELP}")),
    }
}
