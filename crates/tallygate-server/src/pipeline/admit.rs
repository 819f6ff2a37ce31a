//! Asking the limits.

use std::sync::Arc;
use std::time::Duration;

use tallygate_core::{Admission, Amounts, Decision, FullError, Replay};
use tallygate_store::{Reserve, SettledBy, StoreError, WaitsFor};
use tokio::time::Instant;

use super::{Hold, Pipeline};
use crate::identify::Identity;
use crate::observe::Door;
use crate::quota::is_for_a_quota;
use crate::wire::ApiError;

/// What is asked, and under which terms.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Terms<'a> {
    /// How much.
    pub(crate) demand: Amounts,
    /// How long the hold stands unsettled.
    pub(crate) ttl: Duration,
    /// Where it is asked.
    pub(crate) door: Door,
    /// How long the caller would wait in line.
    pub(crate) max_wait: Duration,
    /// For what.
    pub(crate) waits_for: WaitsFor,
    /// The caller's name for this call, so that asking twice is asking once.
    pub(crate) idempotency_key: Option<&'a str>,
}

/// A call that may go.
pub(crate) struct Admitted {
    /// Its reservation, which ends whatever happens.
    pub(crate) hold: Hold,
    /// How it was decided.
    pub(crate) admission: Admission,
}

/// A caller that may wait in line. Dropped before it is let through, it gave up.
struct Line<'a> {
    pipeline: &'a Pipeline,
    since: Option<Instant>,
}

impl<'a> Line<'a> {
    fn enter(pipeline: &'a Pipeline, terms: &Terms<'_>) -> Self {
        let since = (!terms.max_wait.is_zero()).then(Instant::now);
        Self { pipeline, since }
    }

    fn leave(mut self) {
        self.since = None;
    }
}

impl Drop for Line<'_> {
    fn drop(&mut self) {
        if let Some(since) = self.since {
            self.pipeline.observer.gave_up(since.elapsed());
        }
    }
}

/// The labels of a call: the caller's own, and those the server knows.
pub(crate) fn labels<'a>(
    identity: &'a Identity,
    known: &[(&'a str, &'a str)],
) -> Vec<(&'a str, &'a str)> {
    let own = identity.labels();
    let mut labels = Vec::with_capacity(own.len() + known.len());
    labels.extend(
        own.iter()
            .map(|(label, value)| (label.as_str(), value.as_str())),
    );
    labels.extend_from_slice(known);
    labels
}

impl Pipeline {
    /// Asks every limit that applies to `subject`. Whoever asks tells the observer what comes of it.
    ///
    /// # Errors
    /// When the store cannot answer; a denial is an answer.
    ///
    /// # Cancel safety
    /// A dropped future leaves the line and holds nothing.
    pub(crate) async fn decide(
        &self,
        subject: &[(&str, &str)],
        terms: &Terms<'_>,
    ) -> Result<Decision, ApiError> {
        let ask = Reserve {
            subject,
            demand: terms.demand,
            ttl: terms.ttl,
            max_wait: terms.max_wait,
            idempotency_key: terms.idempotency_key,
            waits_for: terms.waits_for,
            settled_by: match terms.door {
                Door::Gateway => SettledBy::ThisNode,
                Door::Decision => SettledBy::AnyNode,
            },
        };
        let line = Line::enter(self, terms);
        let decision = match self.store.reserve(ask).await {
            // The line is full: the caller is denied at once, with its exact wait.
            Err(StoreError::Full(FullError::Waiters(_))) => {
                let at_once = Reserve {
                    max_wait: Duration::ZERO,
                    ..ask
                };
                self.store.reserve(at_once).await?
            }
            decided => decided?,
        };
        // Who goes on to another attempt has not given up.
        let goes_on = terms.waits_for == WaitsFor::Rates && is_for_a_quota(&decision);
        if goes_on || matches!(decision, Decision::Admit(_)) {
            line.leave();
        }
        self.tell_thresholds(subject, &decision);
        Ok(decision)
    }

    /// Tells of the thresholds that were passed. A denial tells of what was used since the last admission.
    fn tell_thresholds(&self, subject: &[(&str, &str)], decision: &Decision) {
        let standings = match decision {
            Decision::Admit(admission) if admission.replay == Replay::Fresh => &admission.standings,
            Decision::Deny(denial) => &denial.blocked_by,
            _ => return,
        };
        self.events.seen(subject, standings, self.store.now());
    }

    /// Lets a request of the gateway through, or says why not.
    ///
    /// # Errors
    /// [`ApiError::Denied`] and [`ApiError::Never`], and what [`Self::decide`] gives.
    pub(crate) async fn admit(
        &self,
        subject: &[(&str, &str)],
        terms: &Terms<'_>,
    ) -> Result<Admitted, ApiError> {
        match self.decide(subject, terms).await? {
            Decision::Admit(admission) => {
                self.observer.admitted(terms.door, &admission);
                Ok(self.guard(admission))
            }
            Decision::Deny(denial) => Err(denial.into()),
            Decision::Never(never) => Err(never.into()),
        }
    }

    /// Sees to it that what was admitted ends whatever happens.
    pub(crate) fn guard(&self, admission: Admission) -> Admitted {
        let hold = Hold::new(admission.id, admission.reserved, Arc::clone(&self.settler));
        Admitted { hold, admission }
    }
}
