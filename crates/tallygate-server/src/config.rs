//! The configuration: YAML in, an immutable [`Config`] or every mistake of the file out.
//!
//! ```
//! use tallygate_server::Config;
//!
//! let text = "limits: [{ name: all, tokens: 2_000_000, every: 60s }]";
//! let config = Config::parse(text, "tallygate.yaml", &|_| None).expect("a good file");
//! assert_eq!(config.policy().limits().count(), 1);
//!
//! let errors = Config::parse("limitz: []", "tallygate.yaml", &|_| None).unwrap_err();
//! assert_eq!(errors.problems()[0].mending(), Some("did you mean `limits`?"));
//! ```

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tallygate_core::{AS_ASKED, DOWNGRADED, Metric, Metrics, Mode, Policy, Rule};
use tallygate_store::Durability;
use tallygate_tokens::{Dialect, Endpoint};

use crate::identify::{Identity, Keyring};

mod alerts;
mod amount;
mod asked;
mod bounds;
mod check;
mod fields;
mod keys;
mod ladder;
mod ledger;
mod limits;
mod listeners;
mod masking;
mod models;
mod prices;
mod problem;
mod read;
mod routes;
mod secret;
mod serving;
mod shape;
mod store;
mod tiers;
mod tree;
mod unread;
mod upstream;
mod webhooks;
mod window;

pub(crate) use alerts::{Alert, Alerts};
pub use amount::{Refusal, amount as read_amount, micro_dollars as read_dollars};
pub use bounds::{Bounds, Overrun, Revoked, Waiting};
pub(crate) use keys::{SERVER_LABELS, tierless};
pub use ledger::Ledger;
pub(crate) use listeners::guard;
pub use listeners::{Exposed, Unreloadable};
pub use prices::{PriceOrigin, Priced, Prices};
pub use problem::{CheckReport, ConfigErrors, Kind, Problem, Severity};
pub use routes::{NoRoute, Route, Rung};
pub use secret::Secret;
pub use serving::{DearerLength, Serving, ServingPrice, ServingStep};
pub use store::StoreChoice;
pub use tiers::Forbidden;
pub(crate) use unread::UNREAD_ENDPOINT;
pub use unread::{Passthrough, Unread, UnsizedCalls};
pub use upstream::Upstream;
pub use webhooks::Webhook;

/// Which models a call was served by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Went {
    /// By the one asked for, or the best its tier has instead.
    AsAsked,
    /// By one below a quota that is used up.
    Down,
}

/// A checked configuration. It never changes; a reload makes another one.
#[derive(Debug)]
pub struct Config {
    listen: SocketAddr,
    admin: Option<SocketAddr>,
    store: StoreChoice,
    data: Option<PathBuf>,
    rules: Vec<Rule>,
    durability: Durability,
    policy: Arc<Policy>,
    keyring: Keyring,
    key_ids: BTreeSet<String>,
    budgets: unread::Budgets,
    routes: routes::Routes,
    tiers: tiers::Tiers,
    prices: Prices,
    bounds: Bounds,
    waiting: Waiting,
    ledger: Ledger,
    alerts: Arc<Alerts>,
    webhooks: Vec<Arc<Webhook>>,
    warnings: ConfigErrors,
}

impl Config {
    /// Reads the YAML `text` of a file called `name`, with `${VAR}` looked up by `env`.
    ///
    /// # Errors
    /// All mistakes of the file at once, each with its place and, where it is known, its mend.
    pub fn parse(
        text: &str,
        name: &str,
        env: &dyn Fn(&str) -> Option<String>,
    ) -> Result<Self, ConfigErrors> {
        read::config(text, name, env)
    }

    /// What the file's author should know although the file can be used.
    #[must_use]
    pub fn warnings(&self) -> &ConfigErrors {
        &self.warnings
    }

