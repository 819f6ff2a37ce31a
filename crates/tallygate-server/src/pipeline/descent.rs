//! Asking for one attempt after the other.

use std::time::Duration;

use tallygate_core::{Admission, Amounts, Decision, Replay, ReservationId, Standing, Time};
use tallygate_store::WaitsFor;
use tokio::time::Instant;

use super::marks::{Marks, is_mark, is_mark_or_new};
use super::{Pipeline, Refusal, Step, Terms};
use crate::ledger::{Reserved, Subject};
use crate::observe::{Door, Downgraded};
use crate::quota::is_for_a_quota;
use crate::wire::ApiError;

/// The attempts of one call that were asked for, what was said, and how long its caller would still wait.
///
/// What a quota refuses is asked for on the next attempt at once; for anything else the caller waits as always.
pub(crate) struct Descent {
    left: usize,
    since: Instant,
    max_wait: Duration,
    /// How long it stood in line for the attempts that were asked for before.
    waited: Duration,
    refused: Vec<Refusal>,
    /// Whom the first denial was told, and by what.
    denied: Option<(Labels, Vec<Standing>)>,
    marks: Marks,
}

/// Owned labels of a subject.
type Labels = Vec<(String, String)>;

/// One attempt, as it is put to the limits.
#[derive(Clone, Copy)]
pub(crate) struct Asking<'a> {
    /// The name of its model.
    pub(crate) model: &'a str,
    /// What the model asked for counts as.
    pub(crate) asked: &'a str,
    /// Who asks, for what.
    pub(crate) subject: &'a [(&'a str, &'a str)],
    /// Under which terms; how long it waits is up to the [`Descent`].
    pub(crate) terms: Terms<'a>,
}

/// What was let through.
pub(crate) struct Through {
    /// Which of the attempts: the one asked for, unless a namesake was let through on an earlier one.
    pub(crate) at: usize,
    /// How it was decided.
    pub(crate) admission: Admission,
    /// What its idempotency key left on the attempts above.
    pub(crate) marks: Vec<ReservationId>,
}

/// By which model a call is served.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ServedBy<'a> {
    /// The caller's tier.
    pub(crate) tier: Option<&'a str>,
    /// Where it stands.
    pub(crate) step: Step,
    /// What the model asked for counts as.
    pub(crate) from: &'a str,
    /// What the model that serves counts as.
    pub(crate) to: &'a str,
}

impl Descent {
    /// For so many `attempts` of a caller that waits so long for all of them together.
    pub(crate) fn new(attempts: usize, max_wait: Duration) -> Self {
        Self {
            left: attempts,
            since: Instant::now(),
            max_wait,
            waited: Duration::ZERO,
            refused: Vec::new(),
            denied: None,
            marks: Marks::default(),
        }
    }

