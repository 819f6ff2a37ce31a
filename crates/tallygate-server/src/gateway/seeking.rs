//! From a call to the attempt at it that is let through.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tallygate_core::Amounts;
use tallygate_store::WaitsFor;
use tallygate_tokens::{Call, Dialect, Endpoint};

use super::TTL_SLACK;
use crate::observe::{Door, Stage};
use crate::pipeline::{
    Admitted, Asked, Asking, Attempt, Caller, Descent, Laps, Pipeline, Price, Refusal, Size, Terms,
    Through, Watched, labels,
};
use crate::wire::ApiError;

/// Whose call it is, and how long it waits.
pub(super) struct Seeking<'a> {
    pub(super) pipeline: &'a Arc<Pipeline>,
    pub(super) caller: &'a Caller,
    pub(super) endpoint: Endpoint,
    pub(super) max_wait: Duration,
}

/// A call, and the body that says it.
pub(super) struct Worded {
    pub(super) call: Call,
    pub(super) body: Bytes,
}

/// A call that may go, and as what.
pub(super) struct Granted<'b, 'a> {
    pub(super) attempt: &'b Attempt<'a>,
    pub(super) worded: Worded,
    pub(super) size: Size,
    pub(super) price: Price,
    pub(super) admitted: Admitted,
    /// Whom it counts for, where something is told of that.
    pub(super) watched: Option<Watched>,
}

impl<'a> Seeking<'a> {
    /// Words and sizes one attempt after the other and asks for it, until one is let through.
    ///
    /// # Errors
    /// Of all refusals the one that ends first; what else goes wrong on the way.
    pub(super) async fn seek<'b>(
        &self,
        attempts: &'b [Attempt<'a>],
        asked: Worded,
        laps: &mut Laps,
    ) -> Result<Granted<'b, 'a>, Refusal> {
        let mut descent = Descent::new(attempts.len(), self.max_wait);
        let mut worded = asked;
        for attempt in attempts {
            worded = self.reworded(worded, attempt.name).await?;
            let known = attempt.labels(self.caller, self.endpoint);
            let subject = labels(self.caller.identity(), &known);
            let price = attempt.price(self.caller);
            self.caller
                .may_count(&price, (attempt.name, &subject))
                .map_err(|error| Refusal::of(error, attempt.name, Amounts::ZERO))?;
            let estimating = attempt.estimating(self.caller, (self.endpoint, &price));
            let (call, size) = self
                .pipeline
                .size(worded.call, &subject, estimating)
                .await?;
            worded.call = call;
            laps.end(Stage::Size);
            let asking = Asking {
                model: worded.call.model(),
                asked: attempt.asked,
                subject: &subject,
                terms: self.terms(price.held(size.input.tokens, size.output.tokens)),
            };
            // Without an idempotency key what is let through is what was asked for.
            if let Some(Through { admission, .. }) = descent.ask(self.pipeline, asking).await? {
                let waited = admission.waited.saturating_sub(descent.waited());
                laps.end_after(Stage::Admit, waited);
                let admitted = self.pipeline.guard(admission);
                let told = (Door::Gateway, &admitted.admission);
                descent.tell(
                    self.pipeline,
                    told,
                    attempt.served_by(self.caller.identity().label("tier")),
                );
                let watched = self.pipeline.watched(&subject, &admitted.admission);
                return Ok(Granted {
                    attempt,
                    worded,
                    size,
                    price,
                    admitted,
                    watched,
                });
            }
            laps.skip();
        }
        Err(descent.refusal(self.pipeline))
    }

    /// The same call for another model.
    async fn reworded(&self, worded: Worded, name: &str) -> Result<Worded, ApiError> {
        if worded.call.model() == name {
            return Ok(worded);
        }
        let (path_model, body) = match self.endpoint.dialect() {
            Dialect::Gemini => (Some(Box::from(name)), worded.body),
            _ => (None, Bytes::from(worded.call.with_model(name))),
        };
        let asked = Asked {
            endpoint: self.endpoint,
            path_model,
        };
        let call = self.pipeline.read(&asked, &body).await?;
        Ok(Worded { call, body })
    }

    fn terms(&self, demand: Amounts) -> Terms<'static> {
        Terms {
            demand,
            ttl: self.caller.config().bounds().total_time + TTL_SLACK,
            door: Door::Gateway,
            max_wait: self.max_wait,
            waits_for: WaitsFor::Anything,
            idempotency_key: None,
        }
    }
}
