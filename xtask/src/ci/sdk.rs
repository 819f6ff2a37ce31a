//! The SDK step: stock SDKs talk to a real `tallygate serve` in front of a real `tallygate mock`.
//!
//! A script gets the gateway's address in `TALLYGATE_BASE_URL` (no path), its key in `TALLYGATE_KEY`, and in `MODE` what the
//! gateway's one limit makes of it. It ends with a status other than 0 when the SDK did something else.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::process::{self, Server};
use crate::workspace::Workspace;
use crate::{Outcome, provision};

pub(crate) const PYTHON_REQUIREMENTS: &str = "tests/sdk/python/requirements.txt";
pub(crate) const JS: &str = "tests/sdk/js";
const PYTHON: &str = "tests/sdk/python";

const KEY: &str = "tallygate-sdk-check";
const KEY_HASH: &str = "sha256:7c5ffdcbed319998004d09f2d8e953d84f4c839cc05c0cda6076dd5668919bf4";

/// What a script meets, and the limit that makes it so.
struct Mode {
    name: &'static str,
    limit: &'static str,
}

const MODES: &[Mode] = &[
    // Every call passes unchanged.
    Mode {
        name: "pass",
        limit: "requests: 10_000, every: 60s",
    },
    // The second of two calls is denied with a wait of two seconds, which the SDK keeps before it succeeds.
    Mode {
        name: "short",
        limit: "requests: 30, every: 60s, burst: 1",
    },
    // The second of two calls is denied for an hour, and the SDK does not try again.
    Mode {
        name: "long",
        limit: "requests: 1, every: 1h",
    },
];

/// A script and the command that runs it.
struct Script {
    name: String,
    interpreter: PathBuf,
    path: PathBuf,
}

pub(crate) fn run(workspace: &Workspace) -> Outcome {
    let mut scripts = python_scripts(workspace)?;
    scripts.extend(js_scripts(workspace)?);
    if scripts.is_empty() {
        return Err(format!("no script in {PYTHON} or {JS}"));
    }
    // Already built by the test step; with the same features, so nothing is built twice.
    process::run(&mut workspace.cargo(&[
        "test",
        "--locked",
        "--workspace",
        "--no-run",
        "--quiet",
    ]))?;
    let program = workspace.target().join("debug/tallygate");
    let mut failed = Vec::new();
    for script in &scripts {
        for mode in MODES {
            let outcome = run_script(workspace, &program, script, mode);
            println!(
                "  {} {:<5} {}",
                if outcome.is_ok() { "ok    " } else { "FAILED" },
                mode.name,
                script.name
            );
            if let Err(failure) = outcome {
                failed.push(format!("{} in mode {}: {failure}", script.name, mode.name));
            }
        }
    }
    println!(
        "{} passed, {} failed",
        scripts.len() * MODES.len() - failed.len(),
        failed.len()
    );
    if failed.is_empty() {
        Ok(())
    } else {
        Err(failed.join("; "))
    }
}

fn python_scripts(workspace: &Workspace) -> Outcome<Vec<Script>> {
    let interpreter = provision::python(workspace, "python", &[PYTHON_REQUIREMENTS])?;
    scripts(&workspace.root().join(PYTHON), "py", &interpreter)
}

fn js_scripts(workspace: &Workspace) -> Outcome<Vec<Script>> {
    scripts(&provision::node(workspace, JS)?, "mjs", Path::new("node"))
}

/// The scripts of a folder in the order of their names. A leading underscore marks what they share.
fn scripts(folder: &Path, ending: &str, interpreter: &Path) -> Outcome<Vec<Script>> {
    let failed = |error: std::io::Error| format!("failed to read {}: {error}", folder.display());
    let mut scripts = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        let name = path
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        if path
            .extension()
            .is_some_and(|extension| extension == ending)
            && !name.starts_with('_')
        {
            scripts.push(Script {
                name,
                interpreter: interpreter.to_path_buf(),
                path,
            });
        }
    }
    scripts.sort_by(|one, other| one.name.cmp(&other.name));
    Ok(scripts)
}

/// Each run has servers of its own, so that no counter is left over from another.
fn run_script(workspace: &Workspace, program: &Path, script: &Script, mode: &Mode) -> Outcome {
    let mut mock = Server::start(Command::new(program).args(["mock", "--listen", "127.0.0.1:0"]))?;
    let upstream = mock.wait_for("mock listening on ")?;
    let config = workspace.cache("sdk").join(format!("{}.yaml", mode.name));
    write(&config, &configuration(&upstream, mode))?;
    let mut gateway = Server::start(
        Command::new(program)
            .arg("serve")
            .arg("--config")
            .arg(&config),
    )?;
    let address = gateway.wait_for("gateway listening on ")?;
    let mut command = Command::new(&script.interpreter);
    command
        .arg(&script.path)
        .env("TALLYGATE_BASE_URL", &address)
        .env("TALLYGATE_KEY", KEY)
        .env("MODE", mode.name);
    // A proxy of the surroundings has no business between the SDK and loopback.
    process::run(
        command
            .env("NO_PROXY", "127.0.0.1")
            .env("no_proxy", "127.0.0.1"),
    )
}

fn configuration(upstream: &str, mode: &Mode) -> String {
    format!(
        "listen: 127.0.0.1:0
admin: 127.0.0.1:0
store: memory
upstreams:
  openai: {{ dialect: openai, base_url: \"{upstream}/v1\", api_key: upstream-key }}
  anthropic: {{ dialect: anthropic, base_url: \"{upstream}\", api_key: upstream-key }}
limits:
  - {{ name: sdk, per: [user], {limit} }}
keys:
  - {{ id: sdk, hash: \"{KEY_HASH}\", subject: {{ tenant: acme, user: sdk }} }}
",
        limit = mode.limit,
    )
}

fn write(path: &Path, text: &str) -> Outcome {
    let failed = |error: std::io::Error| format!("failed to write {}: {error}", path.display());
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder).map_err(failed)?;
    }
    std::fs::write(path, text).map_err(failed)
}
