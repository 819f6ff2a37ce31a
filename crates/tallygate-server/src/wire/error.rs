//! Everything that can go wrong at the edge, once, whoever is told.

use std::time::Duration;

use http::StatusCode;
use tallygate_core::{Denial, FullError, Never, Outcome, Standing};
use tallygate_store::StoreError;
use tallygate_tokens::CallError;

use super::wait::{Wait, rfc3339};
use super::{Ask, Voice};
use crate::config::{Forbidden, NoRoute, Unread};
use crate::identify::{Rejection, Role};

/// Why a request is not served as asked. Messages are for the caller: no texts of prompts, no keys, nothing of other callers.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ApiError {
    /// The body is not what the endpoint takes.
    #[error("{message}")]
    Invalid {
        /// What is wrong, with line and column where it is no JSON.
        message: String,
        /// The path of the field it is about.
        field: Option<String>,
    },
    /// No key, or not a known one.
    #[error(transparent)]
    Rejected(#[from] Rejection),
    /// The key lacks a role.
    #[error("the api key does not have the role `{}`", .0.word())]
    Role(Role),
    /// The caller's tier does not have the model.
    #[error(transparent)]
    Forbidden(#[from] Forbidden),
    /// Nothing is served at this path.
    #[error("nothing is served at {0}")]
    NoPath(String),
    /// The path ends like one that is served, and is another: a provider might take it for that one.
    #[error("nothing is served at {path}; if it is meant for {meant}, write it so")]
    Misspelt {
        /// The path asked for.
        path: String,
        /// The call that ends like it.
        meant: &'static str,
    },
    /// The call may use what a budget or a tier keeps, and nobody can say how much.
    #[error(
        "this call cannot be sized and {by}: its operator can let such calls pass with `passthrough: allow` at the upstream `{upstream}`"
    )]
    Unsized {
        /// What it would escape.
        by: Unread,
        /// Where it was to go.
        upstream: String,
    },
    /// The path is served, with other methods.
    #[error("{path} takes {allowed} only")]
    Method {
        /// The path asked for.
        path: String,
        /// The method it takes.
        allowed: &'static str,
    },
    /// A limit counts money, and nobody knows what the model costs.
    #[error(
        "no price of {} is known and a limit counts money: its operator can add the price under `prices: models`",
        named(.0)
    )]
    Unpriced(String),
    /// No upstream serves the model here.
    #[error(transparent)]
    NoRoute(#[from] NoRoute),
    /// The body is larger than `bounds.max_body`.
    #[error("the body is larger than the {0} bytes that are accepted")]
    TooLarge(usize),
    /// The body took longer than `bounds.body_time`.
    #[error("the body did not arrive within {0:?}")]
    TooSlow(Duration),
    /// A limit has no room now.
    #[error("a limit has no room now")]
    Denied(Box<Denial>),
    /// The demand is larger than a limit can ever admit.
    #[error("the request is larger than a limit can ever admit")]
    Never(Box<Never>),
    /// A bound of the store or of the waiting line is reached.
    #[error("the limiter is full: {0}")]
    Full(FullError),
    /// The store does not answer or takes nothing, and its limits are closed.
    #[error("the limits cannot be checked now: {trouble}")]
    StoreDown {
        /// What is wrong with it, in a few words.
        trouble: String,
        /// When to try again.
        retry_after: Duration,
    },
    /// The upstream was not reached: the call was not sent.
    #[error("the upstream `{0}` cannot be reached")]
    Unreachable(String),
    /// The upstream did not answer in time.
    #[error("the upstream `{0}` did not answer in time")]
    TimedOut(String),
    /// The upstream broke off or spoke no HTTP.
    #[error("the upstream `{0}` broke off its answer")]
    BrokenOff(String),
    /// A limit has no room for the rest of a streamed answer.
    #[error("a limit has no room for the rest of this answer")]
    CutOff,
    /// The server is stopping.
    #[error("the server is stopping")]
    Draining,
    /// An earlier call with the same idempotency key was served by a model that this one's ladder does not lead to: it
    /// has none, or another one by now.
    #[error(
        "an earlier call with this idempotency key was served by another model, which this one cannot have"
    )]
    OtherLadder,
    /// No reservation of this name is known.
    #[error("the reservation is unknown: never made, or ended too long ago")]
    UnknownReservation,
    /// The reservation ended otherwise before.
    #[error("the reservation has ended already")]
    Ended {
        /// The outcome that stands.
        outcome: Outcome,
        /// The body that the call which ended it was answered.
        receipt: serde_json::Value,
    },
    /// A defect of this server.
    #[error("an internal error")]
    Internal,
}

impl ApiError {
    /// A body that is not what the endpoint takes.
    #[must_use]
    pub fn invalid(message: impl Into<String>, field: Option<&str>) -> Self {
        Self::Invalid {
            message: message.into(),
            field: field.map(str::to_owned),
        }
    }

