//! Extending and looking at reservations in both engines.
use super::Twins;
use crate::redis::desk::{Done, More};
use crate::redis::names;
use crate::redis::record::{Held, Record};
use crate::redis::script::tests::saying;
use crate::redis::script::tests::verdict::{Differs, Verdict, same};
use std::sync::Arc;
use tallygate_core::{Amounts, EndError, ExtendError, Extended, Shape, Span, Time};

impl Twins<'_> {
    pub(super) fn extend(&mut self, nth: usize, more: &Amounts, ttl: Option<u64>) -> Verdict {
        let Some(at) = self.pair(nth) else {
            return Ok(());
        };
        let ttl = ttl.map(|micros| Span::from_nanos(micros.max(1) * 1000));
        let core = self.ledger.extend(self.pairs[at].core, more, ttl, self.now);
        let script = self.extend_script(at, more, ttl)?;
        let withdrawn = self.pairs[at].withdrawn;
        match (core, script) {
            (Ok(core), Ok(script)) => self.compare_extension(&core, &script),
            (Err(ExtendError::Ended(core)), Err(script)) => {
                self.slack.end(&Err(core), &Err(script), withdrawn)
            }
            (core, script) => {
                let what = format!("an extension: {core:?}, the script: {script:?}");
                Err(Differs::Wrong(what))
            }
        }
    }

    fn extend_script(
        &mut self,
        at: usize,
        more: &Amounts,
        ttl: Option<Span>,
    ) -> Result<Result<Extended, EndError>, Differs> {
        let mut held = self.known(at);
        loop {
            let id = self.pairs[at].script;
            let place = (names::home(id), held.accounts.clone());
            let message = self.desk.extend(id, &held, place, &More::new(*more, ttl));
            let answers = self.say(message);
            let done = self.desk.extended(&held, more, &answers, 0);
            match done.ok_or("no answer")? {
                Done::Extended(extended) => {
                    self.note_extension(at, &held, more, &extended);
                    return Ok(Ok(extended));
                }
                Done::Failed(error) => return Ok(Err(error)),
                Done::Changed(now) => held = now,
                other => return Err(Differs::Wrong(format!("an extension answered {other:?}"))),
            }
        }
    }

    /// As if nobody had asked. A sliding window notes when it was last charged, though it be with nothing.
    pub(super) fn extend_and_retract(&mut self, nth: usize, more: &Amounts) -> Verdict {
        let limits = || self.rules.iter().flat_map(|rule| &rule.limits);
        let slides = limits().any(|limit| matches!(limit.2, Shape::Sliding { .. }));
        let Some(at) = self.pair(nth).filter(|_| !slides && *more != Amounts::ZERO) else {
            return Ok(());
        };
        let pair = &self.pairs[at];
        let (id, held) = (pair.script, pair.held.clone());
        let place = (names::home(id), held.accounts.clone());
        let more = More::new(*more, None);
        let extend = self.desk.extend(id, &held, place.clone(), &more);
        let retract = self.desk.retract(id, &held, place, &more);
        self.say(extend);
        let answers = self.say(retract);
        let kinds = [b"E", b"U"];
        let is_known = kinds.iter().any(|kind| answers.operations[0] == kind[..]);
        self.last = None;
        same("what may be answered", &true, &is_known)
    }

    fn note_extension(&mut self, at: usize, held: &Held, more: &Amounts, extended: &Extended) {
        let Extended::Granted { expires_at, .. } = extended else {
            return;
        };
        let mut after = held.clone();
        after.deadline = *expires_at;
        if *more != Amounts::ZERO {
            after.parts.push(*more);
        }
        self.latest = self.latest.max(*expires_at);
        let pair = &mut self.pairs[at];
        pair.held = Arc::new(after);
        pair.ends = *expires_at;
        pair.is_open = *expires_at > self.now;
    }

    fn compare_extension(&self, core: &Extended, script: &Extended) -> Verdict {
        match (core, script) {
            (Extended::Deny(core), Extended::Deny(script)) => {
                let (core, script) = (saying::denied(core), saying::denied(script));
                self.slack.decision(&core, &script)
            }
            (Extended::Never(core), Extended::Never(script)) => {
                let (core, script) = (saying::refused(core), saying::refused(script));
                self.slack.decision(&core, &script)
            }
            (Extended::Granted { .. }, Extended::Deny(_)) if self.slack.micros > 0 => {
                Err(Differs::Apart)
            }
            _ => same("an extension", core, script),
        }
    }

    pub(super) fn look(&mut self, nth: usize) -> Verdict {
        let Some(at) = self.pair(nth) else {
            return Ok(());
        };
        let message = self.desk.look(self.pairs[at].script);
        let answers = self.say(message);
        let record = self.desk.looked(&answers, 0);
        let pair = &self.pairs[at];
        match (record, pair.is_open) {
            (Some(Record::Open(held)), true) => {
                let seen = |held: &Held, ends: Time| (held.parts.clone(), ends);
                let core = seen(&pair.held, pair.ends);
                same("what is held", &core, &seen(&held, held.deadline))
            }
            (Some(Record::Ended(_)) | None, false) => Ok(()),
            (record, is_open) => {
                let what = format!("looked at {record:?}, open: {is_open}");
                Err(Differs::Wrong(what))
            }
        }
    }
}
