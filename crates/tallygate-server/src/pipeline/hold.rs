//! An open reservation that ends once, whatever becomes of the request that made it.

use std::sync::Arc;

use tallygate_core::{Amounts, Receipt, ReservationId};
use tallygate_store::{SettleError, Settlement, Store};

use super::settler::{Errand, SettlerHandle};

/// How a reservation is to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ending {
    /// Charge what was used.
    Settle(Settlement),
    /// Give all back: nothing was served.
    Cancel,
}

impl Ending {
    /// Carries it out.
    ///
    /// # Errors
    /// [`SettleError`], as the store gives it.
    pub(crate) async fn carry_out(
        self,
        store: &dyn Store,
        id: ReservationId,
    ) -> Result<Receipt, SettleError> {
        match self {
            Self::Settle(usage) => store.settle(id, usage).await,
            Self::Cancel => store.cancel(id).await,
        }
    }
}

/// What is to be done once a reservation has ended.
pub(crate) type Then = Box<dyn FnOnce() + Send>;

/// A reservation of this process. Dropped before it was ended, it is ended in the background by what
/// [`Hold::or_else`] said last; until that is called, it is given back.
pub(crate) struct Hold {
    id: ReservationId,
    reserved: Amounts,
    otherwise: Ending,
    then: Option<Then>,
    settler: Arc<SettlerHandle>,
    open: bool,
}

impl Hold {
    /// Guards the reservation `id` of `reserved`.
    pub(crate) fn new(id: ReservationId, reserved: Amounts, settler: Arc<SettlerHandle>) -> Self {
        Self {
            id,
            reserved,
            otherwise: Ending::Cancel,
            then: None,
            settler,
            open: true,
        }
    }

    /// The reservation's name.
    pub(crate) fn id(&self) -> ReservationId {
        self.id
    }

    /// What is held.
    pub(crate) fn reserved(&self) -> &Amounts {
        &self.reserved
    }

    /// Notes that more is held now.
    pub(crate) fn grown_to(&mut self, reserved: Amounts) {
        self.reserved = reserved;
    }

    /// What happens to the reservation if nobody ends it.
    pub(crate) fn or_else(&mut self, ending: Ending) {
        self.otherwise = ending;
    }

    /// What is done when it has ended, now or in the background, or the store has it to end.
    pub(crate) fn and_then(&mut self, then: Then) {
        self.then = Some(then);
    }

    /// Leaves the reservation to whoever is told its name.
    pub(crate) fn release(mut self) {
        self.open = false;
    }

    /// Ends the reservation now. When the store does not answer it is tried again in the background, and there is no
    /// receipt yet.
    ///
    /// # Cancel safety
    /// Dropped half-way, the same ending is carried out in the background: ending twice alike is ending once.
    pub(crate) async fn end(mut self, ending: Ending) -> Option<Receipt> {
        self.otherwise = ending;
        let receipt = match ending.carry_out(self.settler.store(), self.id).await {
            Ok(receipt) => {
                self.open = false;
                self.settler.ended(&receipt);
                Some(receipt)
            }
            Err(error) => {
                self.open = self.settler.is_worth_another_try(self.id, &error);
                None
            }
        };
        if !self.open
            && let Some(then) = self.then.take()
        {
            then();
        }
        receipt
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        if self.open {
            self.settler.send(Errand {
                id: self.id,
                ending: self.otherwise,
                then: self.then.take(),
            });
        }
    }
}
