//! The tiers of a product through stock SDKs: users whose days end after one call, budgets that end at the micro-dollar, and what
//! they are told then.

use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use super::{PYTHON, Script, Servers, UPSTREAM_KEY};
use crate::Outcome;
use crate::process;
use crate::workspace::Workspace;

/// Somebody with a key and a tier.
struct User {
    name: &'static str,
    tier: &'static str,
    key: &'static str,
    /// The SHA-256 of the key.
    hash: &'static str,
}

const USERS: [User; 6] = [
    User {
        name: "free",
        tier: "free",
        key: "tallygate-sdk-free",
        hash: "3ce35452ab06e2e6ec54f8071005c6e20985e2d078829fab7620ec611cae4fb8",
    },
    User {
        name: "trial",
        tier: "trial",
        key: "tallygate-sdk-trial",
        hash: "35eda68ead104f4e48c990523f97968951469bb55831c87a24d681e1637f7314",
    },
    User {
        name: "pro",
        tier: "pro",
        key: "tallygate-sdk-pro",
        hash: "ff4681f561ca7af54c3ec9ab9414bb108e753e534dbf4c5c2eb77532fcb16d18",
    },
    User {
        name: "claude",
        tier: "pro",
        key: "tallygate-sdk-claude",
        hash: "40a10e65d37448dfbbace0a61bf2b3d456b7494dd74494850a58baa71f693ec1",
    },
    User {
        name: "enterprise",
        tier: "enterprise",
        key: "tallygate-sdk-enterprise",
        hash: "668c7abb4b3fe6f34a64b6fb1063aa4bbc6f314c0d0d031371c3841f2a23b4b2",
    },
    User {
        name: "smaller",
        tier: "smaller",
        key: "tallygate-sdk-smaller",
        hash: "72649a5371945f0ead3f164bbb9039a774ad50cb6aa011c7f5cdbd10a7fc5749",
    },
];

/// Who asks the admin listener what was spent, and the SHA-256 of the key.
const ADMIN: (&str, &str) = (
    "tallygate-sdk-root",
    "d2ceb172a76b4689c2ddd2c680dd980470583f37529974813d70efd78b81db5b",
);

/// Prices of gpt-4o that no number of tokens makes even, in micro-dollars for a million tokens.
const INPUT: u64 = 2_499_999;
const OUTPUT: u64 = 9_999_997;

/// What one of the scripts' priced calls costs, in micro-dollars: 9 tokens in, 25 out, rounded up.
const CALL: u64 = (9 * INPUT + 25 * OUTPUT).div_ceil(1_000_000);

/// The budgets of tiers, in micro-dollars: what three calls cost, and a micro-dollar less.
const BUDGETS: [(&str, u64); 2] = [("enterprise", 3 * CALL), ("smaller", 3 * CALL - 1)];

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
    let keys = USERS.map(|User { name, key, .. }| format!("\"{name}\": \"{key}\""));
    let budgets = BUDGETS.map(|(tier, budget)| format!("\"{tier}\": {budget}"));
    let mut command = servers.client(&script.interpreter, &script.path);
    command
        .env("TALLYGATE_KEYS", format!("{{{}}}", keys.join(", ")))
        .env("TALLYGATE_BUDGETS", format!("{{{}}}", budgets.join(", ")))
        .env(
            "TALLYGATE_PRICE",
            format!("{{\"input\": {INPUT}, \"output\": {OUTPUT}}}"),
        )
        .env("TALLYGATE_ADMIN_URL", &servers.admin)
        .env("TALLYGATE_ADMIN_KEY", ADMIN.0);
    process::run(&mut command)
}

fn configuration(upstream: &str) -> String {
    let keys = USERS.map(|User { name, tier, hash, .. }| {
        format!(
            "  - {{ id: {name}, hash: \"sha256:{hash}\", subject: {{ tenant: acme, user: {name}, tier: {tier} }} }}\n"
        )
    });
    let budgets = BUDGETS.map(|(tier, budget)| {
        format!(
            "  {tier}: {{ limits: [{{ name: {tier}-spend, per: [tenant], cost: {}, every: month, timezone: \"{}\" }}] }}\n",
            dollars(budget),
            zone(),
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
{budgets}prices:
  models:
    gpt-4o: {{ input: {input}, output: {output} }}
    gpt-4o-mini: {{ input: 0.15, output: 0.60 }}
    sonnet: {{ input: 3, output: 15 }}
    haiku: {{ input: 1, output: 5 }}
keys:
  - {{ id: root, hash: \"sha256:{root}\", role: [admin] }}
{keys}",
        zone = zone(),
        budgets = budgets.concat(),
        input = dollars(INPUT),
        output = dollars(OUTPUT),
        root = ADMIN.1,
        keys = keys.concat(),
    )
}

/// Micro-dollars in dollars, as a configuration has them.
fn dollars(micros: u64) -> String {
    format!("{}.{:06}", micros / 1_000_000, micros % 1_000_000)
}

/// A time zone in which no day, and so no month, ends soon.
fn zone() -> &'static str {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    let hour = since.map_or(0, |since| since.as_secs() / 3600 % 24);
    match hour {
        6..18 => "UTC",
        _ => "Etc/GMT+12",
    }
}
