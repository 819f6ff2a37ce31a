//! Asking: what is admitted fits, what is refused does not, and a refusal changes nothing.
use super::{World, deadline, surely_fits, surely_not, unexpected};
use crate::op::{Bid, Op};
use crate::oracle::{CounterName, Fit, Refusal, State, contested};
use crate::runner::Answer;
use crate::setup::amounts;
use std::collections::BTreeSet;
use tallygate_core::{
    Admission, Amounts, Decision, Denial, Entry, Extended, Mode, Never, Replay, ReservationId,
    Standing,
};

impl World {
    pub(super) fn reserve(&mut self, op: &Op, bid: Bid) {
        let before = self.runner.peek_all();
        let Answer::Decided(Ok(decision)) = self.runner.apply(op) else {
            panic!("a bound was reached");
        };
        self.check_decision(&bid, &decision, &before);
    }

    pub(super) fn spend(&mut self, op: &Op, who: usize, demand: &Amounts) {
        let before = self.runner.peek_all();
        let judged = self.book.judge(who, demand);
        let contested = self.contested();
        match self.runner.apply(op) {
            Answer::Spent(Ok(None)) => {
                assert!(!surely_not(&judged), "spent past a limit: {judged:?}");
                self.check_overtakes_nobody(&judged);
                self.book.spend(who, demand);
                self.seen.admitted += 1;
            }
            Answer::Spent(Ok(Some(refusal))) => {
                self.check_refusal(who, demand, &refusal);
                assert!(!surely_fits(&judged) || touches(&judged, &contested));
                self.check_unchanged(&before);
            }
            other => unexpected(&other),
        }
    }

    pub(super) fn wait(&mut self, op: &Op, bid: Bid, patience: u64) {
        let before = self.runner.peek_all();
        match self.runner.apply(op) {
            Answer::Entered(Ok(Entry::Decided(decision))) => {
                self.check_decision(&bid, &decision, &before);
                self.check_hopeless(&bid, &decision, patience);
            }
            Answer::Entered(Ok(Entry::Waiting(ticket))) => {
                // Without patience it leaves before anybody can look, and others may be served then.
                if patience > 0 {
                    self.check_unchanged(&before);
                }
                self.enter(ticket, bid, patience);
            }
            other => unexpected(&other),
        }
    }

    pub(super) fn extend(&mut self, op: &Op, nth: usize, more: &Amounts, ttl: Option<u64>) {
        let Some(id) = self.nth_id(nth) else { return };
        let before = self.runner.peek_all();
        let who = self.owner(id);
        let judged = who.map(|who| self.book.judge(who, more));
        let state = self.book.state(id);
        let answer = self.runner.apply(op);
        let Answer::Extended(answer) = answer else {
            unexpected(&answer)
        };
        let (
            State::Open {
                deadline: end,
                held,
            },
            Some(judged),
        ) = (state, judged)
        else {
            let error = answer.expect_err("it has ended");
            return self.check_ended(id, &error.to_string(), &before);
        };
        match answer.expect("it is open") {
            Extended::Granted {
                expires_at,
                reserved,
            } => {
                assert!(!surely_not(&judged), "extended past a limit: {judged:?}");
                let until = ttl.map_or(end, |ttl| deadline(self.runner.now, ttl).as_nanos());
                assert_eq!(expires_at.as_nanos(), until);
                assert_eq!(reserved, held.zip(more, |a, b| a + b));
                self.book.extend(id, more, ttl.map(|_| until));
            }
            Extended::Deny(denial) => {
                assert!(!surely_fits(&judged), "refused what fits: {judged:?}");
                self.check_denial(who.expect("it is open"), more, &denial);
                self.check_unchanged(&before);
            }
            Extended::Never(never) => {
                self.check_never(&judged, &never);
                self.check_unchanged(&before);
            }
        }
    }

    fn check_decision(&mut self, bid: &Bid, decision: &Decision, before: &[Vec<Standing>]) {
        let demand = amounts(bid.demand);
        let judged = self.book.judge(bid.who, &demand);
        let named = self.book.named(bid.who, bid.key);
        match decision {
            Decision::Admit(admission) if named.is_some() => {
                assert_eq!(
                    Some(admission.id),
                    named,
                    "a repeat gets the first one's reservation"
                );
                self.check_replay(bid, admission);
                self.check_unchanged(before);
            }
            refusal if named.is_some() => panic!("a repeat was refused: {refusal:?}"),
            Decision::Admit(admission) => {
                self.check_overtakes_nobody(&judged);
                let shadows = self.book.judge_mode(bid.who, &demand, Mode::Shadow);
                self.check_shadowed(&shadows, admission);
                self.admit(bid, admission);
                self.check_standings(bid.who, &admission.standings);
            }
            refusal => {
                let waited_for = touches(&judged, &self.contested());
                assert!(
                    !surely_fits(&judged) || waited_for,
                    "refused what fits: {judged:?}"
                );
                self.check_refusal(bid.who, &demand, refusal);
                self.check_unchanged(before);
            }
        }
    }

    /// Enters a fresh admission into the book.
    pub(super) fn admit(&mut self, bid: &Bid, admission: &Admission) {
        let demand = amounts(bid.demand);
        let judged = self.book.judge(bid.who, &demand);
        assert!(!surely_not(&judged), "admitted past a limit: {judged:?}");
        assert_eq!(admission.replay, Replay::Fresh);
        assert_eq!(admission.reserved, demand);
        let end = deadline(self.runner.now, bid.ttl);
        assert_eq!(admission.expires_at, end);
        self.book.reserve(admission.id, bid.who, &demand, end);
        self.book.name(bid.who, bid.key, admission.id);
        self.owners.insert(admission.id, bid.who);
        self.seen.admitted += 1;
    }

