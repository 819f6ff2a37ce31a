//! Why a request is not served as asked, and what it asked.

use tallygate_core::Amounts;

use crate::wire::ApiError;

/// An error with what the answer to it tells of the request.
#[derive(Debug)]
pub(crate) struct Refusal {
    pub(crate) error: ApiError,
    /// The model asked for, as the caller spelt it; empty where that is not known.
    pub(crate) model: String,
    /// What was asked of the limits.
    pub(crate) demand: Amounts,
}

impl Refusal {
    /// `error` for a call of `model` that asked for `demand`.
    pub(crate) fn of(error: ApiError, model: &str, demand: Amounts) -> Self {
        Self {
            error,
            model: model.to_owned(),
            demand,
        }
    }
}

impl From<ApiError> for Refusal {
    fn from(error: ApiError) -> Self {
        Self {
            error,
            model: String::new(),
            demand: Amounts::ZERO,
        }
    }
}
