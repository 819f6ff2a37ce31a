//! A configuration and what is built from it to serve requests.

use std::sync::Arc;

use tallygate_tokens::Dialect;

use crate::config::{Config, Upstream};
use crate::gateway::Provider;
use crate::identify::Keyring;

/// A configuration in force, with all keys and with the connections to its upstreams.
pub(crate) struct Setup {
    config: Arc<Config>,
    keyring: Keyring,
    providers: Vec<Arc<Provider>>,
}

impl Setup {
    /// Makes `config` ready for use, with the keys of `keyring`. Connections to upstreams that `before` had alike are kept.
    pub(crate) fn new(config: Arc<Config>, keyring: Keyring, before: Option<&Self>) -> Self {
        let providers = config
            .upstreams()
            .iter()
            .map(|upstream| provider(upstream, &config, before))
            .collect();
        Self {
            config,
            keyring,
            providers,
        }
    }

    /// The configuration.
    pub(crate) fn config(&self) -> &Arc<Config> {
        &self.config
    }

    /// All keys that are known: those of the configuration and those made while servers run.
    pub(crate) fn keyring(&self) -> &Keyring {
        &self.keyring
    }

    /// The way to one of the configuration's upstreams.
    pub(crate) fn provider(&self, upstream: &Upstream) -> Option<&Arc<Provider>> {
        self.providers
            .iter()
            .find(|provider| provider.upstream().name() == upstream.name())
    }

    /// Where paths of a dialect go that have no size of their own.
    pub(crate) fn passing(&self, dialect: Dialect) -> Option<&Arc<Provider>> {
        self.provider(self.config.upstream_for(dialect)?)
    }
}

fn provider(upstream: &Arc<Upstream>, config: &Config, before: Option<&Setup>) -> Arc<Provider> {
    let connect_time = config.bounds().connect_time;
    let kept = before
        .and_then(|setup| setup.provider(upstream))
        .filter(|kept| kept.leads_to(upstream, connect_time));
    match kept {
        Some(kept) => Arc::clone(kept),
        None => Arc::new(Provider::new(Arc::clone(upstream), connect_time)),
    }
}
