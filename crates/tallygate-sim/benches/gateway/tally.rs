//! Our own binary, optimised: the mock provider as the upstream of both proxies, and the gateway.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::Outcome;
use super::proc::Process;

pub(super) struct Programs {
    /// Held for its end only.
    _mock: Process,
    pub(super) upstream: String,
    pub(super) gateway: Process,
    pub(super) address: String,
}

impl Programs {
    pub(super) fn start(folder: &Path) -> Outcome<Self> {
        let program = std::env::var_os("TALLYGATE_BIN")
            .map(PathBuf::from)
            .ok_or("run it as `cargo xtask bench gateway`")?;
        let mut mock = Command::new(&program);
        let (mock, upstream) = Process::start_until(
            mock.args(["mock", "--listen", "127.0.0.1:0"]),
            "mock listening on ",
        )?;
        let config = folder.join("gateway.yaml");
        std::fs::write(&config, configuration(&upstream))?;
        let mut gateway = Command::new(&program);
        gateway
            .args(["serve", "--config"])
            .arg(&config)
            .env("TALLYGATE_LOG", "warn");
        let (gateway, address) = Process::start_until(&mut gateway, "gateway listening on ")?;
        Ok(Self {
            _mock: mock,
            upstream,
            gateway,
            address,
        })
    }
}

/// Three limits that all apply and never deny; a key to tell from others.
fn configuration(upstream: &str) -> String {
    format!(
        "listen: 127.0.0.1:0
admin: 127.0.0.1:0
store: memory
upstreams:
  openai: {{ dialect: openai, base_url: \"{upstream}/v1\", api_key: upstream-key }}
models:
  gpt-4o: {{ upstream: openai, match: [\"gpt-4o\"], output_estimate: 1.2 }}
limits:
  - {{ name: upstream-minute, per: [upstream, model], requests: 1_000_000_000, tokens: 1_000_000_000_000, every: 60s }}
  - {{ name: user-day, per: [user], tokens: 1_000_000_000_000, every: day }}
keys:
  - {{ id: bench, hash: \"{KEY_HASH}\", subject: {{ tenant: acme, user: bench, tier: pro }} }}
"
    )
}

/// The hash of [`super::wrk::KEY`].
const KEY_HASH: &str = "sha256:fe6dd01cb6e3f1b37f52ec2069f290f455fdd7ff139b24f21c1551812069887d";
