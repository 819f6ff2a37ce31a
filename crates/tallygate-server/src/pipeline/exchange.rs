//! What is seen of the exchange with an upstream, to be told when the account closes.

use std::sync::Arc;
use std::time::Instant;

use http::StatusCode;
use tallygate_tokens::{Count, Estimate, Usage};

use super::account::AccountOf;
use crate::observe::{Answered, End, Observer, Sizing};

/// A call as it was sized before it left.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sizes {
    /// Its input.
    pub(crate) input: Count,
    /// Its output.
    pub(crate) output: Estimate,
}

/// One call's exchange with its upstream.
pub(super) struct Exchange {
    observer: Arc<Observer>,
    sent: Instant,
    first: Option<Instant>,
    status: Option<StatusCode>,
    failed: Option<&'static str>,
}

impl Exchange {
    /// An exchange that begins now.
    pub(super) fn begin(observer: Arc<Observer>) -> Self {
        Self {
            observer,
            sent: Instant::now(),
            first: None,
            status: None,
            failed: None,
        }
    }

    /// The head of the answer came.
    pub(super) fn answered(&mut self, status: StatusCode) {
        self.status = Some(status);
    }

    /// A piece of a streamed answer came.
    pub(super) fn heard(&mut self) {
        self.first.get_or_insert_with(Instant::now);
    }

    /// It failed, for this reason.
    pub(super) fn failed(&mut self, reason: &'static str) {
        self.failed = Some(reason);
    }

    /// Tells of the exchange that is over.
    pub(super) fn tell(&self, of: &AccountOf, usage: Option<&Usage>) {
        let end = match (self.failed, self.status) {
            (Some(reason), _) => End::Failed(reason),
            (None, Some(status)) => End::Status(status.as_u16()),
            (None, None) => End::Failed("abandoned"),
        };
        self.observer.answered(&Answered {
            endpoint: of.endpoint,
            upstream: of.upstream.name(),
            model: &of.model,
            response_model: None,
            end,
            took: self.sent.elapsed(),
            first_token: self.first.map(|first| first.duration_since(self.sent)),
            usage,
        });
        if let Some(usage) = usage {
            self.observer.sized(&Sizing {
                model: &of.model,
                input: (of.sizes.input.tokens, of.sizes.input.method),
                output: (of.sizes.output.tokens, of.sizes.output.method),
                usage,
            });
        }
    }
}
