//! How large a call is, before it leaves.

use std::sync::Arc;

use bytes::Bytes;
use tallygate_core::{Metric, Standing};
use tallygate_tokens::{
    Call, CallError, Cost, Count, Endpoint, Estimate, Method, OutputClass, OutputEstimate,
    OutputPolicy, output_estimate,
};
use tokio::task::spawn_blocking;

use super::{Pipeline, Price};
use crate::wire::ApiError;

/// What is parsed or counted above this is so off the async workers, which are to be held for no more than a
/// millisecond: both run at 100 MB/s or so.
const DONE_IN_PLACE: usize = 64 * 1024;

/// Texts up to this are counted without a look at their bounds, which costs as much.
const COUNTED_AT_ONCE: usize = 4 * 1024;

/// An upper bound is good enough for a limit with this many times as much left: were it four times the count, as it is
/// for English, holding it would still take no room that anybody misses.
const PLENTY: u64 = 64;

/// A call as it was asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Asked {
    /// What is called.
    pub(crate) endpoint: Endpoint,
    /// The model, where the path names it.
    pub(crate) path_model: Option<Box<str>>,
}

/// How large a call is, as far as its limits must know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Size {
    /// Its input.
    pub(crate) input: Count,
    /// Its output, as it is estimated.
    pub(crate) output: Estimate,
    /// How sure the input is.
    pub(crate) certainty: Certainty,
}

/// How sure a size is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Certainty {
    /// The input was counted.
    Counted,
    /// The input is a bound of what counting would give: with it the limits are sure to decide as they would otherwise.
    Bounded,
}

/// Whose call it is, and how its output is estimated.
#[derive(Clone, Copy)]
pub(crate) struct Estimating<'a> {
    /// The class it is learnt in.
    pub(crate) class: OutputClass<'a>,
    /// How its model's output is estimated.
    pub(crate) policy: &'a OutputPolicy,
    /// What its model's tokens cost.
    pub(crate) price: &'a Price,
}

impl Pipeline {
    /// Reads a body as a call.
    ///
    /// # Errors
    /// When it is no such call.
    pub(crate) async fn read(&self, asked: &Asked, body: &Bytes) -> Result<Call, ApiError> {
        if body.len() <= DONE_IN_PLACE {
            return Ok(asked.parse(body)?);
        }
        let _turn = self.counting.acquire().await;
        let (asked, body) = (asked.clone(), body.clone());
        let parsing = spawn_blocking(move || asked.parse(&body));
        Ok(parsing.await.map_err(|_| ApiError::Internal)??)
    }

    /// Finds the size of `call`, counting its input only if its bounds do not decide what `subject`'s limits will say.
    ///
    /// # Errors
    /// When the store cannot be reached.
    pub(crate) async fn size(
        &self,
        call: Call,
        subject: &[(&str, &str)],
        estimating: Estimating<'_>,
    ) -> Result<(Call, Size), ApiError> {
        if let Some(size) = self.bound(&call, subject, estimating).await? {
            return Ok((call, size));
        }
        let (call, input) = self.count(call).await?;
        let size = self.sized(&call, input, estimating);
        Ok((call, size))
    }

    /// A bound of the size of `call`, where that decides.
    async fn bound(
        &self,
        call: &Call,
        subject: &[(&str, &str)],
        estimating: Estimating<'_>,
    ) -> Result<Option<Size>, ApiError> {
        let text = call.text_bytes();
        if text <= COUNTED_AT_ONCE || call.endpoint() == Endpoint::CountTokens {
            return Ok(None);
        }
        let standings = self.store.peek(subject).await?;
        let (low, high) = self.counter.bounds(call);
        let bound = |tokens| {
            let method = Method::Bound;
            self.sized(call, Count { tokens, method }, estimating)
                .as_bound()
        };
        if standings.iter().any(|standing| is_too_small(standing, low)) {
            return Ok(Some(bound(low)));
        }
        let most = bound(high);
        let plenty = |standing| is_plenty(standing, &most, estimating.price);
        // Should the provider not tell the use, the text is counted in place when the call is settled.
        let decides = text <= DONE_IN_PLACE && standings.iter().all(plenty);
        Ok(decides.then_some(most))
    }

    /// Counts the input of `call`.
    ///
    /// # Errors
    /// [`ApiError::Internal`].
    pub(crate) async fn count(&self, call: Call) -> Result<(Call, Count), ApiError> {
        if call.text_bytes() <= DONE_IN_PLACE {
            let input = self.count_now(&call);
            return Ok((call, input));
        }
        let _turn = self.counting.acquire().await;
        let counter = Arc::clone(&self.counter);
        let counting = spawn_blocking(move || {
            let input = counter.input(&call);
            (call, input)
        });
        counting.await.map_err(|_| ApiError::Internal)
    }

    /// Counts the input of a `call` whose text is short.
    pub(super) fn count_now(&self, call: &Call) -> Count {
        match call.endpoint() {
            // Counting is free of tokens, at the provider too.
            Endpoint::CountTokens => Count {
                tokens: 0,
                method: Method::Exact,
            },
            _ => self.counter.input(call),
        }
    }

    /// The size of a call of this input.
    pub(crate) fn sized(&self, call: &Call, input: Count, estimating: Estimating<'_>) -> Size {
        let Estimating { class, policy, .. } = estimating;
        let learned = match policy.estimate {
            OutputEstimate::Learned {
                quantile_per_mille, ..
            } => {
                let learner = self.learner.lock();
                learner.quantile(&class, input.tokens, quantile_per_mille)
            }
            _ => None,
        };
        Size {
            input,
            output: output_estimate(call, input.tokens, policy, learned),
            certainty: Certainty::Counted,
        }
    }
}

impl Asked {
    fn parse(&self, body: &[u8]) -> Result<Call, CallError> {
        Call::parse(self.endpoint, self.path_model.as_deref(), body)
    }
}

impl Size {
    fn as_bound(self) -> Self {
        Self {
            certainty: Certainty::Bounded,
            ..self
        }
    }

    /// How much of `metric` it is.
    fn of(&self, metric: Metric, price: &Price) -> u64 {
        let (input, output) = (self.input.tokens, self.output.tokens);
        match metric {
            Metric::INPUT_TOKENS => input,
            Metric::OUTPUT_TOKENS => output,
            Metric::TOKENS => input.saturating_add(output),
            Metric::COST => price.bound(input, output).map_or(0, Cost::micros),
            _ => 0,
        }
    }
}

/// Whether a limit can never admit an input of at least `low`.
fn is_too_small(standing: &Standing, low: u64) -> bool {
    let counts_input = [Metric::INPUT_TOKENS, Metric::TOKENS].contains(&standing.limit.metric);
    let denies = standing.limit.mode == tallygate_core::Mode::Enforce;
    counts_input && denies && standing.limit.burst < low
}

/// Whether a limit has much more left than `most`.
fn is_plenty(standing: &Standing, most: &Size, price: &Price) -> bool {
    standing.remaining / PLENTY >= most.of(standing.limit.metric, price)
}
