//! Who plays in the demo: three users of three tiers, and the configuration that holds them.

use std::net::SocketAddr;
use std::time::Duration;

use tallygate_server::identify::{self, KeyHash};
use tallygate_sim::mock::{MockOptions, Switches};
use tallygate_tokens::Endpoint;

use crate::exit::{Exit, Failure};
use crate::settings::Settings;

/// One user, with a tier and a model of its own: the provider's books tell users apart by the model.
pub(super) struct User {
    pub(super) name: &'static str,
    pub(super) tenant: &'static str,
    pub(super) tier: &'static str,
    pub(super) model: &'static str,
    pub(super) upstream: &'static str,
    pub(super) endpoint: Endpoint,
    /// Tokens in any [`WINDOW`].
    pub(super) tokens: u64,
    pub(super) workers: usize,
    pub(super) manner: Manner,
    /// Sizes of prompts and the `max_tokens` asked for.
    pub(super) prompt: u64,
    pub(super) answer: u64,
}

/// How a user calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Manner {
    /// Will not stand in line.
    Impatient,
    /// Stands in line for as long as the configuration allows.
    Patient,
    /// The same, with streamed answers.
    Streaming,
}

pub(super) const USERS: [User; 3] = [
    User {
        name: "alice",
        tenant: "shop",
        tier: "free",
        model: "gpt-4o-mini",
        upstream: "openai",
        endpoint: Endpoint::ChatCompletions,
        tokens: 1_500,
        workers: 2,
        manner: Manner::Impatient,
        prompt: 60,
        answer: 60,
    },
    User {
        name: "bob",
        tenant: "shop",
        tier: "pro",
        model: "gpt-4o",
        upstream: "openai",
        endpoint: Endpoint::ChatCompletions,
        tokens: 9_000,
        workers: 4,
        manner: Manner::Patient,
        prompt: 250,
        answer: 150,
    },
    User {
        name: "carol",
        tenant: "acme",
        tier: "enterprise",
        model: "claude-sonnet-4-5",
        upstream: "anthropic",
        endpoint: Endpoint::Messages,
        tokens: 30_000,
        workers: 6,
        manner: Manner::Streaming,
        prompt: 400,
        answer: 200,
    },
];

/// The window of the users' limits.
pub(super) const WINDOW: Duration = Duration::from_secs(10);

/// The spans that the provider's books are searched for too much use. Shorter than the window by what a call may take from its
/// admission to the provider: two calls a window apart here may arrive closer together there.
pub(super) const SEARCHED: Duration = Duration::from_millis(9_500);

/// The configuration in force and a key for each user.
pub(super) struct Stage {
    pub(super) settings: Settings,
    pub(super) keys: [String; 3],
}

impl Stage {
    /// A stage in front of the provider at `provider`, listening on `listen`.
    pub(super) fn new(provider: SocketAddr, listen: SocketAddr) -> Result<Self, Failure> {
        let key = |_| identify::generate();
        let keys = [key(0), key(1), key(2)].map(|key| {
            key.map_err(|error| {
                Failure::new(
                    Exit::Failed,
                    format!("no random bits from the system: {error}"),
                )
            })
        });
        let [alice, bob, carol] = keys;
        let keys = [alice?, bob?, carol?];
        let tiers: String = USERS.iter().map(tier).collect();
        let callers: String = USERS
            .iter()
            .zip(&keys)
            .map(|(user, key)| caller(user, key))
            .collect();
        let text = format!(
            "listen: {listen}
admin: 127.0.0.1:0
store: memory
upstreams:
  openai: {{ dialect: openai, base_url: \"http://{provider}/v1\", api_key: provider-key }}
  anthropic: {{ dialect: anthropic, base_url: \"http://{provider}\", api_key: provider-key }}
limits:
  - {{ name: account, per: [upstream, model], requests: 3_000, tokens: 600_000, every: 60s }}
  - {{ name: streams, per: [tenant], concurrency: 5 }}
tiers:
{tiers}keys:
{callers}waiting: {{ max_wait: 5s }}
"
        );
        let settings = Settings {
            name: "the demo's configuration".to_owned(),
            text,
        };
        Ok(Self { settings, keys })
    }
}

/// A strict bucket: smooth to watch, and never more than the amount in any window.
fn tier(user: &User) -> String {
    let User { tier, tokens, .. } = user;
    let (every, burst) = (WINDOW.as_secs(), tokens / 3);
    format!(
        "  {tier}: {{ limits: [{{ name: {tier}, per: [user], tokens: {tokens}, every: {every}s, strict: true, burst: {burst} }}] }}\n"
    )
}

fn caller(user: &User, key: &str) -> String {
    let User {
        name, tenant, tier, ..
    } = user;
    let hash = KeyHash::of(key.as_bytes());
    format!(
        "  - {{ id: {name}, hash: \"{hash}\", subject: {{ tenant: {tenant}, user: {name}, tier: {tier} }}, role: [call, decide] }}\n"
    )
}

/// A provider that takes its time, and watches what each model really uses.
pub(super) fn provider(seed: u64) -> MockOptions {
    MockOptions {
        seed,
        watch: vec![SEARCHED],
        switches: Switches {
            first_token: Some(Duration::from_millis(120)),
            per_token: Some(Duration::from_millis(2)),
            ..Switches::default()
        },
        ..MockOptions::default()
    }
}
