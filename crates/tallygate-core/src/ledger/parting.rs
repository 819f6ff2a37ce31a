//! Sending callers in line away.
//!
//! Why they are is told when the operation is at its end: until then others are served, in the same instant, and a
//! line that is about to be served blocks nobody who comes anew.
use super::Ledger;
use super::judge::{Blocker, Claim, NEWCOMER, Verdict};
use super::line::{Hearing, Patience};
use super::vigil::keep;
use crate::account::Key;
use crate::decision::Decision;
use crate::metric::Amounts;
use crate::num;

/// A caller that was sent away and is yet to be told why.
#[derive(Debug)]
pub(crate) struct Parting {
    /// The place of its answer among those that were not taken yet.
    answer: usize,
    keys: super::Keys,
    demand: Amounts,
}

impl Ledger {
    pub(crate) fn lose_patience(&mut self, at: u32) {
        match self.ask_again(at) {
            Some(Hearing::Answer(answer)) => self.answer(at, answer),
            Some(Hearing::Blocked(_)) => self.send_away(&[at]),
            None => {}
        }
    }

    /// Refuses callers in line.
    fn send_away(&mut self, leaving: &[u32]) {
        let left: Vec<(Key, usize)> = leaving.iter().flat_map(|at| self.unline(*at)).collect();
        for at in leaving {
            if let Some((keys, demand, _)) = self.claim_of(*at) {
                let parting = Parting {
                    answer: self.answers.len(),
                    keys,
                    demand,
                };
                let refusal = self.reason(&parting);
                self.answer(*at, Ok(refusal));
                self.partings.push(parting);
            }
        }
        left.into_iter().for_each(|line| self.put_on_agenda(line));
    }

    /// Why a caller goes, and the wait of one who comes anew: it is behind all who stand in line, but not behind itself.
    fn reason(&mut self, parting: &Parting) -> Decision {
        self.refuse(Claim {
            keys: &parting.keys,
            demand: &parting.demand,
            order: NEWCOMER,
        })
    }

    /// Tells those who were sent away why, as it is now that the others were served. Whom nothing would block any more
    /// is told what did when its patience ended.
    pub(crate) fn tell_why(&mut self) {
        while let Some(parting) = self.partings.pop() {
            let reason = self.reason(&parting);
            let is_free = matches!(&reason, Decision::Deny(denial) if denial.blocked_by.is_empty());
            if let Some((_, answer)) = self.answers.get_mut(parting.answer).filter(|_| !is_free) {
                *answer = Ok(reason);
            }
        }
    }

    /// Refuses the first of a line, whom nothing can help in time, and those behind it of whom that is true.
    pub(crate) fn send_away_hopeless(&mut self, (key, counter): (Key, usize)) {
        let line = self.line(key, counter).map(|line| &line.waiters);
        let mut line: Vec<u32> = line.into_iter().flatten().map(|(_, at)| *at).collect();
        let behind = line.iter().skip(1);
        let behind = behind.take_while(|at| !self.has_hope(**at)).count();
        line.truncate(behind.saturating_add(1));
        self.send_away(&line);
    }

    fn has_hope(&mut self, at: u32) -> bool {
        let Some((keys, demand, order)) = self.claim_of(at) else {
            return true;
        };
        let claim = Claim {
            keys: &keys,
            demand: &demand,
            order,
        };
        let verdict = self.verdict(claim);
        let waiter = self.waiters.get(num::index(at));
        match (verdict, waiter) {
            (Verdict::Blocked(blockers), Some(waiter)) => is_hopeful(&blockers, waiter.patience),
            _ => true,
        }
    }
}

/// Whether a wait can help: nothing blocks that the caller does not wait for, and all that is open could be given back while
/// its patience lasts.
pub(crate) fn is_hopeful(blockers: &[Blocker], patience: Patience) -> bool {
    let until = patience.until;
    !keep(blockers, patience.waits_for) && blockers.iter().all(|blocker| blocker.soonest <= until)
}
