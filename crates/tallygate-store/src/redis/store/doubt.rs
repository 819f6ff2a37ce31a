//! What is taken for a moment only: not taken where that can be foreseen, and not believed where it denies somebody.
//!
//! A demand on several servers takes of one after the other, and gives back what it has when a later one denies it. Until
//! then it may deny others what it will not have in the end, up to a whole quota. So whoever has reason to think that
//! some server denies it knocks there before it takes anything of any: who stands in line, where it stands; a newcomer,
//! where this process was denied a moment ago. What is left are first denials and crossed ways. One that is denied by
//! what is held of a counter from which others go on looks again, and is told only what it still finds then.
//!
//! A knock takes nothing, and takes are made in one order by everybody ([`groups`](super::super::groups::groups)): of all that
//! are on their way the one that has come furthest meets none that may turn back, so that it is admitted, or denied by what
//! stays. That none gets on because of the others is not possible.
use super::super::desk;
use super::super::groups::leads_on;
use super::super::link::LinkError;
use super::super::pump::Answer;
use super::super::sheet::{Order, Sheet};
use super::errand::Errand;
use super::{Shared, Turn};
use std::time::Duration;
use tallygate_core::Time;
use tallygate_core::remote::{self, Block, Judgement};

/// After how long a denial in doubt is looked at again, each time: an attempt takes two round trips as a rule.
pub(super) const DOUBTS: [Duration; 2] = [Duration::from_millis(10), Duration::from_millis(40)];

/// Counters as they were found, and when.
pub(crate) type Seen = (Vec<Sheet>, Time);

impl Shared {
    /// Knocks where a demand is likely to be denied; answers at which of its groups it was.
    pub(super) async fn knock(
        &self,
        errand: &Errand,
        turn: &Turn,
    ) -> Result<Option<(usize, Answer)>, LinkError> {
        for at in self.doors(errand, turn) {
            let op = errand.op(&errand.groups[at], turn).knocking();
            let answer = self.pump.ask(errand.groups[at].tag, op).await?;
            match answer.kind() {
                Some(b'F') => {}
                Some(b'B') => return Ok(Some((at, answer))),
                // Its namesake was admitted.
                _ => break,
            }
        }
        Ok(None)
    }

    /// Where a demand is likely to be denied. Under an idempotency key the first is asked whether a namesake was admitted.
    fn doors(&self, errand: &Errand, turn: &Turn) -> Vec<usize> {
        if errand.groups.len() < 2 {
            return Vec::new();
        }
        let key = match &turn.stand {
            Some((key, _)) => Some(key.clone()),
            None => {
                let full = self.denials.full(errand, self.now());
                full.map(|account| account.key.clone())
            }
        };
        let Some(at) = key.and_then(|key| errand.group_of(&key)) else {
            return Vec::new();
        };
        match errand.ask.name {
            Some(_) if at > 0 => vec![0, at],
            _ => vec![at],
        }
    }

    /// The counters of a demand as they stand, by what does not go by itself where that `matters`.
    pub(crate) async fn look_surely(
        &self,
        errand: &Errand,
        matters: impl Fn(&[Block]) -> bool,
    ) -> Result<Seen, LinkError> {
        self.look_surely_as(errand, Order::NEWCOMER, matters).await
    }

    /// The same for an asker of this order.
    pub(crate) async fn look_surely_as(
        &self,
        errand: &Errand,
        order: Order,
        matters: impl Fn(&[Block]) -> bool,
    ) -> Result<Seen, LinkError> {
        let seen = self.look_as(errand, order).await?;
        self.believed(errand, (order, seen), matters).await
    }

    /// Looks again at counters that deny a demand by what may be held for a moment only, where that `matters`.
    pub(super) async fn believed(
        &self,
        errand: &Errand,
        (order, mut seen): (Order, Seen),
        matters: impl Fn(&[Block]) -> bool,
    ) -> Result<Seen, LinkError> {
        for pause in DOUBTS {
            let views = desk::views(&errand.ask.accounts, &seen.0);
            let blocks = match remote::judge(&views, &errand.ask.demand, seen.1) {
                Judgement::Blocked(blocks) if matters(&blocks) => blocks,
                _ => break,
            };
            if !self.is_apart() || !errand.may_be_let(&blocks, seen.1) {
                break;
            }
            tokio::time::sleep(pause).await;
            seen = self.look_as(errand, order).await?;
        }
        Ok(seen)
    }
}

impl Errand {
    /// Which of its groups an account is in.
    fn group_of(&self, key: &[u8]) -> Option<usize> {
        let mut groups = self.groups.iter();
        groups.position(|group| group.accounts.iter().any(|one| one.key == key))
    }

    /// Whether one of these is there because of what is held, maybe by one that turns back.
    fn may_be_let(&self, blocks: &[Block], now: Time) -> bool {
        blocks.iter().any(|block| {
            let account = self.ask.accounts.get(block.sheet);
            let leads = |rule| leads_on(rule, self.desk.rules.sorts());
            block.soonest <= now && account.is_some_and(|account| leads(&account.rule))
        })
    }
}
