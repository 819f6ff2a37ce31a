//! One decision for all calls with one idempotency key, whichever attempt it falls on.
//!
//! A store knows a key together with its subject, which names the model: each attempt has a name of its own there. So whoever
//! is let through on a lower attempt first leaves a mark under the name of each attempt above: a reservation of nothing, which no
//! limit refuses. The first reservation under a name stands. Whoever meets a mark goes on to the next attempt; whoever meets
//! somebody's real reservation while it leaves its marks gives its own back and answers that one. So all agree, whatever
//! limits have room when each of them asks. Below a mark nobody reserves anew: where the ladder was changed meanwhile and does not
//! lead to the namesake's reservation any more, the answer is that it stands, and no second one is made. Marks live as long as the reservation
//! that they lead to: its name carries theirs, and whoever extends or ends it does so to them. So a repeat finds both or neither.

use tallygate_core::{Admission, Amounts, Decision, Replay, ReservationId};

use super::descent::{Asking, Through};
use super::{Pipeline, Terms};
use crate::wire::ApiError;

/// The attempts above the one that is asked for.
#[derive(Default)]
pub(super) struct Marks {
    /// How many there are.
    above: usize,
    /// Whether one of them has a namesake's mark.
    met: bool,
    /// The marks that are known, each with its attempt.
    known: Vec<(usize, ReservationId)>,
    /// Those that have no mark yet, and whom they were asked for. None without an idempotency key.
    owed: Vec<(usize, Vec<(String, String)>)>,
}

/// Whether this is the mark of another call that went on from here.
pub(super) fn is_mark(admission: &Admission, terms: &Terms<'_>) -> bool {
    let is_nothing = admission.reserved == Amounts::ZERO && terms.demand != Amounts::ZERO;
    terms.idempotency_key.is_some() && admission.replay != Replay::Fresh && is_nothing
}

impl Marks {
    /// The attempt that was asked for last is marked already, by this if it is known.
    pub(super) fn pass(&mut self, mark: Option<ReservationId>) {
        self.known.extend(mark.map(|mark| (self.above, mark)));
        self.above += 1;
        self.met = true;
    }

    /// Whether a namesake was let through below.
    pub(super) fn are_met(&self) -> bool {
        self.met
    }

    /// The attempt that was asked for last is to be marked if a lower one is let through.
    pub(super) fn owe(&mut self, asking: &Asking<'_>) {
        if asking.terms.idempotency_key.is_some() {
            let own = |(label, value): &(&str, &str)| ((*label).to_owned(), (*value).to_owned());
            let subject = asking.subject.iter().map(own).collect();
            self.owed.push((self.above, subject));
        }
        self.above += 1;
    }

    /// Leaves the marks above an attempt that was let through. What is let through in the end may be a namesake's.
    ///
    /// # Errors
    /// When the store does not answer; then nothing is held.
    ///
    /// # Cancel safety
    /// A dropped future holds nothing but marks.
    pub(super) async fn make(
        &mut self,
        pipeline: &Pipeline,
        admission: Admission,
        terms: &Terms<'_>,
    ) -> Result<Through, ApiError> {
        let at = self.above;
        if self.owed.is_empty() {
            return Ok(self.through(at, admission));
        }
        // What a namesake was told of is not given back.
        let is_ours = admission.replay == Replay::Fresh;
        let guarded = is_ours.then(|| pipeline.guard(admission.clone()));
        for (above, subject) in std::mem::take(&mut self.owed) {
            let subject: Vec<_> = subject
                .iter()
                .map(|(label, value)| (label.as_str(), value.as_str()))
                .collect();
            let nothing = Terms {
                demand: Amounts::ZERO,
                ..*terms
            };
            let Decision::Admit(found) = pipeline.decide(&subject, &nothing).await? else {
                continue;
            };
            if !is_mark_or_new(&found) {
                return Ok(self.through(above, found));
            }
            self.known.push((above, found.id));
        }
        if let Some(guarded) = guarded {
            guarded.hold.release();
        }
        Ok(self.through(at, admission))
    }

    /// What was let through on this attempt, with the marks above it, whoever left them: all namesakes are told the same.
    fn through(&mut self, at: usize, admission: Admission) -> Through {
        self.known.sort_unstable_by_key(|(above, _)| *above);
        let above = self.known.iter().take_while(|(above, _)| *above < at);
        Through {
            at,
            admission,
            marks: above.map(|(_, mark)| *mark).collect(),
        }
    }
}

/// Whether nobody was let through on an attempt under this name.
pub(super) fn is_mark_or_new(admission: &Admission) -> bool {
    admission.replay == Replay::Fresh || admission.reserved == Amounts::ZERO
}
