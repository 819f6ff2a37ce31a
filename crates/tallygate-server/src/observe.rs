//! What the server tells about itself: Prometheus metrics and logs, both in this one place.
//!
//! Neither ever holds a text of a prompt or answer, a key, a key's id or a user. Labels are bounded: limits, metrics and
//! upstreams are those of the configuration, models are the configured ones and up to [`MAX_MODELS`] that an upstream answered
//! for; any other name counts as `other`.

use std::net::IpAddr;
use std::time::Duration;

use prometheus_client::encoding::text::encode;
use prometheus_client::registry::Registry;
use tallygate_core::{Admission, Amounts, Receipt, Replay, ReservationId, Standing};
use tallygate_store::registry::RegistryError;
use tallygate_store::{LeaseStats, OutageStats, SettleError, StoreError, StoreHealth, StoreStats};
use tallygate_tokens::{Endpoint, EstimateMethod, Method, Usage};

use crate::config::{Config, ConfigErrors, Unreloadable};
use crate::events::HookTold;
use crate::wire::ApiError;

mod amounts;
mod labels;
mod leases;
mod ledger;
mod limiter;
mod names;
mod outage;
mod own;
mod telling;
mod upstream;

use labels::{AnswerLabels, EstimateLabels, Named, TokenLabels};
use leases::LeaseMetrics;
use ledger::LedgerMetrics;
use limiter::LimiterMetrics;
use names::Names;
use outage::OutageMetrics;
use own::OwnMetrics;
use telling::Telling;
use upstream::UpstreamMetrics;

pub use labels::{Door, Stage};
pub use names::MAX_MODELS;

/// The content type of [`Observer::render`].
pub const METRICS_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Counts and logs what happens. Cheap to share behind an `Arc`; every method may be called from anywhere.
#[derive(Debug)]
pub struct Observer {
    registry: Registry,
    limiter: LimiterMetrics,
    outage: OutageMetrics,
    leases: LeaseMetrics,
    ledger: LedgerMetrics,
    upstreams: UpstreamMetrics,
    own: OwnMetrics,
    models: Names,
}

/// An upstream's answer, when it is over.
#[derive(Clone, Copy, Debug)]
pub struct Answered<'a> {
    /// What was called.
    pub endpoint: Endpoint,
    /// The upstream's name.
    pub upstream: &'a str,
    /// What the model counts as.
    pub model: &'a str,
    /// What the model asked for counts as: another one where the call was downgraded.
    pub asked: &'a str,
    /// The model the upstream says it answered with.
    pub response_model: Option<&'a str>,
    /// Its status, or why there is none.
    pub end: End<'a>,
    /// From sending to the end of the answer.
    pub took: Duration,
    /// From sending to the first bytes of a streamed answer.
    pub first_token: Option<Duration>,
    /// What the call used, where the upstream said so.
    pub usage: Option<&'a Usage>,
}

/// Which model serves a call for another, and why.
#[derive(Clone, Copy, Debug)]
pub struct Downgraded<'a> {
    /// What the model asked for counts as.
    pub from: &'a str,
    /// What the model that serves counts as.
    pub to: &'a str,
    /// `quota`: one is used up. `never`: the call can never fit a limit. `tier`: the caller's tier does not have the model.
    pub reason: &'static str,
    /// The models that were asked for before, in the ladder's order, each with the limits that refused it: for the log.
    pub passed: &'a str,
}

/// How an answer ended.
#[derive(Clone, Copy, Debug)]
pub enum End<'a> {
    /// With this status.
    Status(u16),
    /// In a failure of the way there or back.
    Failed(&'a ApiError),
}

/// How well a call was sized, once its use is known.
#[derive(Clone, Copy, Debug)]
pub struct Sizing<'a> {
    /// What the model counts as.
    pub model: &'a str,
    /// Our count of the input, and how it was made.
    pub input: (u64, Method),
    /// Our estimate of the output, and how it was made.
    pub output: (u64, EstimateMethod),
    /// What the call used.
    pub usage: &'a Usage,
}

impl Observer {
    /// An observer that knows the names of `config`.
    #[must_use]
    pub fn new(config: &Config) -> Self {
        let mut registry = Registry::default();
        let mut tell = Telling(&mut registry);
        let limiter = LimiterMetrics::register(&mut tell);
        let outage = OutageMetrics::register(&mut tell);
        let leases = LeaseMetrics::register(&mut tell);
        let ledger = LedgerMetrics::register(&mut tell);
        let upstreams = UpstreamMetrics::register(&mut tell);
        let own = OwnMetrics::register(&mut tell);
        let observer = Self {
            registry,
            limiter,
            outage,
            leases,
            ledger,
            upstreams,
            own,
            models: Names::default(),
        };
        observer.expect(config);
        observer
    }