    /// `listen`: where the gateway and the decision API listen. Default `127.0.0.1:8787`.
    #[must_use]
    pub fn listen(&self) -> SocketAddr {
        self.listen
    }

    /// `admin`: where the admin listener listens; `none` turns it off. Default `127.0.0.1:8788`.
    #[must_use]
    pub fn admin(&self) -> Option<SocketAddr> {
        self.admin
    }

    /// `store`: where counters live. Default memory.
    #[must_use]
    pub fn store(&self) -> &StoreChoice {
        &self.store
    }

    /// `data`: the folder for what has to be kept while the store is away.
    #[must_use]
    pub fn data(&self) -> Option<&Path> {
        self.data.as_deref()
    }

    /// `durability`: what of counters in a folder a crash may cost. Default relaxed.
    #[must_use]
    pub fn durability(&self) -> Durability {
        self.durability
    }

    /// All limits, those of tiers included.
    #[must_use]
    pub fn policy(&self) -> &Arc<Policy> {
        &self.policy
    }

    /// All limits as rules, of which the policy is made.
    #[must_use]
    pub fn rules(&self) -> &[Rule] {
        &self.rules
    }

    /// The built-in metrics and those of `metrics:`.
    #[must_use]
    pub fn metrics(&self) -> &Metrics {
        self.policy.metrics()
    }

    /// `keys` and `identify`.
    #[must_use]
    pub fn keyring(&self) -> &Keyring {
        &self.keyring
    }

    /// Whether the file has a key of this id.
    #[must_use]
    pub fn has_key(&self, id: &str) -> bool {
        self.key_ids.contains(id)
    }

    /// The ids of the file's keys.
    pub fn key_ids(&self) -> impl Iterator<Item = &str> {
        self.key_ids.iter().map(String::as_str)
    }

    /// The names of the tiers.
    pub fn tier_names(&self) -> impl Iterator<Item = &str> {
        self.tiers.names()
    }

    /// Whether there is a tier of this name, or none at all.
    #[must_use]
    pub fn may_be_tier(&self, name: &str) -> bool {
        self.tiers.is_empty() || self.tiers.has(name)
    }

    /// `prices`.
    #[must_use]
    pub fn prices(&self) -> &Prices {
        &self.prices
    }

    /// Whether money is counted for a subject: a limit of the metric `cost` that denies applies to it.
    #[must_use]
    pub fn counts_cost(&self, subject: &[(&str, &str)]) -> bool {
        self.policy
            .limits_of(subject)
            .any(|limit| limit.metric == Metric::COST && limit.mode == Mode::Enforce)
    }

    /// `bounds`.
    #[must_use]
    pub fn bounds(&self) -> &Bounds {
        &self.bounds
    }

    /// `waiting`.
    #[must_use]
    pub fn waiting(&self) -> Waiting {
        self.waiting
    }

    /// `ledger`.
    #[must_use]
    pub fn ledger(&self) -> Ledger {
        self.ledger
    }

    /// The limits that something is told of.
    pub(crate) fn alerts(&self) -> &Arc<Alerts> {
        &self.alerts
    }

    /// `webhooks`: who is told.
    #[must_use]
    pub fn webhooks(&self) -> &[Arc<Webhook>] {
        &self.webhooks
    }

    /// Where a call to `endpoint` for the model `asked` goes: the most specific match of `models` (exact, then the pattern with
    /// the most literal characters, then the file's order) whose upstream speaks the endpoint's dialect; where no entry matches,
    /// the first upstream that does.
    ///
    /// # Errors
    /// When no upstream speaks the dialect, or the model is served in another one only.
    pub fn route<'a>(&'a self, endpoint: Endpoint, asked: &'a str) -> Result<Route<'a>, NoRoute> {
        self.routes.route(endpoint, asked)
    }

    /// The first upstream of a dialect: where paths without sizes of their own pass through to.
    #[must_use]
    pub fn upstream_for(&self, dialect: Dialect) -> Option<&Arc<Upstream>> {
        self.routes.upstream_for(dialect)
    }

