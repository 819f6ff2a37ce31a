//! Amounts, one counter a metric of the limits.

use std::sync::Arc;

use parking_lot::RwLock;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use tallygate_core::{Amounts, Metrics};

use super::labels::MetricLabels;
use super::telling::Telling;

/// One counter a metric of the limits.
#[derive(Debug)]
pub(super) struct AmountCounters {
    family: Family<MetricLabels, Counter>,
    /// By the metric's index.
    by_metric: RwLock<Vec<Counter>>,
}

impl AmountCounters {
    pub(super) fn register(tell: &mut Telling<'_>, name: &str, help: &str) -> Self {
        Self {
            family: tell.one(name, help),
            by_metric: RwLock::default(),
        }
    }

    /// Gives the series the metrics' names.
    pub(super) fn name(&self, metrics: &Metrics) {
        let named = metrics.iter().map(|(_, name)| {
            self.family.get_or_create_owned(&MetricLabels {
                metric: Arc::from(name),
            })
        });
        *self.by_metric.write() = named.collect();
    }

    pub(super) fn add(&self, amounts: &Amounts) {
        let counters = self.by_metric.read();
        for (metric, amount) in amounts.iter() {
            if let Some(counter) = counters.get(metric.index()) {
                counter.inc_by(amount);
            }
        }
    }
}
