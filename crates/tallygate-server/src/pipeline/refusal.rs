//! Why a request is not served as asked, and what it asked.

use std::sync::Arc;

use tallygate_core::{Amounts, Standing};

use tallygate_store::usage::Outcome;

use crate::ledger::{Entry, Recorder, Reserved, Subject};
use crate::wire::ApiError;

/// An error with what the answer to it tells of the request.
#[derive(Debug)]
pub(crate) struct Refusal {
    pub(crate) error: ApiError,
    /// The model asked for, as the caller spelt it; empty where that is not known.
    pub(crate) model: String,
    /// What was asked of the limits.
    pub(crate) demand: Amounts,
    /// The model that was to serve, and the one asked for, where those are two.
    pub(crate) served_by: Option<(String, String)>,
    /// What the ledger is told, if a limit is why.
    denied: Option<Box<Entry>>,
}

impl Refusal {
    /// `error` for a call of `model` that asked for `demand`.
    pub(crate) fn of(error: ApiError, model: &str, demand: Amounts) -> Self {
        Self {
            error,
            model: model.to_owned(),
            demand,
            served_by: None,
            denied: None,
        }
    }

    /// The same, where it was `served` that did not serve who asked for `asked`.
    pub(crate) fn served_by(mut self, served: &str, asked: &str) -> Self {
        self.served_by = Some((served.to_owned(), asked.to_owned()));
        self
    }

    /// The same, of a call of `subject` for which so much was asked.
    pub(crate) fn of_subject(mut self, subject: Subject, reserved: &Reserved) -> Self {
        self.denied = Some(Box::new(Entry::new(subject, reserved)));
        self
    }

    /// The model and the limits that refused it, for the log.
    pub(crate) fn told_briefly(&self) -> String {
        let blocked_by = match &self.error {
            ApiError::Denied(denial) => &*denial.blocked_by,
            ApiError::Never(never) => &never.blocked_by,
            _ => &[],
        };
        let limits = blocked_by.iter().map(|standing| &*standing.limit.name);
        format!("{}: {}", self.model, limits.collect::<Vec<_>>().join(", "))
    }

    /// Tells the ledger, if a limit is why. Once.
    pub(crate) fn record(&mut self, recorder: &Recorder) {
        let first = |blocked_by: &[Standing]| {
            let first = blocked_by.first();
            first.map_or_else(Arc::default, |standing| Arc::clone(&standing.limit.name))
        };
        let (outcome, limit): (_, Arc<str>) = match &self.error {
            ApiError::Denied(denial) => (Outcome::Denied, first(&denial.blocked_by)),
            ApiError::Never(never) => (Outcome::Never, first(&never.blocked_by)),
            ApiError::Unsized { by, .. } => (Outcome::Denied, by.limit().into()),
            _ => return,
        };
        if let Some(entry) = self.denied.take() {
            recorder.record(entry.denied(outcome, &limit));
        }
    }
}

impl From<ApiError> for Refusal {
    fn from(error: ApiError) -> Self {
        Self {
            error,
            model: String::new(),
            demand: Amounts::ZERO,
            served_by: None,
            denied: None,
        }
    }
}
