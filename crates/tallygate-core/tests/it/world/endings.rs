//! Ending reservations: once, with the outcome that stands.
use super::{World, unexpected};
use crate::op::{Op, Use};
use crate::oracle::State;
use crate::runner::{Answer, Runner};
use tallygate_core::{Amounts, EndError, Metric, Outcome, Receipt, ReservationId, Used};

impl World {
    pub(super) fn settle(&mut self, op: &Op, nth: usize, used: Use) {
        let Some(at) = Runner::nth(nth, self.runner.made.len()) else {
            return;
        };
        let used = used.of(&self.runner.made[at].held);
        self.end(op, self.runner.made[at].id, (Outcome::Settled, used));
    }

    pub(super) fn cancel(&mut self, op: &Op, nth: usize) {
        let Some(id) = self.nth_id(nth) else { return };
        let nothing = Used::Exactly(Amounts::ZERO);
        self.end(op, id, (Outcome::Cancelled, nothing));
    }

    /// What no other caller was told of is as if it had never been.
    pub(super) fn withdraw(&mut self, op: &Op, nth: usize) {
        let Some(id) = self.nth_id(nth) else { return };
        let before = self.runner.peek_all();
        let state = self.book.state(id);
        self.runner.apply(op);
        if matches!(state, State::Open { .. }) && !self.book.was_told(id) {
            self.book.unname(id);
            let nothing = Used::Exactly(Amounts::ZERO);
            self.book.end(id, Outcome::Cancelled, nothing);
        } else {
            self.check_unchanged(&before);
        }
    }

    /// An id that was never given is unknown and changes nothing.
    pub(super) fn forge(&mut self, op: &Op) {
        let before = self.runner.peek_all();
        let answer = self.runner.apply(op);
        assert_eq!(answer, Answer::Ended(Err(EndError::Unknown)));
        self.check_unchanged(&before);
    }

    fn end(&mut self, op: &Op, id: ReservationId, (outcome, used): (Outcome, Used)) {
        let before = self.runner.peek_all();
        let state = self.book.state(id);
        let answer = self.runner.apply(op);
        let Answer::Ended(answer) = answer else {
            unexpected(&answer)
        };
        match (state, answer) {
            (State::Open { held, .. }, Ok(receipt)) => {
                self.book.end(id, outcome, used);
                self.check_receipt(id, &receipt);
                self.check_debt(id, &receipt);
                let over = |metric| receipt.charged.get(metric) > held.get(metric);
                self.seen.overruns += usize::from(Metric::all().any(over));
            }
            (State::Ended(ending), Ok(receipt)) if ending.outcome == outcome => {
                self.check_receipt(id, &receipt);
                self.check_unchanged(&before);
            }
            (State::Ended(_), Err(EndError::Ended(receipt))) => {
                self.check_receipt(id, &receipt);
                self.check_unchanged(&before);
            }
            (State::Unknown, Err(EndError::Unknown)) => self.check_unchanged(&before),
            (state, answer) => panic!("{outcome:?} of a reservation that is {state:?}: {answer:?}"),
        }
    }

    /// A receipt says how the reservation ended, for ever the same.
    fn check_receipt(&self, id: ReservationId, receipt: &Receipt) {
        let State::Ended(ending) = self.book.state(id) else {
            panic!("a receipt of a reservation that is not ended");
        };
        assert_eq!(receipt.outcome, ending.outcome);
        assert_eq!(receipt.charged, ending.charged);
        assert_eq!(receipt.returned, ending.returned);
    }

    /// The debt of each metric is that of its furthest counter.
    fn check_debt(&self, id: ReservationId, receipt: &Receipt) {
        let who = self.owner(id).expect("it was admitted here");
        for metric in Metric::all() {
            let (mut least, mut most) = (0, 0);
            for counter in self.book.counters(who) {
                let tally = self.book.tally(counter);
                if tally.spec.metric == metric {
                    let used = tally.used(self.book.now);
                    let largest = tally.spec.largest();
                    least = least.max(used.least.saturating_sub(largest));
                    most = most.max(used.most.saturating_sub(largest));
                }
            }
            let debt = receipt.debt.get(metric);
            assert!(
                least <= debt && debt <= most,
                "debt {debt}: {least} to {most}"
            );
        }
    }
}
