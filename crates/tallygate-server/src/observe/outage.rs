//! What came of the times when the store was out of reach.

use parking_lot::Mutex;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use tallygate_core::Amounts;
use tallygate_store::OutageStats;

use super::telling::Telling;

/// The store's totals, as counters.
#[derive(Debug)]
pub(super) struct OutageMetrics {
    uncounted: Counter,
    alone: Counter,
    resent: Counter,
    kept: Gauge,
    overtaken: Counter,
    lost: Counter,
    unsaved: Gauge,
    unreadable: Counter,
    /// The totals when they were last told.
    last: Mutex<OutageStats>,
}

impl OutageMetrics {
    pub(super) fn register(tell: &mut Telling<'_>) -> Self {
        Self {
            uncounted: tell.one(
                "tallygate_store_uncounted",
                "Admissions that no limit counts: the store was away and all limits were open",
            ),
            alone: tell.one(
                "tallygate_store_alone",
                "Admissions from leased shares while the store was away",
            ),
            resent: tell.one(
                "tallygate_store_resent",
                "Calls to the store that were sent again for want of an answer",
            ),
            kept: tell.one(
                "tallygate_store_kept",
                "Ends of reservations that wait for the store to come back",
            ),
            overtaken: tell.one(
                "tallygate_store_overtaken",
                "Kept ends that came too late: the reservation had ended otherwise",
            ),
            lost: tell.one(
                "tallygate_store_lost",
                "Kept ends that were dropped, damaged or refused for a day",
            ),
            unsaved: tell.one(
                "tallygate_store_unsaved",
                "Whether kept ends cannot be written to the data folder",
            ),
            unreadable: tell.one(
                "tallygate_store_unreadable",
                "Operations refused because the store holds something else than their counter",
            ),
            last: Mutex::default(),
        }
    }

    /// Takes the store's totals; gives what has come since the last time, and whether the folder has turned.
    pub(super) fn note(&self, now: &OutageStats) -> News {
        let mut last = self.last.lock();
        let counters = [
            (&self.uncounted, now.uncounted, last.uncounted),
            (&self.alone, now.alone, last.alone),
            (&self.resent, now.resent, last.resent),
            (&self.overtaken, now.overtaken, last.overtaken),
            (&self.lost, now.lost, last.lost),
            (&self.unreadable, now.unreadable, last.unreadable),
        ];
        for (counter, now, last) in counters {
            counter.inc_by(now.saturating_sub(last));
        }
        self.kept.set(i64::try_from(now.kept).unwrap_or(i64::MAX));
        self.unsaved.set(i64::from(now.unsaved.is_some()));
        let since = |now: &Amounts, last: &Amounts| now.zip(last, u64::saturating_sub);
        let news = News {
            settled: now.settled.saturating_sub(last.settled),
            cancelled: now.cancelled.saturating_sub(last.cancelled),
            charged: since(&now.charged, &last.charged),
            returned: since(&now.returned, &last.returned),
            debt: since(&now.debt, &last.debt),
            lost: now.lost.saturating_sub(last.lost),
            is_unreadable: now.unreadable_last != last.unreadable_last,
            turned: now.unsaved.is_some() != last.unsaved.is_some(),
        };
        last.clone_from(now);
        news
    }
}

/// What has come since the store's totals were last told.
pub(super) struct News {
    pub(super) settled: u64,
    pub(super) cancelled: u64,
    pub(super) charged: Amounts,
    pub(super) returned: Amounts,
    pub(super) debt: Amounts,
    pub(super) lost: u64,
    /// Whether another counter could not be read.
    pub(super) is_unreadable: bool,
    /// Whether the data folder began to fail, or to serve again.
    pub(super) turned: bool,
}