    /// The status a provider would answer with; the decision API says 422 for [`Self::Never`].
    #[must_use]
    pub fn status(&self) -> StatusCode {
        match self {
            Self::Invalid { .. } | Self::Unpriced(_) | Self::Rejected(Rejection::BadHeader(_)) => {
                StatusCode::BAD_REQUEST
            }
            Self::Rejected(_) => StatusCode::UNAUTHORIZED,
            Self::Role(_) | Self::Forbidden(_) | Self::Unsized { .. } => StatusCode::FORBIDDEN,
            Self::NoPath(_)
            | Self::Misspelt { .. }
            | Self::NoRoute(_)
            | Self::UnknownReservation => StatusCode::NOT_FOUND,
            Self::Method { .. } => StatusCode::METHOD_NOT_ALLOWED,
            Self::TooSlow(_) => StatusCode::REQUEST_TIMEOUT,
            Self::Ended { .. } | Self::OtherLadder => StatusCode::CONFLICT,
            Self::TooLarge(_) => StatusCode::PAYLOAD_TOO_LARGE,
            Self::Denied(_) | Self::Never(_) | Self::CutOff => StatusCode::TOO_MANY_REQUESTS,
            Self::Internal => StatusCode::INTERNAL_SERVER_ERROR,
            Self::Unreachable(_) | Self::BrokenOff(_) => StatusCode::BAD_GATEWAY,
            Self::Full(_) | Self::StoreDown { .. } | Self::Draining => {
                StatusCode::SERVICE_UNAVAILABLE
            }
            Self::TimedOut(_) => StatusCode::GATEWAY_TIMEOUT,
        }
    }

    /// A word for metrics and logs.
    #[must_use]
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Invalid { .. } => "invalid",
            Self::Rejected(_) => "rejected",
            Self::Role(_) | Self::Forbidden(_) => "forbidden",
            Self::Unsized { .. } => "unsized_call",
            Self::NoPath(_) | Self::Misspelt { .. } | Self::Method { .. } => "no_path",
            Self::NoRoute(_) => "no_route",
            Self::Unpriced(_) => "unpriced",
            Self::TooLarge(_) => "too_large",
            Self::TooSlow(_) => "too_slow",
            Self::Denied(_) => "denied",
            Self::Never(_) => "never",
            Self::Full(_) => "full",
            Self::StoreDown { .. } => "store_down",
            Self::Unreachable(_) => "unreachable",
            Self::TimedOut(_) => "timed_out",
            Self::BrokenOff(_) => "broken_off",
            Self::CutOff => "cut_off",
            Self::Draining => "draining",
            Self::OtherLadder => "other_ladder",
            Self::UnknownReservation => "unknown_reservation",
            Self::Ended { .. } => "ended",
            Self::Internal => "internal",
        }
    }

    /// The wait that is told, where there is one: exact to callers of the decision API, with a little jitter to SDKs.
    pub(super) fn wait(&self, ask: &Ask<'_>) -> Option<Wait> {
        match (self, ask.voice) {
            (Self::Denied(denial), Voice::Decision) => Some(Wait::exact(denial.retry_after)),
            (Self::Denied(denial), Voice::Dialect(_)) => {
                Some(Wait::jittered(denial.retry_after, ask.request_id))
            }
            (Self::StoreDown { retry_after, .. }, _) => {
                Some(Wait::jittered(*retry_after, ask.request_id))
            }
            (Self::Full(_) | Self::Draining, _) => Some(Wait::jittered(FULL_WAIT, ask.request_id)),
            _ => None,
        }
    }

    /// Where the limits in the way stand.
    pub(super) fn standings(&self) -> Option<&[Standing]> {
        match self {
            Self::Denied(denial) => Some(&denial.blocked_by),
            Self::Never(never) => Some(&never.blocked_by),
            _ => None,
        }
    }
}

/// A model as messages name it.
fn named(model: &str) -> String {
    match model {
        "" => "this call, which names no model,".to_owned(),
        model => format!("the model `{model}`"),
    }
}

/// How long a caller is asked to stay away when the server is full or stopping: nobody knows when that ends.
const FULL_WAIT: Duration = Duration::from_secs(1);

impl From<Denial> for ApiError {
    fn from(denial: Denial) -> Self {
        Self::Denied(Box::new(denial))
    }
}

impl From<Never> for ApiError {
    fn from(never: Never) -> Self {
        Self::Never(Box::new(never))
    }
}

impl From<CallError> for ApiError {
    fn from(error: CallError) -> Self {
        let field = match &error {
            CallError::Missing { path }
            | CallError::Repeated { path }
            | CallError::WrongType { path, .. } => {
                Some(path.clone()).filter(|path| !path.is_empty())
            }
            _ => None,
        };
        Self::Invalid {
            message: error.to_string(),
            field,
        }
    }
}

impl From<StoreError> for ApiError {
    fn from(error: StoreError) -> Self {
        let trouble = error.trouble();
        match error {
            StoreError::Full(full) => Self::Full(full),
            StoreError::Down { retry_after, .. } => Self::StoreDown {
                trouble: trouble.unwrap_or_default(),
                retry_after,
            },
            _ => Self::Internal,
        }
    }
}

/// The instant of a wait for bodies that tell one.
pub(super) fn instant(denial: &Denial) -> String {
    rfc3339(denial.retry_at)
}
