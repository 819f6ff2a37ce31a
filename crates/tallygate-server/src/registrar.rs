//! What is in force: the configuration, with the keys and overrides that administrators made while servers run.
//!
//! All of it is put in force in one place and under one lock, whether a file changed, a registry, or the time of an override is
//! over. So a changed configuration keeps the overrides, and an override is of the configuration that is in force.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tallygate_core::Policy;
use tallygate_store::StoreError;
use tallygate_store::registry::{
    AuditEntry, AuditPage, Author, Change, ChangeError, Lasting, Override, Records, Registry,
    RegistryError,
};
use tokio::time::sleep;

use crate::admin::Readiness;
use crate::config::{Config, Unreloadable};
use crate::pipeline::{Pipeline, Setup};
use crate::server::ReloadError;

mod asking;
mod keys;
mod left;
mod overriding;

pub(crate) use asking::{Asking, Intent, Reread, Trial};
pub(crate) use keys::keyring;
pub(crate) use overriding::{Unfit, overridden};

/// How long a registry that did not answer is left alone.
const AGAIN: Duration = Duration::from_millis(500);

/// Keeps configuration and records in force.
pub(crate) struct Registrar {
    registry: Arc<dyn Registry>,
    pipeline: Arc<Pipeline>,
    readiness: Readiness,
    in_force: Mutex<InForce>,
    asking: Asking,
}

struct InForce {
    records: Arc<Records>,
    policy: Arc<Policy>,
    /// The overrides that the policy in force was made with.
    overrides: Vec<Override>,
}

impl Registrar {
    /// Takes over `records` of `registry`, in which the keys are that `pipeline` was set up with. Their overrides are not in
    /// force yet.
    pub(crate) fn new(
        registry: Arc<dyn Registry>,
        records: Arc<Records>,
        pipeline: Arc<Pipeline>,
        readiness: Readiness,
    ) -> Self {
        let in_force = InForce {
            records,
            policy: Arc::clone(pipeline.setup().config().policy()),
            overrides: Vec::new(),
        };
        Self {
            registry,
            pipeline,
            readiness,
            in_force: Mutex::new(in_force),
            asking: Asking::default(),
        }
    }

    /// The records as they are known here.
    pub(crate) fn records(&self) -> Arc<Records> {
        Arc::clone(&self.in_force.lock().records)
    }

    /// The overrides that are in force.
    pub(crate) fn overrides(&self) -> Vec<Override> {
        self.in_force.lock().overrides.clone()
    }

    /// The limits in force.
    pub(crate) fn policy(&self) -> Arc<Policy> {
        Arc::clone(&self.in_force.lock().policy)
    }

    /// Who is asked to read the configuration anew, and by whom.
    pub(crate) fn asking(&self) -> &Asking {
        &self.asking
    }

    /// Whether a record outlives this process.
    pub(crate) fn lasts(&self) -> Lasting {
        self.registry.lasts()
    }

    /// Puts another configuration in force, whole or not at all. Returns what became of keys that its author should know.
    ///
    /// # Errors
    /// When it needs a restart, or the store does not take the limits over.
    pub(crate) fn reload(&self, config: Config) -> Result<Vec<String>, ReloadError> {
        let mut in_force = self.in_force.lock();
        let before = self.pipeline.setup();
        check_reload(before.config(), &config, &in_force.records)?;
        let config = Arc::new(config);
        self.limit(&config, &mut in_force, Because::Configuration)?;
        self.let_in(Arc::clone(&config), &in_force.records);
        let now = self.pipeline.stamp();
        let mut told = left::keys(&config, &in_force.records, now);
        let keepers = [before, self.pipeline.setup()].map(|setup| setup.keyring().keeper(now));
        told.extend(left::keeper(keepers));
        Ok(told)
    }

    /// What putting another configuration in force would come to. Nothing changes.
    ///
    /// # Errors
    /// When it needs a restart.
    pub(crate) fn trial(&self, config: &Config) -> Result<Trial, ReloadError> {
        let in_force = self.in_force.lock();
        let before = self.pipeline.setup();
        check_reload(before.config(), config, &in_force.records)?;
        let now = self.pipeline.stamp();
        let mut trial = left::limits(before.config().rules(), config.rules());
        trial.warnings = left::keys(config, &in_force.records, now);
        let then = keyring(config, in_force.records.keys()).keeper(now);
        trial
            .warnings
            .extend(left::keeper([before.keyring().keeper(now), then]));
        Ok(trial)
    }

