//! How the ledger of usage fares.

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use tallygate_store::usage::ShelfError;

use super::Observer;
use super::labels::OutcomeLabels;
use super::telling::Telling;
use crate::ledger::LedgerLog;

#[derive(Debug)]
pub(super) struct LedgerMetrics {
    records: Family<OutcomeLabels, Counter>,
}

impl LedgerMetrics {
    pub(super) fn register(tell: &mut Telling<'_>) -> Self {
        Self {
            records: tell.counters(
                "tallygate_ledger_records",
                "Records of calls, by what became of them: lost are those that there was no room for",
            ),
        }
    }

    fn count(&self, outcome: &'static str, records: u64) -> u64 {
        let counter = self.records.get_or_create(&OutcomeLabels { outcome });
        counter.inc_by(records)
    }
}

impl LedgerLog for Observer {
    fn kept(&self, records: u64) {
        self.ledger.count("kept", records);
    }

    fn lost(&self, records: u64) {
        let before = self.ledger.count("lost", records);
        // Each time the number has another digit: a line a record would be a flood.
        if before.checked_ilog10() != (before + records).checked_ilog10() {
            tracing::error!(target: "tallygate::ledger", lost = before + records, "records of calls are lost: more come than can be kept");
        }
    }

    fn shelf_turned(&self, trouble: Option<&ShelfError>) {
        match trouble {
            Some(error) => {
                tracing::error!(target: "tallygate::ledger", %error, "records of calls cannot be kept; some wait in memory, and those of which there is no room are lost");
            }
            None => {
                tracing::info!(target: "tallygate::ledger", "records of calls can be kept again")
            }
        }
    }
}