    /// Takes over the names of another configuration, after a reload.
    pub fn expect(&self, config: &Config) {
        self.limiter.name_metrics(config.metrics());
        for name in config.model_names() {
            self.models.learn(name);
        }
    }

    /// All metrics as OpenMetrics text, with how the store is now.
    #[must_use]
    pub fn render(&self, stats: StoreStats, health: &StoreHealth) -> String {
        self.limiter.store_is(stats, health);
        let mut text = String::new();
        // Writing into a String cannot fail; a metric's own error would leave what was written so far.
        let _ = encode(&mut text, &self.registry);
        text
    }

    /// A demand was admitted as it was asked for.
    pub fn admitted(&self, door: Door, admission: &Admission) {
        self.limiter.decided(door, "admit", "room");
        self.held(admission);
    }

    /// A demand was admitted for another model than the one asked for, or below its quota.
    pub fn downgraded(&self, door: Door, admission: &Admission, downgrade: &Downgraded<'_>) {
        let Downgraded {
            from,
            to,
            reason,
            passed,
        } = *downgrade;
        self.limiter.decided(door, "downgrade", reason);
        let (from_known, to_known) = (self.models.of(from), self.models.of(to));
        self.limiter.downgraded(from_known, to_known, reason);
        tracing::debug!(target: "tallygate::decision", from, to, reason, passed, "downgraded");
        self.held(admission);
    }

    /// A limit had no room for one model, and another one is asked for.
    pub fn passed_over(&self, error: &ApiError) {
        match error {
            ApiError::Denied(denial) => self.limits_said("deny", &denial.blocked_by),
            ApiError::Never(never) => self.limits_said("never", &never.blocked_by),
            _ => {}
        }
    }

    fn held(&self, admission: &Admission) {
        // The answer to a repeated call holds nothing that was not counted before.
        if admission.replay == Replay::Fresh {
            self.limiter.reserved(&admission.reserved);
        }
        self.limiter.waited("admit", admission.waited);
        for standing in &admission.standings {
            let shadowed = admission.shadowed.iter().any(|limit| {
                limit.name == standing.limit.name && limit.metric == standing.limit.metric
            });
            self.limiter.limit_decided(
                &standing.limit,
                if shadowed { "shadow_deny" } else { "admit" },
            );
        }
        tracing::debug!(target: "tallygate::decision", reservation = %admission.id, waited = ?admission.waited, "admitted");
    }

    /// A request was refused: by a limit, or for another reason.
    pub fn refused(&self, door: Door, error: &ApiError) {
        match error {
            ApiError::Denied(denial) => {
                self.denied(door, "deny", &denial.blocked_by);
                tracing::debug!(target: "tallygate::decision", limit = first(&denial.blocked_by), wait = ?denial.retry_after, "denied");
            }
            ApiError::Never(never) => {
                self.denied(door, "never", &never.blocked_by);
                tracing::debug!(target: "tallygate::decision", limit = first(&never.blocked_by), "never possible");
            }
            ApiError::Full(_) => {
                self.limiter.decided(door, "deny", error.reason());
                tracing::warn!(target: "tallygate::decision", %error, "the store did not decide");
            }
            ApiError::Unsized { .. } => {
                self.limiter.decided(door, "deny", error.reason());
                tracing::debug!(target: "tallygate::decision", %error, "denied");
            }
            // The log has one line when the store goes, and not one for each call.
            ApiError::StoreDown { .. } => {
                self.limiter.decided(door, "deny", error.reason());
                tracing::debug!(target: "tallygate::decision", %error, "the store did not decide");
            }
            _ => {
                self.limiter.refused(door, error.reason());
                tracing::debug!(target: "tallygate::request", reason = error.reason(), status = error.status().as_u16(), "refused");
            }
        }
    }

    fn denied(&self, door: Door, decision: &'static str, blocked_by: &[Standing]) {
        self.limiter.decided(door, decision, "limit");
        self.limits_said(decision, blocked_by);
    }

    fn limits_said(&self, decision: &'static str, blocked_by: &[Standing]) {
        for standing in blocked_by {
            self.limiter.limit_decided(&standing.limit, decision);
        }
    }

    /// A caller left the line without being admitted, after `waited`.
    pub fn gave_up(&self, waited: Duration) {
        self.limiter.waited("deny", waited);
    }

    /// More was added to a hold.
    pub fn extended(&self, more: &Amounts) {
        self.limiter.reserved(more);
    }

    /// A reservation ended.
    pub fn ended(&self, receipt: &Receipt) {
        self.limiter.ended(receipt);
    }

