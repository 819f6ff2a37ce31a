//! Reserving in both engines.
use super::{MOST_OPEN, Pair, Twins};
use crate::redis::desk::{Ask, Heard};
use crate::redis::names;
use crate::redis::script::Op as Message;
use crate::redis::script::tests::case::{Bid, SUBJECTS};
use crate::redis::script::tests::saying::{self, Said};
use crate::redis::script::tests::verdict::Verdict;
use crate::redis::sheet::Order;
use tallygate_core::{Admission, Decision, Span, remote};

impl Twins<'_> {
    pub(super) fn reserve(&mut self, bid: &Bid) -> Verdict {
        if self.is_full(0) {
            return Ok(());
        }
        let decision = self.decide(bid);
        let ask = self.ask(bid);
        let answers = self.say(self.asking(&ask));
        let heard = self.desk.reserved(&ask, &answers, 0).ok_or("no answer")?;
        self.note(&decision, &heard);
        let (core, script) = (self.said(&decision), self.heard(&heard));
        self.slack.decision(&core, &script)
    }

    /// Whether no more than so many others may be open.
    pub(super) fn is_full(&self, more: usize) -> bool {
        self.pairs.iter().filter(|pair| pair.is_open).count() + more >= MOST_OPEN
    }

    pub(super) fn ask(&mut self, bid: &Bid) -> Ask {
        let subject = &SUBJECTS[bid.who];
        let accounts = self.callers[bid.who].accounts.clone();
        let tag = accounts.first().map_or(0, |account| account.tag);
        self.asked += 1;
        let mut random = [7; 12];
        random[..8].copy_from_slice(&self.asked.to_le_bytes());
        let name = |key: u64| names::idempotency(&format!("{key}"), subject);
        Ask {
            name: bid.key.map(name),
            accounts,
            demand: bid.demand,
            ttl: Span::from_nanos(bid.ttl * 1000),
            id: names::id_of(tag, random),
        }
    }

    pub(super) fn asking(&self, ask: &Ask) -> Message {
        let place = (Order::NEWCOMER.0, None);
        let tag = names::home(ask.id);
        self.desk.reserve(ask, ask.accounts.clone(), tag, place)
    }

    pub(super) fn decide(&mut self, bid: &Bid) -> Decision {
        let subject = &SUBJECTS[bid.who];
        let name = |key: u64| self.ledger.idempotency(&format!("{key}"), subject);
        let ask = tallygate_core::Ask {
            keys: &self.callers[bid.who].keys,
            demand: &bid.demand,
            ttl: Span::from_nanos(bid.ttl * 1000),
            idempotency: bid.key.map(name),
        };
        self.ledger.reserve(&ask, self.now).unwrap()
    }

    /// Remembers what came of it.
    pub(super) fn note(&mut self, decision: &Decision, heard: &Heard) {
        if let Decision::Deny(denial) = decision {
            self.retry = denial.retry_at;
        }
        if let (Decision::Admit(core), Heard::Held(script, held)) = (decision, heard) {
            self.latest = self.latest.max(core.expires_at);
            self.pairs.push(Pair {
                core: core.id,
                script: script.id,
                first: held.clone(),
                held: held.clone(),
                ends: core.expires_at,
                withdrawn: false,
                is_open: core.expires_at > self.now,
            });
        }
    }

    pub(super) fn said(&self, decision: &Decision) -> Said {
        let number = match decision {
            Decision::Admit(admission) => {
                let mut pairs = self.pairs.iter();
                pairs.position(|pair| pair.core == admission.id)
            }
            _ => None,
        };
        saying::said(decision, number)
    }

    pub(super) fn heard(&self, heard: &Heard) -> Said {
        match heard {
            Heard::Held(admission, _) | Heard::Known(admission, _) => self.admitted(admission),
            Heard::Blocked(blocks) => saying::said(&remote::denial(blocks.clone(), self.now), None),
            Heard::Never(never) => saying::said(never, None),
            Heard::Again => Said::Again,
        }
    }

    fn admitted(&self, admission: &Admission) -> Said {
        let mut pairs = self.pairs.iter();
        let number = pairs.position(|pair| pair.script == admission.id);
        saying::said(&Decision::Admit(admission.clone()), number)
    }
}
