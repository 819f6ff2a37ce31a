//! Ending reservations in both engines.
use super::Twins;
use crate::redis::desk::Done;
use crate::redis::names;
use crate::redis::record::{Ending, Held};
use crate::redis::script::Op as Message;
use crate::redis::script::tests::case::Use;
use crate::redis::script::tests::verdict::{Differs, Verdict};
use std::sync::Arc;
use tallygate_core::{Amounts, EndError, Outcome, Receipt, Stated, Used};

/// How a reservation ended in the core or the script.
pub(super) type End = Result<Receipt, EndError>;

impl Twins<'_> {
    pub(super) fn settle(&mut self, nth: usize, used: Use) -> Verdict {
        match self.pair(nth) {
            Some(at) => self.end(at, Outcome::Settled, ending(used, &self.pairs[at].held)),
            None => Ok(()),
        }
    }

    pub(super) fn cancel(&mut self, nth: usize) -> Verdict {
        let nothing = Ending::Exactly(Amounts::ZERO);
        self.pair(nth)
            .map_or(Ok(()), |at| self.end(at, Outcome::Cancelled, nothing))
    }

    fn end(&mut self, at: usize, outcome: Outcome, ending: Ending) -> Verdict {
        let core = self.end_core(at, outcome, ending);
        // Who settles may know of no extension yet.
        let mut held = self.known(at);
        let script = loop {
            let answers = self.say(self.finishing(at, &held, outcome, ending));
            let done = self.desk.finished(outcome, &answers, 0);
            match done.ok_or("no answer")? {
                Done::Ended(receipt) => break Ok(receipt),
                Done::Failed(error) => break Err(error),
                Done::Changed(now) => held = now,
                other => return Err(Differs::Wrong(format!("an end answered {other:?}"))),
            }
        };
        self.compare_end(at, &core, &script)
    }

    /// What a caller thinks that a reservation holds: as it is, or as it was first.
    pub(super) fn known(&self, at: usize) -> Arc<Held> {
        let pair = &self.pairs[at];
        match at % 3 {
            0 => pair.first.clone(),
            _ => pair.held.clone(),
        }
    }

    pub(super) fn finishing(
        &self,
        at: usize,
        held: &Arc<Held>,
        outcome: Outcome,
        ending: Ending,
    ) -> Message {
        let id = self.pairs[at].script;
        let place = (names::home(id), held.accounts.clone());
        Message::Finish(self.desk.finish(id, held, place, (outcome, ending)))
    }

    pub(super) fn end_core(&mut self, at: usize, outcome: Outcome, ending: Ending) -> End {
        let id = self.pairs[at].core;
        match outcome {
            Outcome::Cancelled => self.ledger.cancel(id, self.now),
            _ => self.ledger.settle(id, used_of(ending), self.now),
        }
    }

    pub(super) fn compare_end(&mut self, at: usize, core: &End, script: &End) -> Verdict {
        if core.is_ok() && self.pairs[at].is_open {
            self.close(at);
        }
        self.slack.end(core, script, self.pairs[at].withdrawn)
    }

    fn close(&mut self, at: usize) {
        self.pairs[at].is_open = false;
        self.pairs[at].ends = self.now;
    }

    pub(super) fn withdraw(&mut self, nth: usize) {
        let Some(at) = self.pair(nth) else {
            return;
        };
        let open = self.ledger.open();
        self.ledger.withdraw(self.pairs[at].core, self.now);
        let gone = self.ledger.open() < open;
        let (id, held) = (self.pairs[at].script, self.pairs[at].held.clone());
        let place = (names::home(id), held.accounts.clone());
        let message = self.desk.withdraw(id, &held, place);
        self.say(message);
        if gone {
            self.pairs[at].withdrawn = true;
            self.close(at);
        }
    }
}

pub(super) fn ending(used: Use, held: &Held) -> Ending {
    match used {
        Use::Share(share) => {
            let of = |amount: u64, _| (u128::from(amount) * u128::from(share) / 1000) as u64;
            Ending::Exactly(held.total().zip(&Amounts::ZERO, of))
        }
        Use::Exactly(amounts) => Ending::Exactly(amounts),
        Use::AtLeast(amounts) => Ending::AtLeast(amounts),
        Use::Stated(amounts) => {
            let mut stated = Stated::default();
            amounts
                .iter()
                .for_each(|(metric, amount)| stated.set(metric, amount));
            Ending::Stated(stated)
        }
    }
}

fn used_of(ending: Ending) -> Used {
    match ending {
        Ending::Exactly(amounts) => Used::Exactly(amounts),
        Ending::Stated(stated) => Used::Stated(stated),
        Ending::AtLeast(amounts) => Used::AtLeast(amounts),
    }
}
