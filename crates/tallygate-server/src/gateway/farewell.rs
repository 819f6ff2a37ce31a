//! What a caller is told when its streamed answer is cut here.

use std::sync::Arc;

use bytes::Bytes;
use tallygate_core::Amounts;
use tallygate_tokens::Endpoint;

use super::clock::Overdue;
use crate::config::Upstream;
use crate::identify::Rejection;
use crate::pipeline::{Account, Pipeline};
use crate::wire::{self, ApiError, Ask, Voice};

/// Why an answer was cut here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Cut {
    /// It ran over one of its times.
    #[error(transparent)]
    Overdue(#[from] Overdue),
    /// It outgrew its hold.
    #[error("the answer outgrew what was reserved for it")]
    Overrun,
    /// The key of the call was revoked.
    #[error("the api key was revoked")]
    Revoked,
}

/// The last event of an answer that is cut.
pub(super) struct Farewell {
    endpoint: Endpoint,
    model: Arc<str>,
    upstream: Arc<Upstream>,
    pipeline: Arc<Pipeline>,
}

impl Farewell {
    /// For an answer to the call of `account`.
    pub(super) fn of(account: &Account) -> Self {
        let of = account.of();
        Self {
            endpoint: of.endpoint,
            model: Arc::clone(&of.model),
            upstream: Arc::clone(&of.upstream),
            pipeline: Arc::clone(account.pipeline()),
        }
    }

    /// Why the answer ends, as it is told.
    pub(super) fn error(&self, cut: Cut) -> ApiError {
        match cut {
            Cut::Overdue(_) => ApiError::TimedOut(self.upstream.name().to_owned()),
            Cut::Overrun => ApiError::CutOff,
            Cut::Revoked => ApiError::Rejected(Rejection::Revoked),
        }
    }

    /// Why an answer ends that the upstream broke off.
    pub(super) fn broken_off(&self) -> ApiError {
        ApiError::BrokenOff(self.upstream.name().to_owned())
    }

    /// The event for `error`, in the form of the endpoint's own.
    pub(super) fn event(&self, error: &ApiError) -> Bytes {
        let ask = Ask {
            voice: Voice::Dialect(self.endpoint.dialect()),
            model: &self.model,
            demand: &Amounts::ZERO,
            request_id: &self.pipeline.request_id(),
            now: self.pipeline.store().now(),
        };
        wire::stream_error(error, &ask, self.endpoint)
    }
}
