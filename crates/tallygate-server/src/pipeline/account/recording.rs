//! What the ledger is told of a call of the gateway.

use tallygate_core::{Amounts, Metric};
use tallygate_store::Settlement;
use tallygate_store::usage::{Method, Outcome};
use tallygate_tokens::Usage;

use super::{Account, Ending, Served};
use crate::ledger::{Entry, Reserved, Subject, Use};

impl Account {
    /// Records how the call went. Its hold is to end as `ending` says.
    pub(super) fn record(&self, served: Served, ending: &Ending) {
        let recorder = self.pipeline.recorder();
        if !recorder.is_on() {
            return;
        }
        let of = &self.of;
        let subject =
            Subject::of_identity(&of.identity, (&of.model, &of.asked), of.upstream.name());
        let reserved = Reserved {
            amounts: self.held(),
            ..self.reserved
        };
        let charged = charged(ending, &reserved.amounts);
        let used = Use {
            charged,
            cost: of.price.is_known().then(|| charged.get(Metric::COST)),
            details: details(served),
            method: method(served),
        };
        let setup = self.pipeline.setup();
        let entry = Entry::let_through(subject, &reserved, setup.config());
        recorder.record(entry.ended(outcome(served), &used, self.course.sent.elapsed()));
    }
}

/// What is charged to counters when a hold of `held` ends so.
fn charged(ending: &Ending, held: &Amounts) -> Amounts {
    match ending {
        Ending::Cancel => Amounts::ZERO,
        Ending::Settle(Settlement::Exact(used)) => *used,
        Ending::Settle(Settlement::AtLeast(used)) => held.zip(used, u64::max),
        Ending::Settle(Settlement::Stated(used)) => used.or(held),
    }
}

fn outcome(served: Served) -> Outcome {
    match served {
        Served::Reported(_) | Served::Counted { .. } | Served::Unknown => Outcome::Settled,
        Served::Refused => Outcome::Refused,
        Served::Not => Outcome::Failed,
    }
}

fn method(served: Served) -> Method {
    match served {
        Served::Reported(_) | Served::Refused | Served::Not => Method::Exact,
        Served::Counted { .. } => Method::Counted,
        Served::Unknown => Method::Kept,
    }
}

fn details(served: Served) -> Usage {
    match served {
        Served::Reported(usage)
        | Served::Counted {
            input: Some(usage), ..
        } => usage,
        _ => Usage::default(),
    }
}