    /// A reservation could not be ended; its deadline will do it.
    pub fn lost(&self, id: ReservationId, error: &SettleError) {
        self.limiter.lost();
        tracing::warn!(target: "tallygate::settle", reservation = %id, %error, "left to its deadline");
    }

    /// The store went away, or is back.
    pub fn store_turned(&self, health: &StoreHealth) {
        match health {
            StoreHealth::Up => {
                tracing::info!(target: "tallygate::store", "the store is back");
            }
            StoreHealth::Down { reason } => {
                let trouble = health.trouble().unwrap_or_default();
                tracing::error!(target: "tallygate::store", reason, "{trouble}; limits do what their `store_down` says");
            }
        }
    }

    /// What leases have saved the store: its totals.
    pub fn leases(&self, stats: LeaseStats) {
        self.leases.note(stats);
    }

    /// What came of the times when the store was out of reach: its totals.
    pub fn outage(&self, stats: &OutageStats) {
        let news = self.outage.note(stats);
        self.limiter.ended_late(&news);
        if news.lost > 0 {
            tracing::error!(target: "tallygate::store", ends = news.lost, "ends of reservations could not be delivered and are lost; their amounts count as used");
        }
        if let (Some(reason), true) = (&stats.unreadable_last, news.is_unreadable) {
            tracing::error!(target: "tallygate::store", reason, "a counter cannot be read; its calls are refused or let pass as its `store_down` says");
        }
        match (&stats.unsaved, news.turned) {
            (Some(reason), true) => {
                tracing::error!(target: "tallygate::store", reason, "the data folder cannot be written to; what cannot be delivered is kept in memory only");
            }
            (None, true) => {
                tracing::info!(target: "tallygate::store", "the data folder can be written to again");
            }
            _ => {}
        }
        if news.settled + news.cancelled > 0 {
            tracing::info!(target: "tallygate::store", settled = news.settled, cancelled = news.cancelled, left = stats.kept, "delivered what was kept");
        }
    }

    /// An upstream's answer is over, or there was none.
    pub fn answered(&self, answer: &Answered<'_>) {
        let (status, error_type) = match answer.end {
            End::Status(status) => (
                Named::Status(status),
                (status >= 400).then_some(Named::Status(status)),
            ),
            End::Failed(error) => (
                Named::Word(error.reason()),
                Some(Named::Word(error.reason())),
            ),
        };
        if error_type.is_none() {
            // Only what an upstream serves becomes a label: callers may ask for anything.
            self.models.learn(answer.model);
            answer
                .response_model
                .into_iter()
                .for_each(|model| self.models.learn(model));
        }
        let labels = AnswerLabels {
            operation: operation(answer.endpoint),
            provider: answer.endpoint.dialect().name(),
            request_model: self.models.of(answer.model),
            response_model: answer.response_model.map(|model| self.models.of(model)),
            error_type,
        };
        self.upstreams.answered(answer, status, &labels);
        for (kind, tokens) in answer.usage.iter().flat_map(|usage| {
            [
                ("input", usage.input_tokens),
                ("output", usage.output_tokens),
            ]
        }) {
            self.upstreams.used(
                &TokenLabels {
                    answer: labels.clone(),
                    kind,
                },
                tokens,
            );
        }
        log_answer(answer);
    }

    /// How well a call was sized is known now.
    pub fn sized(&self, sizing: &Sizing<'_>) {
        let model = self.models.of(sizing.model);
        let input = EstimateLabels {
            model: model.clone(),
            kind: "input",
            method: sizing.input.1.name(),
        };
        self.upstreams
            .sized(&input, sizing.input.0, sizing.usage.input_tokens);
        let output = EstimateLabels {
            model,
            kind: "output",
            method: estimate_name(sizing.output.1),
        };
        self.upstreams
            .sized(&output, sizing.output.0, sizing.usage.output_tokens);
    }

    /// A stage of a request took so long. Waiting (in line, for the network) is left out, so that this is nearly CPU time.
    pub fn stage(&self, stage: Stage, took: Duration) {
        self.own.stage(stage, took);
    }

    /// The configuration file changed and is in force.
    pub fn reloaded(&self, config: &Config) {
        self.expect(config);
        self.own.reloaded("taken");
        tracing::info!(target: "tallygate::config", warnings = config.warnings().problems().len(), "a changed configuration is in force");
    }

    /// A configuration that is in force now leaves keys without what they need.
    pub fn keys_left(&self, left: &[String]) {
        for warning in left {
            tracing::warn!(target: "tallygate::config", "{warning}");
        }
    }

