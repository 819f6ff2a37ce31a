//! What leases have saved the store.

use parking_lot::Mutex;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use tallygate_store::LeaseStats;

use super::telling::Telling;

/// The store's totals, as counters.
#[derive(Debug)]
pub(super) struct LeaseMetrics {
    decisions: Counter,
    accounts: Gauge,
    calls: Counter,
    /// The totals when they were last told.
    last: Mutex<LeaseStats>,
}

impl LeaseMetrics {
    pub(super) fn register(tell: &mut Telling<'_>) -> Self {
        Self {
            decisions: tell.one(
                "tallygate_store_leased_decisions",
                "Decisions made at this instance, out of leased shares",
            ),
            accounts: tell.one(
                "tallygate_store_leased_counters",
                "Counters of which this instance holds a share now",
            ),
            calls: tell.one("tallygate_store_calls", "Calls to the store, of any kind"),
            last: Mutex::default(),
        }
    }

    /// Takes the store's totals.
    pub(super) fn note(&self, now: LeaseStats) {
        let mut last = self.last.lock();
        self.decisions
            .inc_by(now.decisions.saturating_sub(last.decisions));
        self.calls.inc_by(now.calls.saturating_sub(last.calls));
        self.accounts
            .set(i64::try_from(now.accounts).unwrap_or(i64::MAX));
        *last = now;
    }
}
