//! More for a reservation, or a later deadline.
use super::super::desk::{Done, More};
use super::super::groups::Group;
use super::super::link::LinkError;
use super::super::names;
use super::super::record::Held;
use super::super::script::Op;
use super::doubt::DOUBTS;
use super::{Shared, Strange};
use crate::store::SettleError;
use std::sync::Arc;
use std::time::Duration;
use tallygate_core::{Amounts, Extended, MAX_EXTENSIONS, ReservationId, Span};

/// How often an extension is tried again because the reservation was changed meanwhile, by other processes.
const ATTEMPTS: u32 = 24;

const LONGEST_PAUSE: Duration = Duration::from_millis(32);

impl Shared {
    pub(crate) async fn extend(
        self: &Arc<Self>,
        id: ReservationId,
        (amounts, ttl): (Amounts, Option<Span>),
    ) -> Result<Extended, SettleError> {
        if let Some(extended) = self.extend_leased(id, (amounts, ttl)).await {
            return extended;
        }
        let more = More::new(amounts, ttl);
        let place = self.turns.place(id);
        let _turn = place.line.lock().await;
        let mut held = match self.held(id).await? {
            Ok(held) => held,
            Err(error) => return Err(error.into()),
        };
        for attempt in 0..ATTEMPTS {
            if amounts != Amounts::ZERO && held.parts.len() > MAX_EXTENSIONS {
                return Err(SettleError::TooOften);
            }
            match self.extend_all(id, &held, &more).await? {
                Done::Extended(granted) => {
                    self.remember(id, &held, amounts, &granted);
                    return Ok(granted);
                }
                Done::Changed(changed) => {
                    held = changed;
                    // Another process changes it as well.
                    tokio::time::sleep(pause(attempt)).await;
                }
                Done::Failed(error) => {
                    self.holds.forget(id);
                    return Err(error.into());
                }
                Done::Ended(_) | Done::Again => {}
            }
        }
        Err(LinkError::Down {
            reason: "others change the reservation all the time".to_owned(),
            retry_after: LONGEST_PAUSE,
        }
        .into())
    }

    /// Extends all parts of a reservation, or none.
    async fn extend_all(
        self: &Arc<Self>,
        id: ReservationId,
        held: &Arc<Held>,
        more: &More,
    ) -> Result<Done, LinkError> {
        let parts = self.parts_of(id, held);
        match &*parts {
            [alone] => self.extend_part((id, alone), held, more).await,
            _ => self.extend_parts(id, (held, &parts), more).await,
        }
    }

    /// The amounts first, which may be denied and are taken back then; the deadline, which never is, when all are held.
    async fn extend_parts(
        self: &Arc<Self>,
        id: ReservationId,
        (held, parts): (&Arc<Held>, &[Group]),
        more: &More,
    ) -> Result<Done, LinkError> {
        let mut after = held.clone();
        let mut done = None;
        if more.amounts != Amounts::ZERO {
            let mut foreseen = self.foreseen(parts, more).await?;
            for pause in DOUBTS {
                if foreseen.is_some() {
                    // Somebody may be about to give back what is in its way.
                    tokio::time::sleep(pause).await;
                    foreseen = self.foreseen(parts, more).await?;
                }
            }
            if let Some(refused) = foreseen {
                return Ok(refused);
            }
            let added = self
                .add_to_parts(id, (held, parts), &more.without_ttl())
                .await?;
            if !is_granted(&added) {
                return Ok(added);
            }
            let mut grown = Held::clone(held);
            grown.parts.push(more.amounts);
            after = Arc::new(grown);
            done = Some(added);
        }
        if done.is_none() || more.ttl.is_some() {
            done = Some(
                self.postpone_parts(id, (&after, parts), &more.without_amounts())
                    .await?,
            );
        }
        done.ok_or_else(|| Strange.into())
    }