    /// All upstreams, in the order of the file.
    #[must_use]
    pub fn upstreams(&self) -> &[Arc<Upstream>] {
        self.routes.upstreams()
    }

    /// The names of `models`, which are values of the label `model`.
    pub fn model_names(&self) -> impl Iterator<Item = &str> {
        self.routes.model_names().into_iter()
    }

    /// What `asked` counts as (the value of the label `model`), and its upstream where `models` names one. For the decision API,
    /// whose callers speak no dialect.
    #[must_use]
    pub fn model_label<'a>(&'a self, asked: &'a str) -> (&'a str, Option<&'a Arc<Upstream>>) {
        self.routes.label_of(asked)
    }

    /// Whether a caller's tier has a model, given by its label as in [`Route::model`].
    ///
    /// # Errors
    /// When the tier lacks the model, or the caller's tier is not one of the configured.
    pub fn permits(&self, identity: &Identity, model: &str) -> Result<(), Forbidden> {
        self.permits_tier(identity.label("tier"), model)
    }

    /// As [`Self::permits`], for a subject that is only named: the decision API's.
    ///
    /// # Errors
    /// As [`Self::permits`].
    pub fn permits_tier(&self, tier: Option<&str>, model: &str) -> Result<(), Forbidden> {
        self.tiers.permit(tier, model)
    }

    /// Whether any tier has a ladder. Every call has the label `downgraded` then.
    #[must_use]
    pub fn has_ladders(&self) -> bool {
        self.tiers.have_ladders()
    }

    /// The ladder of `tier` below `model` (a label, as in [`Route::model`]), the best rung first: from the model's own rung on if
    /// it is on the ladder, else all of it. Nothing where the tier has no ladder.
    #[must_use]
    pub fn ladder(&self, tier: Option<&str>, model: &str) -> Vec<Rung<'_>> {
        let rungs: Vec<Rung<'_>> = self.routes.rungs(self.tiers.ladder(tier)).collect();
        let own = rungs.iter().position(|rung| rung.route.model == model);
        rungs.into_iter().skip(own.unwrap_or(0)).collect()
    }

    /// Whether a limit of the calls of `tier` counts those below a quota otherwise than those as asked.
    pub(crate) fn tells_downgraded(&self, tier: Option<&str>) -> bool {
        self.tiers.tells(tier)
    }

    /// The label `downgraded` of a call, where a configuration has a ladder.
    #[must_use]
    pub fn downgraded(&self, went: Went) -> Option<(&'static str, &'static str)> {
        let label = match went {
            Went::AsAsked => AS_ASKED,
            Went::Down => (DOWNGRADED, ladder::WENT_DOWN),
        };
        self.has_ladders().then_some(label)
    }

    /// Whether the data listener may be open at `addr`: without keys only to this machine.
    ///
    /// # Errors
    /// When there are no keys and `addr` is not a loopback address.
    pub fn may_listen_on(&self, addr: SocketAddr) -> Result<(), Exposed> {
        listeners::guard(addr, &self.keyring)
    }

    /// What of `next` a running server cannot take over.
    ///
    /// # Errors
    /// The first setting that needs a restart.
    pub fn reloadable(&self, next: &Self) -> Result<(), Unreloadable> {
        listeners::compare(self, next)
    }
}

/// Reads arbitrary bytes as a configuration; panics are what a fuzzer looks for.
#[doc(hidden)]
pub fn fuzz(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let env = |name: &str| (name.len() < 4).then(|| "value".to_owned());
    match Config::parse(&text, "fuzz.yaml", &env) {
        Ok(config) => drop(config.warnings().render()),
        Err(errors) => {
            let shown = errors.render();
            assert!(
                !errors.problems().is_empty() && !shown.is_empty(),
                "an error says something"
            );
        }
    }
}
