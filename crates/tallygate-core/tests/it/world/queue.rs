//! Waiting: by arrival, holding nothing, and never longer than needed.
use super::World;
use crate::op::{Bid, Op};
use crate::oracle::{Queued, Refusal, blocking};
use crate::runner::{Call, Runner};
use crate::setup::amounts;
use tallygate_core::{Decision, Replay, ReservationId, Ticket, Time};

impl World {
    pub(super) fn owner(&self, id: ReservationId) -> Option<usize> {
        self.owners.get(&id).copied()
    }

    pub(super) fn enter(&mut self, ticket: Ticket, bid: Bid, patience: u64) {
        let now = self.runner.now.as_nanos();
        self.queue.push(Queued {
            ticket,
            bid,
            since: now,
            until: now.saturating_add(patience),
        });
    }

    pub(super) fn leave(&mut self, op: &Op, nth: usize) {
        let Some(at) = Runner::nth(nth, self.runner.tickets.len()) else {
            return;
        };
        let ticket = self.runner.tickets[at];
        self.queue.retain(|caller| caller.ticket != ticket);
        self.runner.apply(op);
    }

    /// A refusal at once of a caller with patience: there was no hope, or it had waited enough.
    pub(super) fn check_hopeless(&self, bid: &Bid, decision: &Decision, patience: u64) {
        if let Decision::Deny(denial) = decision {
            let until = self.runner.now.as_nanos().saturating_add(patience);
            assert!(
                !self.may_go_by(bid, until),
                "refused at once, hopeful: {denial:?}"
            );
        }
    }

    /// Whether a caller that is blocked could go by then if all that is open were given back; not once that is not known.
    fn may_go_by(&self, bid: &Bid, until: u64) -> bool {
        let judged = self.book.judge(bid.who, &amounts(bid.demand));
        let hope = |at: &Refusal| self.book.hope(at.counter, at.amount);
        let hopes: Option<Vec<u64>> = judged.iter().map(hope).collect();
        let soonest = hopes.and_then(|hopes| hopes.into_iter().max());
        let soonest = soonest.filter(|_| !self.book.stepped);
        soonest.is_some_and(|soonest| soonest <= until)
    }

    /// Enters what callers in line were answered. Each was served or sent away in turn, but why is told last, as
    /// it is once all are.
    pub(super) fn hear(&mut self) {
        let calls: Vec<Call> = self.runner.calls[self.heard..].to_vec();
        self.heard = self.runner.calls.len();
        let mut denials = Vec::new();
        for call in calls {
            let at = self.queue.iter().position(|it| it.ticket == call.ticket);
            let at = at.expect("an answer to a caller that waits");
            if let Decision::Admit(admission) = &call.decision
                && admission.replay == Replay::Fresh
            {
                self.check_turn(at);
            }
            let caller = self.queue.remove(at);
            self.check_call(&caller, &call);
            if let Decision::Deny(denial) = call.decision {
                denials.push((caller.bid, denial));
            }
        }
        for (bid, denial) in denials {
            self.check_denial(bid.who, &amounts(bid.demand), &denial);
        }
    }

    fn check_call(&mut self, caller: &Queued, call: &Call) {
        let now = call.at.as_nanos();
        assert!(now <= caller.until, "answered past its patience");
        let demand = amounts(caller.bid.demand);
        match &call.decision {
            Decision::Admit(admission) if admission.replay != Replay::Fresh => {
                self.check_replay(&caller.bid, admission);
            }
            Decision::Admit(admission) => {
                assert_eq!(
                    Time::from_nanos(caller.since).plus(admission.waited.into()),
                    call.at
                );
                self.admit(&caller.bid, admission);
                self.seen.served += 1;
            }
            Decision::Deny(denial) => {
                assert!(
                    now >= caller.until || !self.may_go_by(&caller.bid, caller.until),
                    "sent away before its patience ended, hopeful"
                );
                assert!(!denial.blocked_by.is_empty(), "sent away for nothing");
                let named = self.book.named(caller.bid.who, caller.bid.key);
                assert_eq!(named, None, "sent away though admitted under its key");
                self.seen.gave_up += 1;
            }
            Decision::Never(_) => {
                let judged = self.book.judge(caller.bid.who, &demand);
                assert!(judged.iter().any(|at| at.amount > at.largest));
            }
        }
    }

    /// Nobody who came before stands, for certain, in the line of a counter that this caller touches.
    fn check_turn(&self, at: usize) {
        let caller = &self.queue[at];
        let judged = self.book.judge(caller.bid.who, &amounts(caller.bid.demand));
        self.check_no_older(&judged, at);
    }

    /// A newcomer takes room on no counter for which somebody stands in line.
    pub(super) fn check_overtakes_nobody(&self, judged: &[Refusal]) {
        self.check_no_older(judged, self.queue.len());
    }

    fn check_no_older(&self, judged: &[Refusal], older: usize) {
        let blocks = blocking(&self.book, &self.queue[..older]);
        for (caller, blocks) in self.queue.iter().zip(blocks) {
            if let [only] = blocks.iter().collect::<Vec<_>>()[..] {
                let taken = judged.iter().any(|at| at.counter == *only);
                assert!(!taken, "{only:?} was taken before {caller:?}");
            }
        }
    }

    /// Whoever could go has gone, and nobody waits for what cannot be.
    pub(super) fn check_queue(&self) {
        let blocks = blocking(&self.book, &self.queue);
        for (caller, blocks) in self.queue.iter().zip(blocks) {
            let judged = self.book.judge(caller.bid.who, &amounts(caller.bid.demand));
            let hopeless = judged.iter().any(|at| at.amount > at.largest);
            assert!(!hopeless, "{caller:?} waits for what cannot be");
            assert!(
                !blocks.is_empty(),
                "nothing holds {caller:?} up, and it waits"
            );
        }
    }
}
