//! The SDK step: stock SDKs talk to a real `tallygate serve` in front of a real `tallygate mock`.
//!
//! What a script gets in its environment and when it fails is in tests/sdk/README.md.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::process::{self, Server};
use crate::workspace::Workspace;
use crate::{Outcome, provision};

mod tiers;

pub(crate) const PYTHON_REQUIREMENTS: &str = "tests/sdk/python/requirements.txt";
pub(crate) const JS: &str = "tests/sdk/js";
const PYTHON: &str = "tests/sdk/python";

const KEY: &str = "tallygate-sdk-check";
const UPSTREAM_KEY: &str = "upstream-key";
const KEY_HASH: &str = "sha256:7c5ffdcbed319998004d09f2d8e953d84f4c839cc05c0cda6076dd5668919bf4";

/// What a script meets: who denies its calls, and by which limit of the gateway.
struct Mode {
    name: &'static str,
    denial: &'static str,
    limit: &'static str,
}

const PLENTY: &str = "requests: 10_000, every: 60s";

const MODES: &[Mode] = &[
    // Every call passes unchanged.
    Mode {
        name: "pass",
        denial: "limit",
        limit: PLENTY,
    },
    // The second of two calls is denied for up to 2.5 s (a cold start takes a good part), which the SDK keeps before it succeeds.
    Mode {
        name: "short-denial",
        denial: "limit",
        limit: "requests: 24, every: 60s, burst: 1",
    },
    // The second of two calls is denied for a day, and the SDK does not try again.
    Mode {
        name: "long-denial",
        denial: "limit",
        limit: "requests: 1, every: 24h",
    },
    // The provider denies: its words pass through the gateway.
    Mode {
        name: "short-denial",
        denial: "switch",
        limit: PLENTY,
    },
    Mode {
        name: "long-denial",
        denial: "switch",
        limit: PLENTY,
    },
];

/// A script and the command that runs it.
struct Script {
    name: String,
    interpreter: PathBuf,
    path: PathBuf,
}

pub(crate) fn run(workspace: &Workspace) -> Outcome {
    let python = provision::python(workspace, "python", &[PYTHON_REQUIREMENTS])?;
    let mut scripts = scripts(&workspace.root().join(PYTHON), "py", &python)?;
    let js = provision::node(workspace, JS)?;
    scripts.extend(self::scripts(&js, "mjs", Path::new("node"))?);
    if scripts.is_empty() {
        return Err(format!("no script in {PYTHON} or {JS}"));
    }
    let program = super::program(workspace)?;
    let runs = scripts
        .iter()
        .flat_map(|script| MODES.iter().map(move |mode| (script, mode)));
    let (mut passed, mut failed) = (0, Vec::new());
    for (script, mode) in runs {
        println!("{}: {}, denied by {}", script.name, mode.name, mode.denial);
        match run_script(workspace, &program, script, mode) {
            Ok(()) => passed += 1,
            Err(failure) => {
                failed.push(format!("{} in mode {}: {failure}", script.name, mode.name))
            }
        }
    }
    for script in tiers::scripts(workspace, &python, &js) {
        println!("{}", script.name);
        match tiers::run(workspace, &program, &script) {
            Ok(()) => passed += 1,
            Err(failure) => failed.push(format!("{}: {failure}", script.name)),
        }
    }
    println!("{passed} passed, {} failed", failed.len());
    if failed.is_empty() {
        Ok(())
    } else {
        Err(failed.join("; "))
    }
}

/// The scripts of a folder in the order of their names; other files are what they share.
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
        if name.ends_with(&format!("_checks.{ending}")) {
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

fn run_script(workspace: &Workspace, program: &Path, script: &Script, mode: &Mode) -> Outcome {
    let servers = Servers::start(workspace, program, mode.name, |upstream| {
        configuration(upstream, mode)
    })?;
    let mut command = servers.client(&script.interpreter, &script.path);
    command.envs([
        ("TALLYGATE_KEY", KEY),
        ("TALLYGATE_REFERENCE_URL", &servers.upstream),
        ("TALLYGATE_REFERENCE_KEY", UPSTREAM_KEY),
        ("TALLYGATE_DENIAL", mode.denial),
        ("MODE", mode.name),
        // Two cores, an SDK, a gateway and a mock: a retry may be late, never early.
        ("TALLYGATE_SLACK_MS", "15000"),
    ]);
    process::run(&mut command)
}

/// A mock and a gateway in front of it. Each run has its own, so that no counter is left over from another.
struct Servers {
    upstream: String,
    address: String,
    admin: String,
    _mock: Server,
    _gateway: Server,
}

impl Servers {
    fn start(
        workspace: &Workspace,
        program: &Path,
        name: &str,
        configuration: impl FnOnce(&str) -> String,
    ) -> Outcome<Self> {
        let mut mock =
            Server::start(Command::new(program).args(["mock", "--listen", "127.0.0.1:0"]))?;
        let upstream = mock.wait_for("mock listening on ")?;
        let config = workspace.cache("sdk").join(format!("{name}.yaml"));
        write(&config, &configuration(&upstream))?;
        let mut gateway = Command::new(program);
        gateway
            .arg("serve")
            .arg("--config")
            .arg(&config)
            .env("TALLYGATE_LOG", "warn");
        let mut gateway = Server::start(&mut gateway)?;
        Ok(Self {
            upstream,
            address: gateway.wait_for("gateway listening on ")?,
            admin: gateway.wait_for("admin listening on ")?,
            _mock: mock,
            _gateway: gateway,
        })
    }

    /// A script that talks to the gateway.
    fn client(&self, interpreter: &Path, script: &Path) -> Command {
        let mut command = Command::new(interpreter);
        command.arg(script).envs([
            ("TALLYGATE_BASE_URL", self.address.as_str()),
            // A proxy of the surroundings has no business between the SDK and loopback.
            ("NO_PROXY", "127.0.0.1"),
            ("no_proxy", "127.0.0.1"),
        ]);
        command
    }
}

fn configuration(upstream: &str, mode: &Mode) -> String {
    format!(
        "listen: 127.0.0.1:0
admin: 127.0.0.1:0
store: memory
upstreams:
  openai: {{ dialect: openai, base_url: \"{upstream}/v1\", api_key: {UPSTREAM_KEY} }}
  anthropic: {{ dialect: anthropic, base_url: \"{upstream}\", api_key: {UPSTREAM_KEY} }}
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
