//! What the limits did: decisions, amounts, waits.

use std::sync::Arc;
use std::time::Duration;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Unit;
use tallygate_core::{Amounts, LimitInfo, Metrics, Outcome, Receipt};
use tallygate_store::{StoreHealth, StoreStats};

use super::amounts::AmountCounters;
use super::labels::{
    DecisionLabels, Door, DowngradeLabels, LimitLabels, OutcomeLabels, RefusalLabels,
};
use super::outage::News;
use super::telling::{Histograms, Telling};

const WAIT_SECONDS: [f64; 13] = [
    0.001, 0.01, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 600.0,
];

#[derive(Debug)]
pub(super) struct LimiterMetrics {
    decisions: Family<DecisionLabels, Counter>,
    limit_decisions: Family<LimitLabels, Counter>,
    refusals: Family<RefusalLabels, Counter>,
    downgrades: Family<DowngradeLabels, Counter>,
    reserved: AmountCounters,
    settled: AmountCounters,
    returned: AmountCounters,
    debt: AmountCounters,
    ended: Family<OutcomeLabels, Counter>,
    lost: Counter,
    waits: Histograms<OutcomeLabels>,
    waiters: Gauge,
    reservations: Gauge,
    counters: Gauge,
    up: Gauge,
}

impl LimiterMetrics {
    pub(super) fn register(tell: &mut Telling<'_>) -> Self {
        let held = "Amounts held (tokens; cost in micro-dollars), extensions included";
        let debt = "Sum over settlements of how far below zero a counter stood right after each";
        let lost = "Reservations that could not be ended and were left to their deadline";
        let wait = ("tallygate_wait", "Time in line", Unit::Seconds);
        Self {
            decisions: tell.counters(
                "tallygate_decisions",
                "Decisions, by door, outcome and reason",
            ),
            limit_decisions: tell.counters(
                "tallygate_limit_decisions",
                "What each limit said to the demands it applied to",
            ),
            refusals: tell.counters(
                "tallygate_refusals",
                "Requests refused for other reasons than a limit",
            ),
            downgrades: tell.counters(
                "tallygate_downgrades",
                "Calls served by a cheaper model, by the model asked for, the one that served, and why",
            ),
            reserved: AmountCounters::register(tell, "tallygate_reserved", held),
            settled: AmountCounters::register(
                tell,
                "tallygate_settled",
                "Amounts charged in the end",
            ),
            returned: AmountCounters::register(
                tell,
                "tallygate_returned",
                "Amounts held and not used",
            ),
            debt: AmountCounters::register(tell, "tallygate_debt", debt),
            ended: tell.counters(
                "tallygate_reservations_ended",
                "Reservations ended, by outcome",
            ),
            lost: tell.one("tallygate_reservations_lost", lost),
            waits: tell.histograms(wait, || Histogram::new(WAIT_SECONDS)),
            waiters: tell.one("tallygate_waiters", "Callers in line now"),
            reservations: tell.one("tallygate_reservations_open", "Open reservations now"),
            counters: tell.one("tallygate_counters", "Subjects with counters now"),
            up: tell.one("tallygate_store_up", "Whether the store can be reached now"),
        }
    }

    /// Gives the amounts' series the metrics' names.
    pub(super) fn name_metrics(&self, metrics: &Metrics) {
        for counters in [&self.reserved, &self.settled, &self.returned, &self.debt] {
            counters.name(metrics);
        }
    }

    pub(super) fn store_is(&self, stats: StoreStats, health: &StoreHealth) {
        self.up.set(i64::from(*health == StoreHealth::Up));
        let gauges = [
            (&self.waiters, stats.waiters),
            (&self.reservations, stats.reservations),
            (&self.counters, stats.counters),
        ];
        for (gauge, number) in gauges {
            gauge.set(i64::try_from(number).unwrap_or(i64::MAX));
        }
    }

    pub(super) fn decided(&self, door: Door, decision: &'static str, reason: &'static str) {
        self.decisions
            .get_or_create(&DecisionLabels {
                door: door.name(),
                decision,
                reason,
            })
            .inc();
    }

    pub(super) fn limit_decided(&self, limit: &LimitInfo, decision: &'static str) {
        let labels = LimitLabels {
            limit: Arc::clone(&limit.name),
            metric: Arc::clone(&limit.metric_name),
            decision,
        };
        self.limit_decisions.get_or_create(&labels).inc();
    }

    pub(super) fn refused(&self, door: Door, reason: &'static str) {
        self.refusals
            .get_or_create(&RefusalLabels {
                door: door.name(),
                reason,
            })
            .inc();
    }

    pub(super) fn downgraded(&self, from: Arc<str>, to: Arc<str>, reason: &'static str) {
        self.downgrades
            .get_or_create(&DowngradeLabels { from, to, reason })
            .inc();
    }

    pub(super) fn reserved(&self, amounts: &Amounts) {
        self.reserved.add(amounts);
    }

    pub(super) fn waited(&self, outcome: &'static str, waited: Duration) {
        if !waited.is_zero() {
            self.waits
                .get_or_create(&OutcomeLabels { outcome })
                .observe(waited.as_secs_f64());
        }
    }

    pub(super) fn ended(&self, receipt: &Receipt) {
        let outcome = match receipt.outcome {
            Outcome::Settled => "settled",
            Outcome::Cancelled => "cancelled",
            Outcome::Expired => "expired",
        };
        self.ended.get_or_create(&OutcomeLabels { outcome }).inc();
        self.settled.add(&receipt.charged);
        self.returned.add(&receipt.returned);
        self.debt.add(&receipt.debt);
    }

    /// Reservations ended that were kept while the store was away.
    pub(super) fn ended_late(&self, news: &News) {
        for (outcome, count) in [("settled", news.settled), ("cancelled", news.cancelled)] {
            if count > 0 {
                let ended = self.ended.get_or_create(&OutcomeLabels { outcome });
                ended.inc_by(count);
            }
        }
        self.settled.add(&news.charged);
        self.returned.add(&news.returned);
        self.debt.add(&news.debt);
    }

    pub(super) fn lost(&self) {
        self.lost.inc();
    }
}
