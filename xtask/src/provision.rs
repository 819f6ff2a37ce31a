//! What the checks need and a fresh machine lacks: Debian packages, a Python environment, Node packages.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::workspace::Workspace;
use crate::{Outcome, process};

/// A program and the Debian package that brings it.
pub(crate) struct Program {
    pub(crate) name: &'static str,
    pub(crate) package: &'static str,
}

/// Makes sure that each program is there, installing packages where we may.
pub(crate) fn programs(wanted: &[Program]) -> Outcome {
    let missing: Vec<&str> = wanted
        .iter()
        .filter(|program| process::on_path(program.name).is_none())
        .map(|program| program.package)
        .collect();
    if missing.is_empty() {
        Ok(())
    } else {
        install(&missing)
    }
}

/// The interpreter of a Python environment that holds exactly the pinned `requirements` files.
pub(crate) fn python(workspace: &Workspace, name: &str, requirements: &[&str]) -> Outcome<PathBuf> {
    programs(&[Program {
        name: "python3",
        package: "python3",
    }])?;
    if !has_python_module("ensurepip") {
        install(&["python3-venv"])?;
    }
    python_by(workspace, Path::new("python3"), name, requirements)
}

/// [`python`] by another interpreter than the machine's own.
pub(crate) fn python_by(
    workspace: &Workspace,
    interpreter: &Path,
    name: &str,
    requirements: &[&str],
) -> Outcome<PathBuf> {
    let mut pinned = String::new();
    for file in requirements {
        pinned.push_str(&workspace.read(file)?);
    }
    let home = workspace.cache(name);
    let inside = home.join("bin/python");
    if stamp_matches(&home, &pinned) && inside.is_file() {
        return Ok(inside);
    }
    println!("setting up a Python environment in {}", home.display());
    clear(&home)?;
    process::run(Command::new(interpreter).args(["-m", "venv"]).arg(&home))?;
    let mut pip = pip_install(&inside);
    pip.current_dir(workspace.root());
    for file in requirements {
        pip.args(["--requirement", file]);
    }
    if !requirements.is_empty() {
        process::run(&mut pip)?;
    }
    write_stamp(&home, &pinned)?;
    Ok(inside)
}

/// `pip install` of an environment, to be told what.
pub(crate) fn pip_install(python: &Path) -> Command {
    let mut pip = Command::new(python);
    pip.args(["-m", "pip", "install", "--quiet"])
        .arg("--disable-pip-version-check");
    pip
}

/// A folder with the scripts of `source` and the packages that its lock file names.
pub(crate) fn node(workspace: &Workspace, source: &str) -> Outcome<PathBuf> {
    programs(&[
        Program {
            name: "node",
            package: "nodejs",
        },
        Program {
            name: "npm",
            package: "npm",
        },
    ])?;
    let pinned = workspace.read(&format!("{source}/package-lock.json"))?;
    let home = workspace.cache("js");
    if !stamp_matches(&home, &pinned) {
        println!("installing Node packages in {}", home.display());
        clear(&home)?;
        copy_files(&workspace.root().join(source), &home)?;
        process::run(
            Command::new("npm")
                .args(["ci", "--no-audit", "--no-fund", "--loglevel=error"])
                .current_dir(&home),
        )?;
        write_stamp(&home, &pinned)?;
    }
    copy_files(&workspace.root().join(source), &home)?;
    Ok(home)
}

fn install(packages: &[&str]) -> Outcome {
    let list = packages.join(" ");
    let advice =
        format!("install these Debian packages, or their like elsewhere, and run again: {list}");
    if process::on_path("apt-get").is_none() {
        return Err(advice);
    }
    let root = runs_as_root();
    if !root && process::on_path("sudo").is_none() {
        return Err(advice);
    }
    println!("installing {list}");
    let apt = |arguments: &[&str]| {
        let mut command = if root {
            Command::new("apt-get")
        } else {
            Command::new("sudo")
        };
        if !root {
            // Never asks for a password: nobody may be there to type it.
            command.args(["--non-interactive", "apt-get"]);
        }
        process::run(
            command
                .args(arguments)
                .env("DEBIAN_FRONTEND", "noninteractive"),
        )
    };
    apt(&["update", "-qq"]).map_err(|failure| format!("{failure}; {advice}"))?;
    let arguments = [
        &["install", "-y", "-qq", "--no-install-recommends"],
        packages,
    ]
    .concat();
    apt(&arguments).map_err(|failure| format!("{failure}; {advice}"))
}

fn runs_as_root() -> bool {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let uid = status.lines().find_map(|line| line.strip_prefix("Uid:"));
    uid.and_then(|ids| ids.split_whitespace().nth(1)) == Some("0")
}

fn has_python_module(module: &str) -> bool {
    let probe = Command::new("python3")
        .args(["-c", &format!("import {module}")])
        .output();
    probe.is_ok_and(|output| output.status.success())
}

fn stamp_matches(home: &Path, pinned: &str) -> bool {
    fs::read_to_string(home.join("installed")).is_ok_and(|stamp| stamp == pinned)
}

/// Written last: an environment without it is unfinished and made anew.
fn write_stamp(home: &Path, pinned: &str) -> Outcome {
    fs::write(home.join("installed"), pinned)
        .map_err(|error| format!("failed to write in {}: {error}", home.display()))
}

/// Makes an empty folder.
pub(crate) fn clear(home: &Path) -> Outcome {
    if home.exists() {
        fs::remove_dir_all(home)
            .map_err(|error| format!("failed to clear {}: {error}", home.display()))?;
    }
    fs::create_dir_all(home).map_err(|error| format!("failed to make {}: {error}", home.display()))
}

fn copy_files(from: &Path, to: &Path) -> Outcome {
    let failed = |error: std::io::Error| format!("failed to copy {}: {error}", from.display());
    for entry in fs::read_dir(from).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        if entry.path().is_file() {
            fs::copy(entry.path(), to.join(entry.file_name())).map_err(failed)?;
        }
    }
    Ok(())
}
