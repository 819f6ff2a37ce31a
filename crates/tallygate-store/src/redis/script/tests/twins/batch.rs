//! Several operations in one call of the script: the core does them one after the other at the same instant.
use super::Twins;
use super::ending::{End, ending};
use crate::redis::desk::{Ask, Done};
use crate::redis::record::Ending;
use crate::redis::script::Op as Message;
use crate::redis::script::tests::case::{Bid, Op};
use crate::redis::script::tests::saying::{Admitted, Said};
use crate::redis::script::tests::verdict::{Differs, Verdict};
use std::collections::HashSet;
use tallygate_core::{Amounts, Decision, Outcome};

/// One of the operations, done by the core.
enum Part {
    Reserved(Ask, Decision),
    Ended(usize, Outcome, End),
}

impl Twins<'_> {
    /// What each did is compared, as far as it can be: accounts are answered as they stand after all of them.
    pub(super) fn batch(&mut self, ops: &[Op]) -> Verdict {
        let (mut parts, mut messages) = (Vec::new(), Vec::new());
        let mut ended = HashSet::new();
        let mut reserved = 0;
        for op in ops {
            let part = match op {
                // What ends at once holds on in the script until the call is over.
                Op::Reserve(bid) if bid.ttl > 0 && !self.is_full(reserved) => {
                    reserved += 1;
                    Some(self.part_reserved(bid))
                }
                Op::Settle(nth, used) => self.pair(*nth).filter(|at| ended.insert(*at)).map(|at| {
                    let used = ending(*used, &self.pairs[at].held);
                    self.part_ended(at, Outcome::Settled, used)
                }),
                Op::Cancel(nth) => self.pair(*nth).filter(|at| ended.insert(*at)).map(|at| {
                    let nothing = Ending::Exactly(Amounts::ZERO);
                    self.part_ended(at, Outcome::Cancelled, nothing)
                }),
                _ => None,
            };
            let Some((part, message)) = part else {
                continue;
            };
            parts.push(part);
            messages.push(message);
        }
        self.compared += parts.len() as u64;
        let messages: Vec<&Message> = messages.iter().collect();
        let answers = self.say_all(&messages);
        for (at, part) in parts.iter().enumerate() {
            self.compare_part(at, part, &answers)?;
        }
        Ok(())
    }

    fn part_reserved(&mut self, bid: &Bid) -> (Part, Message) {
        let decision = self.decide(bid);
        let ask = self.ask(bid);
        let message = self.asking(&ask);
        (Part::Reserved(ask, decision), message)
    }

    fn part_ended(&mut self, at: usize, outcome: Outcome, used: Ending) -> (Part, Message) {
        let core = self.end_core(at, outcome, used);
        let message = self.finishing(at, &self.pairs[at].held, outcome, used);
        (Part::Ended(at, outcome, core), message)
    }

    fn compare_part(
        &mut self,
        at: usize,
        part: &Part,
        answers: &crate::redis::script::Answers,
    ) -> Verdict {
        match part {
            Part::Reserved(ask, decision) => {
                let heard = self.desk.reserved(ask, answers, at).ok_or("no answer")?;
                self.note(decision, &heard);
                let (core, script) = (self.said(decision), self.heard(&heard));
                self.slack.decision(&bare(core), &bare(script))
            }
            Part::Ended(pair, outcome, core) => {
                let done = self.desk.finished(*outcome, answers, at);
                let script = match done.ok_or("no answer")? {
                    Done::Ended(receipt) => Ok(receipt),
                    Done::Failed(error) => Err(error),
                    other => return Err(Differs::Wrong(format!("an end answered {other:?}"))),
                };
                self.compare_end(*pair, core, &script)
            }
        }
    }
}

/// Without what is said of accounts, which others of the batch may have changed since.
fn bare(said: Said) -> Said {
    match said {
        Said::Admitted(admitted) => Said::Admitted(Admitted {
            standings: Vec::new(),
            shadowed: Vec::new(),
            ..admitted
        }),
        Said::Denied { .. } | Said::Again => Said::Again,
        Said::Never { largest, .. } => Said::Never {
            blocked_by: Vec::new(),
            largest,
        },
    }
}
