//! `cargo xtask bench python`: the package beside token-throttle, on one interpreter.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::ci::{package, servers};
use crate::workspace::Workspace;
use crate::{Outcome, process, provision};

const SCRIPT: &str = "crates/tallygate-python/benches/compare.py";
const PEER: &str = "crates/tallygate-python/benches/requirements.txt";
/// What token-throttle needs at least.
const PEER_MINOR: u32 = 12;

pub(crate) fn run(workspace: &Workspace, arguments: &[String]) -> Outcome {
    let (interpreter, rest) = interpreter(arguments)?;
    let builder = provision::python(workspace, "package", &[package::REQUIREMENTS])?;
    let wheel = package::wheel(workspace, &builder, &["--release"])?;
    let minor = minor(&interpreter)?;
    let requirements: &[&str] = if minor >= PEER_MINOR { &[PEER] } else { &[] };
    let name = format!("bench-3.{minor}");
    let python = provision::python_by(workspace, &interpreter, &name, requirements)?;
    package::install(&python, &wheel)?;
    servers::run(workspace)?;
    let mut command = Command::new(&python);
    let valkey = workspace.cache("servers").join("bin/valkey-server");
    command
        .arg(workspace.root().join(SCRIPT))
        .args(rest)
        .env("TALLYGATE_VALKEY", valkey)
        .env("TALLYGATE_WHEEL", &wheel);
    process::run(&mut command)
}

/// The interpreter that was asked for, or the newest that the peer runs on, or else the machine's own; and the other arguments.
fn interpreter(arguments: &[String]) -> Outcome<(PathBuf, &[String])> {
    match arguments {
        [flag, python, rest @ ..] if flag == "--python" => Ok((PathBuf::from(python), rest)),
        [flag] if flag == "--python" => Err("--python takes an interpreter".to_owned()),
        rest => {
            let newest = package::MINORS.rev().filter(|minor| *minor >= PEER_MINOR);
            let found = newest.into_iter().find_map(package::interpreter);
            Ok((found.unwrap_or_else(|| PathBuf::from("python3")), rest))
        }
    }
}

fn minor(python: &Path) -> Outcome<u32> {
    let ask = "import sys; print(sys.version_info.minor)";
    let said = process::output(Command::new(python).args(["-c", ask]))?;
    let minor = said.trim().parse();
    minor.map_err(|_| format!("{} did not tell its version", python.display()))
}