    /// What would refuse an extension, if it were asked for now.
    async fn foreseen(&self, parts: &[Group], more: &More) -> Result<Option<Done>, LinkError> {
        let desk = self.desk();
        for part in parts {
            let op = Op::Peek(desk.current(&part.accounts), more.amounts);
            let answer = self.pump.ask(part.tag, op).await?;
            let said = answer.all.operations.get(answer.at);
            let ends = said.and_then(|said| said.get(1..)).unwrap_or(&[]);
            match desk.refused(&part.accounts, &more.amounts, &answer.all, ends) {
                Done::Again => {}
                refused => return Ok(Some(refused)),
            }
        }
        Ok(None)
    }

    async fn add_to_parts(
        self: &Arc<Self>,
        id: ReservationId,
        (held, parts): (&Arc<Held>, &[Group]),
        more: &More,
    ) -> Result<Done, LinkError> {
        let mut granted = None;
        for (at, part) in parts.iter().enumerate() {
            match self.extend_part((id, part), held, more).await {
                Ok(done) if is_granted(&done) => {
                    granted.get_or_insert(done);
                }
                Ok(done) => {
                    self.retract(id, (held, &parts[..at]), more).await;
                    return Ok(done);
                }
                Err(error) => {
                    self.retract_later(id, (held, &parts[..=at]), more);
                    return Err(error);
                }
            }
        }
        granted.ok_or_else(|| Strange.into())
    }

    async fn postpone_parts(
        &self,
        id: ReservationId,
        (held, parts): (&Arc<Held>, &[Group]),
        more: &More,
    ) -> Result<Done, LinkError> {
        let mut granted = None;
        for part in parts {
            let done = self.extend_part((id, part), held, more).await?;
            if granted.is_none() && !is_granted(&done) {
                return Ok(done);
            }
            // What has become of the other parts is their record's business.
            granted.get_or_insert(done);
        }
        granted.ok_or_else(|| Strange.into())
    }

    async fn extend_part(
        &self,
        (id, part): (ReservationId, &Group),
        held: &Arc<Held>,
        more: &More,
    ) -> Result<Done, LinkError> {
        let desk = self.desk();
        let mut held = held.clone();
        loop {
            let op = desk.extend(id, &held, (part.tag, part.accounts.clone()), more);
            let answer = self.pump.ask(part.tag, op).await?;
            let here = Held {
                accounts: part.accounts.clone(),
                ..Held::clone(&held)
            };
            let done = desk.extended(&here, &more.amounts, &answer.all, answer.at);
            match done.ok_or(Strange)? {
                // An extension that did not come through everywhere: the record says how many parts there are.
                Done::Changed(other)
                    if part.tag != names::home(id) && other.parts.len() != held.parts.len() =>
                {
                    held = other;
                }
                done => return Ok(done),
            }
        }
    }

    /// Takes an extension back where it was made, the last first.
    async fn retract(&self, id: ReservationId, (held, parts): (&Arc<Held>, &[Group]), more: &More) {
        let desk = self.desk();
        for part in parts.iter().rev() {
            let op = desk.retract(id, held, (part.tag, part.accounts.clone()), more);
            // What cannot be given back now is when the reservation ends.
            let _ = self.pump.ask(part.tag, op).await;
            self.made_room(&part.accounts);
        }
    }

    /// The same without the caller, who has been told that the store is out of reach.
    fn retract_later(
        self: &Arc<Self>,
        id: ReservationId,
        (held, parts): (&Arc<Held>, &[Group]),
        more: &More,
    ) {
        let (shared, held, parts, more) = (self.clone(), held.clone(), parts.to_vec(), *more);
        self.pump.runtime().spawn(async move {
            shared.retract(id, (&held, &parts), &more).await;
        });
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

fn is_granted(done: &Done) -> bool {
    matches!(done, Done::Extended(Extended::Granted { .. }))
}

/// How long an extension that met another is put off: at random, so that they do not meet again, and longer each time.
fn pause(attempt: u32) -> Duration {
    let longest = Duration::from_millis(1 << attempt.min(5)).min(LONGEST_PAUSE);
    let [share] = names::random::<1>();
    longest * u32::from(share) / 256
}
