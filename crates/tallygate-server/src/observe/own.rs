//! What the server itself does: its stages, its configuration, its version.

use std::time::Duration;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::Unit;

use super::labels::{OutcomeLabels, Stage, StageLabels};
use super::telling::{Histograms, Telling};

const STAGE_SECONDS: [f64; 12] = [
    0.000_001,
    0.000_002_5,
    0.000_005,
    0.000_01,
    0.000_025,
    0.000_05,
    0.000_1,
    0.000_25,
    0.000_5,
    0.001,
    0.01,
    0.1,
];

#[derive(Debug)]
pub(super) struct OwnMetrics {
    stages: [Histogram; Stage::ALL.len()],
    reloads: Family<OutcomeLabels, Counter>,
    hooks: Family<OutcomeLabels, Counter>,
    forgotten: Counter,
}

impl OwnMetrics {
    pub(super) fn register(tell: &mut Telling<'_>) -> Self {
        let version = vec![("version", env!("CARGO_PKG_VERSION"))];
        tell.0.register(
            "tallygate_build",
            "The version that runs",
            Info::new(version),
        );
        let stage = (
            "tallygate_stage",
            "Own time spent on a request, waiting left out",
            Unit::Seconds,
        );
        let stages: Histograms<StageLabels> =
            tell.histograms(stage, || Histogram::new(STAGE_SECONDS));
        Self {
            stages: Stage::ALL.map(|stage| {
                stages.get_or_create_owned(&StageLabels {
                    stage: stage.name(),
                })
            }),
            reloads: tell.counters(
                "tallygate_config_reloads",
                "Changes of the configuration file, by what became of them",
            ),
            hooks: tell.counters(
                "tallygate_webhook_events",
                "Events for webhooks, by what became of them",
            ),
            forgotten: tell.one(
                "tallygate_events_forgotten",
                "Counters of which events may be told again, because too many are remembered",
            ),
        }
    }

    pub(super) fn stage(&self, stage: Stage, took: Duration) {
        let position = Stage::ALL.iter().position(|known| *known == stage);
        if let Some(histogram) = position.and_then(|position| self.stages.get(position)) {
            histogram.observe(took.as_secs_f64());
        }
    }

    pub(super) fn reloaded(&self, outcome: &'static str) {
        self.reloads.get_or_create(&OutcomeLabels { outcome }).inc();
    }

    /// Answers how often.
    pub(super) fn event_forgotten(&self) -> u64 {
        self.forgotten.inc() + 1
    }

    pub(super) fn hook_told(&self, outcome: &'static str) {
        self.hooks.get_or_create(&OutcomeLabels { outcome }).inc();
    }
}
