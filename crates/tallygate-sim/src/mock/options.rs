//! How a mock is set up.

use std::time::Duration;

use super::switches::Switches;
use crate::clock::Clock;
use crate::limit::MockLimit;
use crate::rng::Sizes;

/// How the provider behaves. The default has no limits, accepts any key, fails nothing and answers at
/// once with lognormal lengths.
#[derive(Debug, Clone)]
pub struct MockOptions {
    /// Answers follow from this and the prompt alone.
    pub seed: u64,
    /// The provider's limits; each counts each API key and model apart, and a call must fit all.
    pub limits: Vec<MockLimit>,
    /// Windows whose worst use the books report, beside those of the limits. Default: 60 s.
    pub watch: Vec<Duration>,
    /// Lengths of answers that no switch sets, before `max_tokens` caps them.
    pub output: Sizes,
    /// Switches for every call.
    pub switches: Switches,
    /// Switches for a share of the calls, the first that hits; a call's own headers win over them,
    /// they win over [`MockOptions::switches`].
    pub chances: Vec<Chance>,
    /// The keys that are known.
    pub keys: Keys,
    /// What `/v1/models` lists. Calls may name any model.
    pub models: Vec<String>,
    /// The clock of limits and books. Delays always run by the machine's clock.
    pub clock: Clock,
    /// Largest request body in bytes; a larger one is answered 413. Default 64 MiB.
    pub max_body: usize,
    /// Most connections at once; one more waits to be accepted. Default 16,384.
    pub max_connections: usize,
    /// Most accounts (key and model) in the books; calls of one more are answered 503. Default 65,536.
    pub max_accounts: usize,
    /// How long a stall lasts before the connection closes. Default 60 s.
    pub max_stall: Duration,
    /// How many of the latest requests [`Mock::received`](super::Mock::received) keeps. Default 0.
    pub keep_received: usize,
    /// How many of the first admitted calls [`Mock::calls`](super::Mock::calls) keeps. Default 0.
    pub keep_calls: usize,
}

/// Switches that hit a share of the calls.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chance {
    /// How many of 1,000 calls are hit, drawn from the mock's seed in the order of arrival.
    pub per_mille: u32,
    /// What hits them.
    pub switches: Switches,
}

/// Which API keys are known; others are answered 401.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Keys {
    /// Any key that is not empty.
    #[default]
    Any,
    /// These keys.
    Only(Vec<String>),
}

impl Keys {
    /// Whether `key` is known.
    pub fn knows(&self, key: &str) -> bool {
        match self {
            Self::Any => !key.is_empty(),
            Self::Only(keys) => keys.iter().any(|known| known == key),
        }
    }
}

impl Default for MockOptions {
    fn default() -> Self {
        let models = [
            "gpt-4o",
            "gpt-4o-mini",
            "text-embedding-3-small",
            "claude-sonnet-4-6",
            "gemini-2.5-flash",
        ];
        Self {
            seed: 0,
            limits: Vec::new(),
            watch: vec![Duration::from_secs(60)],
            output: Sizes::default(),
            switches: Switches::default(),
            chances: Vec::new(),
            keys: Keys::default(),
            models: models.map(str::to_owned).to_vec(),
            clock: Clock::machine(),
            max_body: 64 << 20,
            max_connections: 16_384,
            max_accounts: 65_536,
            max_stall: Duration::from_secs(60),
            keep_received: 0,
            keep_calls: 0,
        }
    }
}