    fn check_shadowed(&self, shadows: &[Refusal], admission: &Admission) {
        for shadow in shadows {
            let rule = self.book.place(shadow.counter).0.number;
            let told = admission.shadowed.iter().any(|limit| {
                *limit.name == format!("rule-{rule}") && limit.metric == shadow.metric
            });
            match shadow.fit {
                Fit::Surely => assert!(!told, "shadowed though it fits: {shadow:?}"),
                Fit::Not => assert!(told, "not told: {shadow:?}"),
                Fit::Maybe => {}
            }
        }
    }

    pub(super) fn check_replay(&mut self, bid: &Bid, admission: &Admission) {
        match (self.book.state(admission.id), admission.replay) {
            (State::Open { deadline, held }, Replay::Open) => {
                self.book.tell(admission.id);
                assert_eq!(admission.expires_at.as_nanos(), deadline);
                assert_eq!(admission.reserved, held);
            }
            (State::Ended(ending), Replay::Ended(outcome)) => assert_eq!(ending.outcome, outcome),
            (state, replay) => panic!("{replay:?} of a reservation that is {state:?}"),
        }
        self.check_standings(bid.who, &admission.standings);
    }

    pub(super) fn check_refusal(&mut self, who: usize, demand: &Amounts, refusal: &Decision) {
        match refusal {
            Decision::Deny(denial) => self.check_denial(who, demand, denial),
            Decision::Never(never) => self.check_never(&self.book.judge(who, demand), never),
            Decision::Admit(admission) => panic!("admitted: {admission:?}"),
        }
        match refusal {
            Decision::Never(_) => self.seen.never += 1,
            _ => self.seen.denied += 1,
        }
    }

    /// All that block are named, nobody else is, and the instant is right.
    pub(super) fn check_denial(&self, who: usize, demand: &Amounts, denial: &Denial) {
        let judged = self.book.judge(who, demand);
        let named = denial.blocked_by.iter().map(|at| self.counter_of(who, at));
        let named: BTreeSet<_> = named.collect();
        let contested = self.contested();
        for at in &judged {
            let told = named.contains(&at.counter);
            let free = at.fit == Fit::Surely && !contested.contains(&at.counter);
            assert!(!(told && free), "blamed though it fits: {at:?}");
            assert!(told || at.fit != Fit::Not, "not blamed: {at:?}");
        }
        for standing in &denial.blocked_by {
            self.check_standing(self.counter_of(who, standing), standing);
        }
        let now = self.runner.now;
        assert_eq!(denial.retry_at, now.plus(denial.retry_after.into()));
        if !touches(&judged, &self.wanted()) {
            self.check_instant(&judged, denial);
        }
    }

    /// It would be admitted at the instant the oracle works out.
    fn check_instant(&self, judged: &[Refusal], denial: &Denial) {
        let now = self.book.now;
        let instant = |at: &Refusal| self.book.tally(at.counter).fits_at(at.amount, now);
        let instants: Option<Vec<(u64, u64)>> = judged.iter().map(instant).collect();
        let Some(instants) = instants.filter(|_| !self.book.stepped) else {
            return;
        };
        let least = instants.iter().map(|at| at.0).max().unwrap_or(now);
        let most = instants.iter().map(|at| at.1).max().unwrap_or(now);
        let told = denial.retry_at.as_nanos();
        assert!(
            least <= told && told <= most,
            "retry at {told} instead of {least} to {most}: {judged:?}"
        );
    }

    fn check_never(&self, judged: &[Refusal], never: &Never) {
        let over = |at: &&Refusal| at.amount > at.largest;
        assert_eq!(judged.iter().filter(over).count(), never.blocked_by.len());
        assert!(!never.largest.is_empty(), "never, but of what?");
        for (metric, largest) in &never.largest {
            let of_metric = judged.iter().filter(|at| at.metric == *metric);
            let least = of_metric.map(|at| at.largest).min();
            assert_eq!(Some(*largest), least, "the largest that could be");
        }
    }

    /// Nobody's standing has changed.
    pub(super) fn check_unchanged(&mut self, before: &[Vec<Standing>]) {
        assert_eq!(
            self.runner.peek_all(),
            before,
            "a refusal changed a counter"
        );
    }

    /// The counters that anybody in line would be charged to.
    fn wanted(&self) -> BTreeSet<CounterName> {
        let callers = self.queue.iter();
        let touched = callers.flat_map(|it| self.book.judge(it.bid.who, &amounts(it.bid.demand)));
        touched.map(|at| at.counter).collect()
    }

    /// The counters in whose line somebody may stand.
    fn contested(&self) -> BTreeSet<CounterName> {
        contested(&self.book, &self.queue)
    }

    fn check_ended(&mut self, id: ReservationId, error: &str, before: &[Vec<Standing>]) {
        let known = matches!(self.book.state(id), State::Ended(_));
        assert_eq!(error.contains("ended"), known, "{error}");
        self.check_unchanged(before);
    }
}

fn touches(judged: &[Refusal], counters: &BTreeSet<CounterName>) -> bool {
    judged.iter().any(|at| counters.contains(&at.counter))
}
