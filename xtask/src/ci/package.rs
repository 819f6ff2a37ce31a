//! The Python step: the package is built as a wheel, installed, its types checked, its tests run, on the machine's own Python and on the
//! oldest and the newest that it has besides.
//!
//! It brings what its tests run: the program is built and the servers are installed where no step before has done it.
//!
//! Tests find servers and programs by their environment: `TALLYGATE_BIN`, `TALLYGATE_VALKEY`, `TALLYGATE_REDIS`. What is set must be used:
//! a test that finds them missing there fails.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::servers;
use crate::workspace::Workspace;
use crate::{Outcome, process, provision};

const PACKAGE: &str = "crates/tallygate-python";
pub(crate) const REQUIREMENTS: &str = "crates/tallygate-python/requirements.txt";
/// Minor versions of Python 3 that the package is for, the oldest first.
pub(crate) const MINORS: std::ops::RangeInclusive<u32> = 10..=15;

pub(crate) fn run(workspace: &Workspace) -> Outcome {
    servers::run(workspace)?;
    let program = super::program(workspace)?;
    let python = provision::python(workspace, "package", &[REQUIREMENTS])?;
    let wheel = wheel(workspace, &python, &[])?;
    install(&python, &wheel)?;
    types(workspace, &python)?;
    let tests = |python: &Path| tests(workspace, python, &program);
    tests(&python)?;
    for (minor, interpreter) in others(&python)? {
        println!("on Python 3.{minor}");
        let name = format!("package-3.{minor}");
        let python = provision::python_by(workspace, &interpreter, &name, &[REQUIREMENTS])?;
        install(&python, &wheel)?;
        tests(&python)?;
    }
    Ok(())
}

/// The package as one file for all Pythons, built with these options of maturin.
pub(crate) fn wheel(workspace: &Workspace, python: &Path, options: &[&str]) -> Outcome<PathBuf> {
    let wheels = workspace.cache("wheels");
    provision::clear(&wheels)?;
    let mut build = Command::new(python.with_file_name("maturin"));
    build
        .args(["build", "--quiet", "--locked", "--compatibility", "linux"])
        .arg("--out")
        .arg(&wheels)
        .args(options)
        .env("CARGO_TARGET_DIR", workspace.target())
        .current_dir(workspace.root().join(PACKAGE));
    process::run(&mut build)?;
    let built = files(&wheels)?;
    let wheel = built
        .into_iter()
        .find(|file| file.extension() == Some("whl".as_ref()));
    wheel.ok_or_else(|| format!("maturin left no wheel in {}", wheels.display()))
}

pub(crate) fn install(python: &Path, wheel: &Path) -> Outcome {
    let mut pip = provision::pip_install(python);
    process::run(pip.args(["--force-reinstall", "--no-deps"]).arg(wheel))
}

/// The sources by mypy, and the stubs against what the native module really has; what is written in Python is its own stub.
fn types(workspace: &Workspace, python: &Path) -> Outcome {
    let folder = workspace.root().join(PACKAGE);
    let mut mypy = Command::new(python);
    mypy.args(["-m", "mypy", "--strict", "python/tallygate", "tests/typing"]);
    process::run(mypy.current_dir(&folder))?;
    let mut stubtest = Command::new(python.with_file_name("stubtest"));
    process::run(
        stubtest
            .arg("tallygate._native")
            .current_dir(workspace.cache("wheels")),
    )
}

fn tests(workspace: &Workspace, python: &Path, program: &Path) -> Outcome {
    let servers = workspace.cache("servers").join("bin");
    let mut pytest = Command::new(python);
    pytest
        .args(["-m", "pytest", "-q", "-p", "no:cacheprovider", "tests"])
        .env("TALLYGATE_BIN", program)
        .env("TALLYGATE_VALKEY", servers.join("valkey-server"))
        .env("TALLYGATE_REDIS", servers.join("redis-server"))
        .env("PYTHONDONTWRITEBYTECODE", "1")
        // A proxy of the surroundings has no business between a test and loopback.
        .envs([("NO_PROXY", "127.0.0.1"), ("no_proxy", "127.0.0.1")])
        .current_dir(workspace.root().join(PACKAGE));
    process::run(&mut pytest)
}

/// The oldest and the newest Python that the machine has besides its own, on its path or by pyenv.
fn others(python: &Path) -> Outcome<Vec<(u32, PathBuf)>> {
    let ask = "import sys; print(sys.version_info.minor)";
    let own = process::output(Command::new(python).args(["-c", ask]))?;
    let mut found: Vec<(u32, PathBuf)> = MINORS
        .filter(|minor| own.trim() != minor.to_string())
        .filter_map(|minor| Some((minor, interpreter(minor)?)))
        .collect();
    if found.len() > 2 {
        found.drain(1..found.len() - 1);
    }
    Ok(found)
}

/// A Python of this version that can make environments.
pub(crate) fn interpreter(minor: u32) -> Option<PathBuf> {
    let name = format!("python3.{minor}");
    let plain = process::on_path(&name).into_iter();
    plain
        .chain(of_pyenv(minor))
        .find(|python| can_make_environments(python))
}

/// What pyenv keeps of a version; its own command of that name works only where it is chosen.
fn of_pyenv(minor: u32) -> Option<PathBuf> {
    process::on_path("pyenv")?;
    let said = Command::new("pyenv")
        .args(["prefix", &format!("3.{minor}")])
        .output()
        .ok()?;
    let prefix = String::from_utf8_lossy(&said.stdout).trim().to_owned();
    let python = PathBuf::from(prefix).join("bin/python");
    python.is_file().then_some(python)
}

fn can_make_environments(python: &Path) -> bool {
    let said = Command::new(python)
        .args(["-c", "import ensurepip, venv"])
        .output();
    said.is_ok_and(|said| said.status.success())
}

fn files(folder: &Path) -> Outcome<Vec<PathBuf>> {
    let failed = |error: std::io::Error| format!("failed to read {}: {error}", folder.display());
    let entries = fs::read_dir(folder).map_err(failed)?;
    entries
        .map(|entry| entry.map(|entry| entry.path()).map_err(failed))
        .collect()
}