    /// Makes a change, and puts it in force here before it returns.
    ///
    /// # Errors
    /// When it is not possible or cannot be kept.
    pub(crate) async fn change(&self, change: Change, author: &Author) -> Result<(), ChangeError> {
        let records = self.registry.change(change, author).await?;
        // Two changes may be told of in the other order.
        self.take_over(records, |before, after| after.version() > before.version());
        Ok(())
    }

    /// A page of the audit log.
    ///
    /// # Errors
    /// When it cannot be read.
    pub(crate) async fn audit(&self, page: AuditPage) -> Result<Vec<AuditEntry>, RegistryError> {
        self.registry.audit(page).await
    }

    /// Puts in force what is changed elsewhere, and ends overrides when their time is over; until dropped.
    pub(crate) async fn follow(&self) {
        loop {
            let seen = self.records().version();
            tokio::select! {
                () = self.registry.changed(seen) => self.look().await,
                () = self.next_end() => self.refresh(),
            }
        }
    }

    async fn look(&self) {
        let seen = self.records();
        match self.registry.load().await {
            // What was put in force meanwhile may be later than what was read: it is looked at again unless it is the same. Records
            // that are older all the same are those of a registry that was emptied or set back.
            Ok(records) => self.take_over(records, |before, _| Arc::ptr_eq(before, &seen)),
            Err(error) => {
                self.pipeline.observer().registry_failed(&error);
                sleep(AGAIN).await;
            }
        }
    }

    /// Puts `records` in force if they are to follow those that are.
    fn take_over(
        &self,
        records: Arc<Records>,
        follow: impl FnOnce(&Arc<Records>, &Arc<Records>) -> bool,
    ) {
        let mut in_force = self.in_force.lock();
        if !follow(&in_force.records, &records) {
            return;
        }
        in_force.records = records;
        let config = Arc::clone(self.pipeline.setup().config());
        self.let_in(Arc::clone(&config), &in_force.records);
        self.try_limit(&config, &mut in_force);
    }

    /// Looks again at which overrides are in force now.
    pub(crate) fn refresh(&self) {
        let mut in_force = self.in_force.lock();
        let config = Arc::clone(self.pipeline.setup().config());
        self.try_limit(&config, &mut in_force);
    }

    fn try_limit(&self, config: &Arc<Config>, in_force: &mut InForce) {
        if let Err(error) = self.limit(config, in_force, Because::Records) {
            self.pipeline.observer().override_failed(&error);
        }
    }

    /// Ends when the first override in force ends.
    async fn next_end(&self) {
        let first = {
            let in_force = self.in_force.lock();
            in_force.overrides.iter().map(|set| set.until).min()
        };
        match first {
            Some(end) => sleep(end.since(self.pipeline.stamp()) + TICK).await,
            None => std::future::pending().await,
        }
    }

    fn let_in(&self, config: Arc<Config>, records: &Records) {
        let before = self.pipeline.setup();
        let doubled = records.keys().filter(|key| config.has_key(&key.id));
        self.pipeline.observer().doubled_keys(doubled.count());
        let keyring = keyring(&config, records.keys());
        // Who was closed stays so, though a registry be emptied: otherwise that would let everybody in.
        let keyring = match before.keyring().is_open() {
            true => keyring,
            false => keyring.closed(),
        };
        self.pipeline
            .replace(Setup::new(config, keyring, Some(&before)));
    }

    fn limit(
        &self,
        config: &Arc<Config>,
        in_force: &mut InForce,
        because: Because,
    ) -> Result<(), StoreError> {
        let now = self.pipeline.stamp();
        let live = in_force.records.overrides().filter(|set| set.until > now);
        let (policy, applied) = overriding::policy(config, live);
        if because == Because::Records && applied == in_force.overrides {
            return Ok(());
        }
        self.pipeline.store().replace_policy(Arc::clone(&policy))?;
        self.readiness.follow(&policy);
        in_force.policy = policy;
        in_force.overrides = applied;
        Ok(())
    }
}

/// Whether `next` may follow `before` without a restart.
fn check_reload(before: &Config, next: &Config, records: &Records) -> Result<(), ReloadError> {
    match before.reloadable(next) {
        // The keys of the registry are left.
        Err(Unreloadable::Keys) if records.keys().next().is_some() => Ok(()),
        other => Ok(other?),
    }
}

/// Timers are told lengths in whole milliseconds, rounded down on the way here.
const TICK: Duration = Duration::from_millis(1);

/// Why the limits are looked at.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Because {
    /// They may all be others.
    Configuration,
    /// Only overrides may be.
    Records,
}
