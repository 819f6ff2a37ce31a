//! More for a reservation, or a later deadline.
use super::super::desk::Done;
use super::super::link::LinkError;
use super::super::record::Held;
use super::{CHANGES, Shared, Strange};
use crate::store::SettleError;
use std::sync::Arc;
use tallygate_core::{Amounts, Extended, MAX_EXTENSIONS, ReservationId, Span};

impl Shared {
    pub(super) async fn extend(
        &self,
        id: ReservationId,
        more: (Amounts, Option<Span>),
    ) -> Result<Extended, SettleError> {
        let mut held = match self.held(id).await? {
            Ok(held) => held,
            Err(error) => return Err(error.into()),
        };
        for _ in 0..CHANGES {
            if more.0 != Amounts::ZERO && held.parts.len() > MAX_EXTENSIONS {
                return Err(SettleError::TooOften);
            }
            match self.extend_parts(id, &held, more).await? {
                Done::Extended(granted) => {
                    self.remember(id, &held, more.0, &granted);
                    return Ok(granted);
                }
                Done::Changed(changed) => held = changed,
                Done::Failed(error) => {
                    self.holds.forget(id);
                    return Err(error.into());
                }
                Done::Ended(_) | Done::Again => {}
            }
        }
        Err(LinkError::from(Strange).into())
    }

    async fn extend_parts(
        &self,
        id: ReservationId,
        held: &Arc<Held>,
        more: (Amounts, Option<Span>),
    ) -> Result<Done, LinkError> {
        let desk = self.desk();
        let mut granted = None;
        for part in self.parts_of(id, held) {
            let op = desk.extend(id, held, (part.tag, part.accounts.clone()), more);
            let answer = self.pump.ask(part.tag, op).await?;
            let here = Held {
                accounts: part.accounts,
                ..Held::clone(held)
            };
            let done = desk.extended(&here, &more.0, &answer.all, answer.at);
            let done = done.ok_or(Strange)?;
            if !matches!(done, Done::Extended(Extended::Granted { .. })) {
                return Ok(done);
            }
            granted.get_or_insert(done);
        }
        granted.ok_or_else(|| Strange.into())
    }

    fn remember(&self, id: ReservationId, held: &Held, more: Amounts, granted: &Extended) {
        if let Extended::Granted { expires_at, .. } = granted {
            let mut after = held.clone();
            after.deadline = *expires_at;
            if more != Amounts::ZERO {
                after.parts.push(more);
            }
            self.holds.keep(id, Arc::new(after), self.now());
            // A deadline may have come nearer.
            self.made_room(&held.accounts);
        }
    }
}
