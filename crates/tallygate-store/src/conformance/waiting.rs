//! Callers in line.
use super::poll::{self, Strict};
use super::trial::{Trial, unexpected};
use super::verdict::{Stop, fail_at};
use crate::store::{BoxFuture, Reserve, StoreError};
use std::future::Future;
use std::panic::Location;
use std::task::Poll;
use tallygate_core::{Admission, Decision, Denial};

/// A caller in line.
pub(super) struct Waiting<'a> {
    trial: &'a Trial<'a>,
    future: Strict<BoxFuture<'a, Result<Decision, StoreError>>>,
}

impl Waiting<'_> {
    /// Whether it still waits.
    pub(super) async fn is_waiting(&mut self) -> Result<(), Decision> {
        match poll::once(&mut self.future).await {
            Poll::Ready(Ok(decision)) => Err(decision),
            _ => Ok(()),
        }
    }

    /// Its answer, which needs no more time to pass.
    #[track_caller]
    pub(super) fn answer(self) -> impl Future<Output = Result<Decision, Stop>> + Send {
        let at = Location::caller();
        async move {
            let decision = self.trial.answer(self.future, at).await?;
            decision.map_err(|error| unexpected(at, "a decision", &error))
        }
    }

    #[track_caller]
    pub(super) fn admitted(self) -> impl Future<Output = Result<Admission, Stop>> + Send {
        let (at, answer) = (Location::caller(), self.answer());
        async move {
            match answer.await? {
                Decision::Admit(admission) => Ok(admission),
                other => Err(unexpected(at, "an admission", &other)),
            }
        }
    }

    #[track_caller]
    pub(super) fn denied(self) -> impl Future<Output = Result<Denial, Stop>> + Send {
        let (at, answer) = (Location::caller(), self.answer());
        async move {
            match answer.await? {
                Decision::Deny(denial) => Ok(denial),
                other => Err(unexpected(at, "a denial", &other)),
            }
        }
    }
}

impl<'h> Trial<'h> {
    /// Begins to wait; goes on when so many callers are in line.
    #[track_caller]
    pub(super) fn queue<'a>(
        &'a self,
        ask: Reserve<'a>,
        waiters: usize,
    ) -> impl Future<Output = Result<Waiting<'a>, Stop>> + Send + 'a {
        let at = Location::caller();
        async move {
            let mut future = Strict::new(self.store().reserve(ask));
            let in_line = || self.store().stats().waiters == waiters;
            match poll::until(&mut future, self.harness.patience(), in_line).await {
                None if in_line() => Ok(Waiting {
                    trial: self,
                    future,
                }),
                None => {
                    let seen = self.store().stats();
                    Err(fail_at(at, format!("{waiters} waiters expected: {seen:?}")))
                }
                Some(answer) => Err(unexpected(at, "a caller in line", &answer)),
            }
        }
    }
}
