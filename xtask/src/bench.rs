//! `cargo xtask bench`: the comparisons that the documentation's figures come from.

mod python;

use crate::provision::Program;
use crate::workspace::Workspace;
use crate::{Outcome, process, provision};

/// The benchmarks live beside the mock provider and the oracles that they use.
const PACKAGE: &str = "tallygate-sim";
const KINDS: [&str; 8] = [
    "decide", "pipeline", "gateway", "count", "store", "usage", "books", "python",
];

pub(crate) fn run(workspace: &Workspace, arguments: &[String]) -> Outcome {
    let (kind, rest) = arguments
        .split_first()
        .ok_or_else(|| format!("bench what? one of {}", KINDS.join(", ")))?;
    if !KINDS.contains(&kind.as_str()) {
        return Err(format!(
            "unknown benchmark `{kind}`: one of {}",
            KINDS.join(", ")
        ));
    }
    if kind == "books" {
        return books(workspace, rest);
    }
    if kind == "python" {
        return python::run(workspace, rest);
    }
    if kind == "gateway" {
        gateway_needs(workspace)?;
    }
    let mut command = workspace.cargo(&[
        "bench",
        "--quiet",
        "--package",
        PACKAGE,
        "--bench",
        kind,
        "--",
    ]);
    command.env(
        "TALLYGATE_BIN",
        workspace.target().join("release/tallygate"),
    );
    process::run(command.args(rest))
}

/// The gateway's benchmark drives real servers: nginx as the plain proxy, wrk as the load, our own optimised binary.
fn gateway_needs(workspace: &Workspace) -> Outcome {
    provision::programs(&[
        Program {
            name: "nginx",
            package: "nginx-light",
        },
        Program {
            name: "wrk",
            package: "wrk",
        },
    ])?;
    process::run(&mut workspace.cargo(&["build", "--quiet", "--release", "--package", "tallygate"]))
}

/// Fifty thousand mixed calls, or as many as asked for: whether the ledger's totals are the mock provider's own books.
fn books(workspace: &Workspace, arguments: &[String]) -> Outcome {
    let calls = arguments.first().map_or("50000", String::as_str);
    let mut command = workspace.cargo(&[
        "test",
        "--quiet",
        "--package",
        "tallygate-server",
        "--test",
        "it",
    ]);
    command.args(["usage::books", "--", "--nocapture"]);
    process::run(command.env("TALLYGATE_MIXED_CALLS", calls))
}
