//! The tiers of a product through stock SDKs: users whose days end after one call, and what they are told then.

use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use super::{PYTHON, Script, Servers, UPSTREAM_KEY};
use crate::Outcome;
use crate::process;
use crate::workspace::Workspace;

/// A user of each tier: its name, its key, and the hash of that.
const USERS: [(&str, &str, &str); 4] = [
    (
        "free",
        "tallygate-sdk-free",
        "sha256:3ce35452ab06e2e6ec54f8071005c6e20985e2d078829fab7620ec611cae4fb8",
    ),
    (
        "trial",
        "tallygate-sdk-trial",
        "sha256:35eda68ead104f4e48c990523f97968951469bb55831c87a24d681e1637f7314",
    ),
    (
        "pro",
        "tallygate-sdk-pro",
        "sha256:ff4681f561ca7af54c3ec9ab9414bb108e753e534dbf4c5c2eb77532fcb16d18",
    ),
    (
        "claude",
        "tallygate-sdk-claude",
        "sha256:40a10e65d37448dfbbace0a61bf2b3d456b7494dd74494850a58baa71f693ec1",
    ),
];

/// The script of each language.
pub(super) fn scripts(workspace: &Workspace, python: &Path, js: &Path) -> [Script; 2] {
    let script = |name: &str, interpreter: &Path, folder: &Path| Script {
        name: name.to_owned(),
        interpreter: interpreter.to_path_buf(),
        path: folder.join(name),
    };
    [
        script("tiers.py", python, &workspace.root().join(PYTHON)),
        script("tiers.mjs", Path::new("node"), js),
    ]
}

pub(super) fn run(workspace: &Workspace, program: &Path, script: &Script) -> Outcome {
    let servers = Servers::start(workspace, program, "tiers", configuration)?;
    let keys = USERS.map(|(user, key, _)| format!("\"{user}\": \"{key}\""));
    let mut command = servers.client(&script.interpreter, &script.path);
    command.env("TALLYGATE_KEYS", format!("{{{}}}", keys.join(", ")));
    process::run(&mut command)
}

fn configuration(upstream: &str) -> String {
    let keys = USERS.map(|(user, _, hash)| {
        let tier = if user == "claude" { "pro" } else { user };
        format!(
            "  - {{ id: {user}, hash: \"{hash}\", subject: {{ tenant: acme, user: {user}, tier: {tier} }} }}\n"
        )
    });
    format!(
        "listen: 127.0.0.1:0
admin: 127.0.0.1:0
store: memory
upstreams:
  openai: {{ dialect: openai, base_url: \"{upstream}/v1\", api_key: {UPSTREAM_KEY} }}
  anthropic: {{ dialect: anthropic, base_url: \"{upstream}\", api_key: {UPSTREAM_KEY} }}
models:
  gpt-4o: {{ upstream: openai, match: [\"gpt-4o\", \"gpt-4o-2*\"], output_estimate: max_tokens }}
  gpt-4o-mini: {{ upstream: openai, match: [\"gpt-4o-mini*\"], output_estimate: max_tokens }}
  sonnet: {{ upstream: anthropic, match: [\"claude-sonnet-*\"], output_estimate: max_tokens }}
  haiku: {{ upstream: anthropic, match: [claude-haiku-4-5, \"claude-haiku-*\"], output_estimate: max_tokens }}
tiers:
  free: {{ models: [gpt-4o-mini], limits: [{{ name: free-day, per: [user], tokens: 10_000, every: day }}] }}
  trial: {{ models: [gpt-4o-mini], downgrade: [gpt-4o-mini], limits: [{{ name: trial-day, per: [user], tokens: 10_000, every: day }}] }}
  pro: {{ limits: [{{ name: pro-day, per: [user], tokens: 60, every: day, timezone: \"{zone}\" }}], downgrade: [gpt-4o-mini, haiku] }}
keys:
{keys}",
        zone = zone(),
        keys = keys.concat(),
    )
}

/// A time zone in which no day ends soon.
fn zone() -> &'static str {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    let hour = since.map_or(0, |since| since.as_secs() / 3600 % 24);
    match hour {
        6..18 => "UTC",
        _ => "Etc/GMT+12",
    }
}