    /// Asks for the next attempt. `None`: it is not for this call, and the one after it is to be asked for.
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
    ) -> Result<Option<Through>, Refusal> {
        self.left = self.left.saturating_sub(1);
        if self.marks.are_met() && asking.terms.demand != Amounts::ZERO {
            return self.find(pipeline, asking).await;
        }
        let decision = self.decide(pipeline, &asking).await;
        let since = self.since;
        let refused = |error| refused(error, pipeline, (&asking, since));
        let decision = decision.map_err(refused)?;
        let is_over = self.left == 0;
        let ends_here = is_over || !is_for_a_quota(&decision);
        let error = match decision {
            Decision::Admit(admission) if is_mark(&admission, &asking.terms) => {
                self.marks.pass(Some(admission.id));
                return if is_over {
                    Err(self.refusal(pipeline))
                } else {
                    Ok(None)
                };
            }
            Decision::Admit(admission) => {
                let made = self.marks.make(pipeline, admission, &asking.terms).await;
                return made.map(Some).map_err(refused);
            }
            Decision::Deny(denial) => {
                self.note(pipeline, &asking, (&denial.blocked_by, ends_here));
                denial.into()
            }
            Decision::Never(never) => {
                self.note(pipeline, &asking, (&never.blocked_by, ends_here));
                never.into()
            }
        };
        self.refused.push(refused(error));
        self.marks.owe(&asking);
        match ends_here {
            true => Err(self.refusal(pipeline)),
            false => Ok(None),
        }
    }

    /// Asks for an attempt below a mark: whoever left that reserved further down. Nobody reserves anew there, though the ladder
    /// be another one by now and lead past it.
    async fn find(
        &mut self,
        pipeline: &Pipeline,
        asking: Asking<'_>,
    ) -> Result<Option<Through>, Refusal> {
        let refused = |error| refused(error, pipeline, (&asking, self.since));
        let found = find(pipeline, &asking).await.map_err(refused)?;
        match found {
            Some(admission) => {
                let made = self.marks.make(pipeline, admission, &asking.terms).await;
                made.map(Some).map_err(refused)
            }
            None if self.left == 0 => Err(self.refusal(pipeline)),
            None => {
                self.marks.pass(None);
                Ok(None)
            }
        }
    }

    /// Keeps the first denial for the event of a downgrade, and tells of one that stands.
    fn note(
        &mut self,
        pipeline: &Pipeline,
        asking: &Asking<'_>,
        (blocked_by, stands): (&[Standing], bool),
    ) {
        if stands {
            let now = pipeline.store.now();
            pipeline.events.denied(asking.subject, blocked_by, now);
        }
        self.denied.get_or_insert_with(|| {
            let owned = |(label, value): &(&str, &str)| ((*label).to_owned(), (*value).to_owned());
            (
                asking.subject.iter().map(owned).collect(),
                blocked_by.to_vec(),
            )
        });
    }

    /// The answer to a call none of whose attempts is let through.
    pub(crate) fn refusal(&mut self, pipeline: &Pipeline) -> Refusal {
        let ends = |refusal: &Refusal| match &refusal.error {
            ApiError::Denied(denial) => denial.retry_at,
            _ => Time::MAX,
        };
        let all = std::mem::take(&mut self.refused);
        let is_alone = all.len() == 1;
        let first = (0..all.len()).min_by_key(|at| ends(&all[*at]));
        let mut told = None;
        for (at, refusal) in all.into_iter().enumerate() {
            match Some(at) == first {
                true => told = Some(refusal),
                false => pipeline.observer.passed_over(&refusal.error),
            }
        }
        // There is a reservation, and this ladder does not lead to it.
        let told = told.filter(|_| !self.marks.are_met());
        let mut told = told.unwrap_or_else(|| ApiError::OtherLadder.into());
        match &mut told.error {
            // It may be that of an earlier attempt, and time has passed since.
            ApiError::Denied(denial) if !is_alone => {
                denial.retry_after = denial.retry_at.since(pipeline.store.now()).into();
            }
            _ => {}
        }
        told
    }

    /// How long it stood in line for attempts that it was not let through on.
    pub(crate) fn waited(&self) -> Duration {
        self.waited
    }

    /// Tells of what was let through, and of the attempts before it.
    pub(crate) fn tell(
        &mut self,
        pipeline: &Pipeline,
        (door, admission): (Door, &Admission),
        served: ServedBy<'_>,
    ) {
        let ServedBy {
            tier,
            step,
            from,
            to,
        } = served;
        let is_too_large = |refusal: &Refusal| matches!(refusal.error, ApiError::Never(_));
        let reason = match step {
            Step::Asked => None,
            Step::Instead => Some("tier"),
            Step::Below if self.refused.iter().any(is_too_large) => Some("never"),
            Step::Below => Some("quota"),
        };
        let mut passed = Vec::new();
        for refusal in self.refused.drain(..) {
            pipeline.observer.passed_over(&refusal.error);
            passed.push(refusal.told_briefly());
        }
        match reason {
            None => pipeline.observer.admitted(door, admission),
            Some(reason) => {
                if let Some((labels, blocked_by)) = &self.denied {
                    let pairs = labels.iter().map(|(label, value)| (&**label, &**value));
                    let subject: Vec<(&str, &str)> = pairs.collect();
                    let now = pipeline.store.now();
                    let events = &pipeline.events;
                    events.downgraded(&subject, blocked_by, (from, to), now);
                }
                if let (Step::Instead, Some(tier)) = (step, tier) {
                    pipeline
                        .events
                        .replaced(tier, (from, to), pipeline.store.now());
                }
                let downgraded = Downgraded {
                    from,
                    to,
                    reason,
                    passed: &passed.join(" > "),
                };
                pipeline.observer.downgraded(door, admission, &downgraded);
            }
        }
    }

    /// Asks the limits. An attempt that is not the last does not wait for a quota, and goes on to the next when one fills.
    async fn decide(
        &mut self,
        pipeline: &Pipeline,
        asking: &Asking<'_>,
    ) -> Result<Decision, ApiError> {
        let began = Instant::now();
        let left = self.max_wait.saturating_sub(self.since.elapsed());
        let terms = Terms {
            max_wait: left,
            waits_for: match self.left {
                0 => WaitsFor::Anything,
                _ => WaitsFor::Rates,
            },
            ..asking.terms
        };
        let mut decision = pipeline.decide(asking.subject, &terms).await?;
        match &mut decision {
            Decision::Admit(admission) if admission.replay == Replay::Fresh => {
                admission.waited += self.waited;
            }
            Decision::Admit(_) => {}
            _ if left.is_zero() => {}
            _ => self.waited += began.elapsed(),
        }
        Ok(decision)
    }
}

/// The reservation that was made for an attempt under its idempotency key; leaves a mark where there is none.
///
/// # Errors
/// When the store does not answer.
pub(crate) async fn find(
    pipeline: &Pipeline,
    asking: &Asking<'_>,
) -> Result<Option<Admission>, ApiError> {
    let nothing = Terms {
        demand: Amounts::ZERO,
        max_wait: Duration::ZERO,
        ..asking.terms
    };
    Ok(match pipeline.decide(asking.subject, &nothing).await? {
        Decision::Admit(found) if !is_mark_or_new(&found) => Some(found),
        _ => None,
    })
}

/// Why an attempt is refused, with what the ledger is told should that be the answer.
fn refused(
    error: ApiError,
    pipeline: &Pipeline,
    (asking, since): (&Asking<'_>, Instant),
) -> Refusal {
    let refusal = Refusal::of(error, asking.model, asking.terms.demand);
    if !pipeline.recorder.is_on() {
        return refusal;
    }
    let reserved = Reserved {
        at: pipeline.store.now(),
        amounts: asking.terms.demand,
        waited: since.elapsed(),
    };
    refusal.of_subject(Subject::of(asking.subject, asking.asked), &reserved)
}