    /// The configuration file changed and the old one stays in force, because it has mistakes.
    pub fn reload_refused(&self, errors: &ConfigErrors) {
        self.own.reloaded("refused");
        for problem in errors.problems() {
            let (line, column) = (problem.line(), problem.column());
            tracing::error!(target: "tallygate::config", file = errors.name(), line, column, mend = problem.mending(), "{problem}");
        }
        tracing::error!(target: "tallygate::config", "{errors}; the old configuration stays in force");
    }

    /// The configuration file changed and the old one stays in force, because a restart is needed.
    pub fn reload_needs_restart(&self, fixed: &Unreloadable) {
        self.own.reloaded("refused");
        tracing::error!(target: "tallygate::config", "{fixed}; the old configuration stays in force");
    }

    /// The keys and overrides cannot be looked at; those known so far stay in force.
    pub fn registry_failed(&self, error: &RegistryError) {
        tracing::error!(target: "tallygate::admin", %error, "those known so far stay in force");
    }

    /// The store did not take an override over, or the end of one.
    pub fn override_failed(&self, error: &StoreError) {
        tracing::error!(target: "tallygate::admin", %error, "the limits stay as they are until the next change");
    }

    /// So many ids stand both in the configuration and among the keys made while servers run.
    pub fn doubled_keys(&self, count: usize) {
        if count > 0 {
            tracing::error!(target: "tallygate::admin", count, "key ids stand both in the configuration and in the registry; the configuration's are good");
        }
    }

    /// An administrator did something.
    pub fn administered(&self, action: &'static str) {
        tracing::info!(target: "tallygate::admin", action, "done");
    }

    /// A request to the admin API was refused.
    pub fn admin_refused(&self, from: IpAddr, reason: &'static str) {
        tracing::warn!(target: "tallygate::admin", %from, reason, "refused");
    }

    /// The admin API is closed, because its listener is open to other machines and there is no key.
    pub fn admin_closed(&self) {
        tracing::warn!(target: "tallygate::admin", "the admin listener is open to other machines and there is no key: its API is closed until there is one with the role `admin`");
    }

    /// What was told of a counter was forgotten: it may be told again.
    pub(crate) fn event_forgotten(&self) {
        if self.own.event_forgotten() == 1 {
            tracing::warn!(target: "tallygate::events", "more counters have something to be told of than are remembered: of those whose windows end first it may be told again");
        }
    }

    /// An event for the webhook at `host` came to this; `why` says what was seen, if it went wrong.
    pub(crate) fn hook_told(&self, host: &str, told: HookTold, why: &str) {
        self.own.hook_told(told.name());
        match told {
            HookTold::Delivered => {
                tracing::debug!(target: "tallygate::webhook", host, "an event was delivered");
            }
            HookTold::Retried => {
                tracing::warn!(target: "tallygate::webhook", host, why, "an event was not delivered; it is tried again");
            }
            HookTold::GivenUp | HookTold::Dropped => {
                tracing::error!(target: "tallygate::webhook", host, why, "an event is lost");
            }
        }
    }

    /// The configuration file could not be read or taken over; the old one stays in force.
    pub fn reload_failed(&self, error: &dyn std::error::Error) {
        self.own.reloaded("failed");
        tracing::error!(target: "tallygate::config", %error, "the old configuration stays in force");
    }
}

fn first(standings: &[Standing]) -> &str {
    standings
        .first()
        .map_or("", |standing| &*standing.limit.name)
}

fn log_answer(answer: &Answered<'_>) {
    let (upstream, model, asked) = (answer.upstream, answer.model, answer.asked);
    match answer.end {
        End::Failed(error) => {
            tracing::warn!(target: "tallygate::upstream", upstream, model, asked, %error, took = ?answer.took, "no answer");
        }
        End::Status(status) => {
            let (input, output) = answer
                .usage
                .map_or((0, 0), |usage| (usage.input_tokens, usage.output_tokens));
            tracing::debug!(target: "tallygate::upstream", upstream, model, asked, status, input, output, took = ?answer.took, "answered");
        }
    }
}

/// `gen_ai.operation.name`, by OpenTelemetry's semantic conventions for generative AI.
fn operation(endpoint: Endpoint) -> &'static str {
    match endpoint {
        Endpoint::ChatCompletions | Endpoint::Responses | Endpoint::Messages => "chat",
        Endpoint::Completions => "text_completion",
        Endpoint::Embeddings => "embeddings",
        Endpoint::CountTokens => "count_tokens",
        Endpoint::GenerateContent | Endpoint::StreamGenerateContent => "generate_content",
    }
}

fn estimate_name(method: EstimateMethod) -> &'static str {
    match method {
        EstimateMethod::MaxTokens => "max_tokens",
        EstimateMethod::Multiplier => "multiplier",
        EstimateMethod::Learned => "learned",
        EstimateMethod::None => "none",
    }
}
