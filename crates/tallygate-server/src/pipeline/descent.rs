//! Asking for one attempt after the other.

use std::time::Duration;

use tallygate_core::{Admission, Decision, Denial, Mode, Time};
use tokio::time::Instant;

use super::{Pipeline, Refusal, Terms};
use crate::quota::is_quota;
use crate::wire::ApiError;

/// The attempts of one call that were asked for, what was said, and how long its caller would still wait.
///
/// What a quota refuses is asked for on the next attempt at once; for anything else the caller waits as always.
pub(crate) struct Descent {
    left: usize,
    since: Instant,
    max_wait: Duration,
    refused: Option<Refusal>,
    refusals: usize,
}

/// One attempt, as it is put to the limits.
#[derive(Clone, Copy)]
pub(crate) struct Asking<'a> {
    /// The name of its model.
    pub(crate) model: &'a str,
    /// Who asks, for what.
    pub(crate) subject: &'a [(&'a str, &'a str)],
    /// Under which terms; how long it waits is up to the [`Descent`].
    pub(crate) terms: Terms<'a>,
}

impl Descent {
    /// For so many `attempts` of a caller that waits so long for all of them together.
    pub(crate) fn new(attempts: usize, max_wait: Duration) -> Self {
        Self {
            left: attempts,
            since: Instant::now(),
            max_wait,
            refused: None,
            refusals: 0,
        }
    }

    /// Asks for the next attempt. `None`: a quota refuses it, and the one after it is to be asked for.
    ///
    /// # Errors
    /// When no other attempt would help: of all refusals the one that ends first. When the store does not answer.
    ///
    /// # Cancel safety
    /// A dropped future leaves the line and holds nothing.
    pub(crate) async fn ask(
        &mut self,
        pipeline: &Pipeline,
        asking: Asking<'_>,
    ) -> Result<Option<Admission>, Refusal> {
        self.left = self.left.saturating_sub(1);
        let refusal = |error| Refusal::of(error, asking.model, asking.terms.demand);
        let decision = self.decide(pipeline, &asking).await.map_err(refusal)?;
        let goes_on = self.left > 0 && is_for_a_quota(&decision);
        let error = match decision {
            Decision::Admit(admission) => return Ok(Some(admission)),
            Decision::Deny(denial) => denial.into(),
            Decision::Never(never) => never.into(),
        };
        self.note(refusal(error));
        match goes_on {
            true => Ok(None),
            false => Err(self.refusal(pipeline.store().now())),
        }
    }

    /// The answer to a call none of whose attempts has room.
    pub(crate) fn refusal(&mut self, now: Time) -> Refusal {
        let mut refusal = self.refused.take().unwrap_or(ApiError::Internal.into());
        match &mut refusal.error {
            // It may be that of an earlier attempt, and time has passed since.
            ApiError::Denied(denial) if self.refusals > 1 => {
                denial.retry_after = denial.retry_at.since(now).into();
            }
            _ => {}
        }
        refusal
    }

    /// Asks the limits. An attempt that is not the last does not wait for a quota.
    async fn decide(&self, pipeline: &Pipeline, asking: &Asking<'_>) -> Result<Decision, ApiError> {
        if self.left > 0 {
            let decision = self.decide_within(pipeline, asking, Duration::ZERO).await?;
            let refused_for_now = matches!(decision, Decision::Deny(_));
            if !refused_for_now || is_for_a_quota(&decision) || self.max_wait.is_zero() {
                return Ok(decision);
            }
        }
        let left = self.max_wait.saturating_sub(self.since.elapsed());
        self.decide_within(pipeline, asking, left).await
    }

    async fn decide_within(
        &self,
        pipeline: &Pipeline,
        asking: &Asking<'_>,
        max_wait: Duration,
    ) -> Result<Decision, ApiError> {
        let terms = Terms {
            max_wait,
            ..asking.terms
        };
        pipeline.decide(asking.subject, &terms).await
    }

    /// Keeps the refusal that ends first.
    fn note(&mut self, refusal: Refusal) {
        self.refusals += 1;
        let ends = |refusal: &Refusal| match &refusal.error {
            ApiError::Denied(denial) => denial.retry_at,
            _ => Time::MAX,
        };
        if self
            .refused
            .as_ref()
            .is_none_or(|earlier| ends(&refusal) < ends(earlier))
        {
            self.refused = Some(refusal);
        }
    }
}

/// Whether another model may help where this was said: a quota is used up, or the demand can never fit.
fn is_for_a_quota(decision: &Decision) -> bool {
    match decision {
        Decision::Admit(_) => false,
        Decision::Deny(denial) => has_a_quota(denial),
        Decision::Never(_) => true,
    }
}

fn has_a_quota(denial: &Denial) -> bool {
    let mut blocking = denial.blocked_by.iter().map(|standing| &standing.limit);
    blocking.any(|limit| limit.mode == Mode::Enforce && is_quota(limit))
}
