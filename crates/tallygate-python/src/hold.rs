//! Capacity that is held, and its one end.
use crate::engine::Core;
use crate::failure::{self, Failure};
use pyo3::prelude::*;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::task::{Context, Waker};
use tallygate_core::{Admission, Amounts, Receipt, ReservationId};
use tallygate_store::{BoxFuture, SettleError, Settlement, Store};
use tokio::runtime::Handle;

/// A reservation. One that nobody was told of is given back when it is dropped; one that nobody can end any more counts as used.
pub(crate) struct Hold {
    core: Arc<Core>,
    id: ReservationId,
    reserved: Amounts,
    stage: AtomicU8,
    owner: Owner,
}

/// Who may end a reservation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Owner {
    /// This object alone.
    This,
    /// Whoever repeats its idempotency key, too.
    Any,
}

/// How a reservation is to end.
#[derive(Debug, Clone, Copy)]
pub(crate) enum End {
    Settle(Settlement),
    Cancel,
}

/// Somebody else has the right to end a reservation.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Taken {
    id: ReservationId,
    reason: &'static str,
}

impl From<Taken> for PyErr {
    fn from(taken: Taken) -> Self {
        failure::duplicate(&taken.id.to_string(), taken.reason)
    }
}

/// Nobody was told of it.
const UNTOLD: u8 = 0;
const OPEN: u8 = 1;
const ENDING: u8 = 2;
const ENDED: u8 = 3;

impl Hold {
    pub(crate) fn new(core: Arc<Core>, admission: &Admission, owner: Owner) -> Self {
        Self {
            core,
            id: admission.id,
            reserved: admission.reserved,
            stage: AtomicU8::new(UNTOLD),
            owner,
        }
    }

    /// One that has ended before anybody was told of it.
    pub(crate) fn ended(core: Arc<Core>, id: ReservationId) -> Self {
        Self {
            core,
            id,
            reserved: Amounts::ZERO,
            stage: AtomicU8::new(ENDED),
            owner: Owner::This,
        }
    }

    pub(crate) fn id(&self) -> ReservationId {
        self.id
    }

    pub(crate) fn core(&self) -> &Arc<Core> {
        &self.core
    }

    /// What is held; what was held at first if it was extended since.
    pub(crate) fn reserved(&self) -> &Amounts {
        &self.reserved
    }

    /// Python has it now.
    pub(crate) fn tell(&self) {
        self.stage.store(OPEN, Ordering::Relaxed);
    }

    /// Whether nothing has ended it, as far as is known here.
    pub(crate) fn is_open(&self) -> bool {
        self.stage.load(Ordering::Relaxed) == OPEN
    }

    /// Takes the right to end it, which is given once.
    ///
    /// # Errors
    /// When somebody has it.
    pub(crate) fn claim(&self) -> Result<(), Taken> {
        let claimed =
            self.stage
                .compare_exchange(OPEN, ENDING, Ordering::AcqRel, Ordering::Acquire);
        let reason = match claimed {
            Ok(_) => return Ok(()),
            Err(ENDING) => "in_progress",
            Err(_) => "already_refunded",
        };
        Err(Taken {
            id: self.id,
            reason,
        })
    }

    /// It has ended, whatever the answer will be.
    pub(crate) fn has_ended(&self) {
        self.stage.store(ENDED, Ordering::Release);
    }

    /// What an answer to its end means for it.
    ///
    /// # Errors
    /// What the store says; it may be tried again if that could not be reached. None: the end is kept, and delivered later.
    pub(crate) fn note(
        &self,
        answer: Result<Receipt, SettleError>,
    ) -> Result<Option<Receipt>, Failure> {
        let stage = match answer {
            Err(SettleError::Store(_)) => OPEN,
            _ => ENDED,
        };
        self.stage.store(stage, Ordering::Release);
        match answer {
            Ok(receipt) => Ok(Some(receipt)),
            Err(SettleError::Kept { .. }) => Ok(None),
            Err(error) => Err(Failure::End { error, id: self.id }),
        }
    }

    /// Gives all back unless it has ended, or is being ended; nobody waits for that.
    pub(crate) fn give_back(&self) {
        if self.claim().is_ok() {
            self.part(End::Cancel);
            self.has_ended();
        }
    }

    /// Ends it though nobody waits for that.
    fn part(&self, end: End) {
        // A closed store has ended its reservations its own way.
        let _ = self.core.with(|held, _| {
            if let Some(memory) = &held.memory {
                let _ = match end {
                    End::Settle(used) => memory.settle_now(self.id, used),
                    End::Cancel => memory.cancel_now(self.id),
                };
                return;
            }
            let _entered = self.core.runtime().map(Handle::enter);
            // Once polled it is carried out.
            let _ = asked(&*held.store, self.id, end)
                .as_mut()
                .poll(&mut Context::from_waker(Waker::noop()));
        });
    }
}

/// What a store says to an end.
pub(crate) fn asked(
    store: &dyn Store,
    id: ReservationId,
    end: End,
) -> BoxFuture<'_, Result<Receipt, SettleError>> {
    match end {
        End::Settle(used) => store.settle(id, used),
        End::Cancel => store.cancel(id),
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        match (*self.stage.get_mut(), self.owner) {
            (UNTOLD, _) => self.part(End::Cancel),
            (OPEN, Owner::This) => self.part(End::Settle(Settlement::Exact(self.reserved))),
            _ => {}
        }
    }
}
