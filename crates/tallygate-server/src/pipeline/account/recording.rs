//! What the ledger is told of a call of the gateway.

use tallygate_core::{Amounts, Metric, Time};
use tallygate_store::Settlement;
use tallygate_store::usage::{Method, Outcome};
use tallygate_tokens::Usage;

use super::{Account, Ending, Served};
use crate::ledger::{Entry, Reserved, Subject, Use};

impl Account {
    /// Has it recorded whose call it is, should this process be killed before it is over. Its hold ends by itself at `expires_at`.
    pub(crate) fn noted(self, expires_at: Time) -> Self {
        if let Some(hold) = &self.hold {
            let recorder = self.pipeline.recorder();
            recorder.opened((hold.id(), expires_at), || self.entry());
        }
        self
    }

    /// Records how the call went. Its hold is to end as `ending` says.
    pub(super) fn record(&self, served: Served, ending: &Ending) {
        let recorder = self.pipeline.recorder();
        let Some(hold) = self.hold.as_ref().filter(|_| recorder.is_on()) else {
            return;
        };
        let charged = charged(ending, hold.reserved());
        let used = Use {
            charged,
            cost: (self.of.price.is_known()).then(|| charged.get(Metric::COST)),
            details: details(served),
            method: method(served),
        };
        let took = self.course.sent.elapsed();
        let record = self.entry().ended(outcome(served), &used, took);
        recorder.record_end(hold.id(), record);
    }

    fn entry(&self) -> Entry {
        let of = &self.of;
        let subject =
            Subject::of_identity(&of.identity, (&of.model, &of.asked), of.upstream.name());
        let reserved = Reserved {
            amounts: self.held(),
            ..self.reserved
        };
        let setup = self.pipeline.setup();
        Entry::let_through(subject, &reserved, setup.config())
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
