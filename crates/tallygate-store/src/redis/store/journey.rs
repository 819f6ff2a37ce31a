//! A demand on its way from one server to the next, apart from its caller: who leaves shall leave nothing behind.
use super::super::link::LinkError;
use super::{Errand, Outcomes, Shared, Turn};
use crate::mailbox::{Receiver, mailbox};
use std::sync::Arc;

type Outcome = Result<Outcomes, LinkError>;

/// A caller's wait for what comes of its demand.
pub(super) struct Journey {
    shared: Arc<Shared>,
    receiver: Receiver<Outcome>,
    done: bool,
}

impl Journey {
    /// Puts a demand to the script in a task of its own.
    pub(super) fn begin(shared: &Arc<Shared>, errand: &Errand, turn: &Turn) -> Self {
        let (reply, receiver) = mailbox();
        let journey = Self {
            shared: shared.clone(),
            receiver,
            done: false,
        };
        let (shared, errand, turn) = (shared.clone(), errand.clone(), turn.clone());
        let runtime = shared.pump.runtime().clone();
        runtime.spawn(async move {
            let outcome = shared.attempt_all(&errand, &turn).await;
            if let Some(unheard) = reply.send(outcome) {
                give_back(&shared, unheard).await;
            }
        });
        journey
    }

    pub(super) async fn outcome(mut self) -> Outcome {
        let outcome = (&mut self.receiver).await;
        self.done = true;
        outcome
    }
}

impl Drop for Journey {
    fn drop(&mut self) {
        if self.done {
            return;
        }
        if let Some(unheard) = self.receiver.leave() {
            let shared = self.shared.clone();
            let runtime = shared.pump.runtime().clone();
            runtime.spawn(async move { give_back(&shared, unheard).await });
        }
    }
}

async fn give_back(shared: &Shared, unheard: Outcome) {
    if let Ok(Outcomes::Admitted(admission, Some(held))) = unheard {
        shared.withdraw(admission.id, &held).await;
    }
}
