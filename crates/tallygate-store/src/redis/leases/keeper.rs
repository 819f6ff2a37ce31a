//! The keeper of the leases: sends reports when they are due, and brings their answers.
use super::book::Growth;
use super::share::{Found, Journey, Said};
use super::{GRACE, GRACES};
use crate::pack::Unpack;
use crate::redis::desk::views;
use crate::redis::link::LinkError;
use crate::redis::names::Account;
use crate::redis::pump::Answer;
use crate::redis::record::Ending;
use crate::redis::script::{Lease, Op};
use crate::redis::sheet::{Order, Sheet, instant};
use crate::redis::store::{Errand, Shared};
use crate::store::SettleError;
use futures_util::future::join_all;
use std::sync::{Arc, Weak};
use std::time::Duration;
use tallygate_core::remote::{self, Block, Judgement};
use tallygate_core::{
    Amounts, Decision, Denial, Extended, Outcome, Receipt, ReservationId, Span, Time,
};
use tokio::sync::Notify;
use tokio::time::{Instant, sleep, timeout};

/// How long a store that closes waits for its last reports.
const CLOSING: Duration = Duration::from_secs(2);

/// The keeper sleeps no longer at a stretch.
const NIGHT: Duration = Duration::from_secs(3600);

impl Shared {
    /// Starts the keeper.
    pub(crate) fn keep_leases(self: &Arc<Self>) {
        let bell = self.leases.bell.clone();
        self.pump.runtime().spawn(keep(Arc::downgrade(self), bell));
    }

    /// Sends what is due; answers how long there is nothing to do then.
    fn send_reports(self: &Arc<Self>) -> Duration {
        let now = self.leases.now(self.now());
        let (reports, next) = self.leases.book.lock().round(now);
        for report in reports {
            let shared = self.clone();
            let sent = async move { shared.report(&report).await };
            self.pump.runtime().spawn(sent);
        }
        next.since(now.here)
    }

    /// Sends a report; answers whether the share grew. One that gets no answer will be sent again.
    async fn report(&self, lease: &Lease) -> Result<bool, LinkError> {
        let op = Op::Lease(lease.clone());
        match self.pump.ask(lease.account.tag, op).await {
            Ok(answer) => Ok(self.reported(lease, &answer)),
            Err(error) => {
                let at = self.leases.now(self.now()).here;
                self.leases.book.lock().failed(lease, at);
                self.leases.ring(true);
                Err(error)
            }
        }
    }

    /// Takes in the answer to a report; answers whether the share grew.
    fn reported(&self, lease: &Lease, answer: &Answer) -> bool {
        let accounts = std::slice::from_ref(&lease.account);
        let desk = self.desk();
        let sheets = desk.sheets(accounts, Order::NEWCOMER, &answer.all);
        let found = sheets.first().map(|sheet| Found {
            sheet,
            node: desk.node.name,
        });
        let said = answer.all.operations.get(answer.at);
        let said = said.and_then(|raw| said_of(raw)).unwrap_or(Said::Stale);
        let journey = Journey {
            sent: self.leases.moment(answer.sent),
            heard: self.leases.moment(Instant::now()),
            shown: answer.all.now,
        };
        let mut book = self.leases.book.lock();
        book.answered(lease, said, (found, journey));
        drop(book);
        if lease.back.iter().any(|back| *back > 0) {
            self.made_room(accounts);
        }
        self.leases.answered.notify_waiters();
        self.leases.ring(true);
        matches!(said, Said::Kept { grown: true, .. })
    }

    /// Makes room for a demand that did not fit: what is left of the shares here is given back at once, what is on its way back
    /// already is waited for, and others have a moment to give back theirs. Answers whether to ask again.
    pub(crate) async fn make_room(&self, errand: &Errand, sheets: &[Sheet]) -> bool {
        let accounts = &errand.ask.accounts;
        let here = self.leases.now(self.now()).here;
        let reports: Vec<Lease> = {
            let mut book = self.leases.book.lock();
            let enforced = accounts.iter().filter(|one| one.rule.rule.is_enforced());
            enforced
                .filter_map(|account| book.give_back(&account.key, here))
                .collect()
        };
        if !reports.is_empty() {
            join_all(reports.iter().map(|report| self.report(report))).await;
            return true;
        }
        let returning = self.leases.book.lock().kept_of_returning(accounts);
        if !self.shares_are_to_blame(errand, (sheets, &returning)) {
            return false;
        }
        if returning.iter().any(Option::is_some) && self.has_returned(accounts).await {
            return true;
        }
        let lingers = self.leases.book.lock().may_linger(accounts, here);
        if lingers {
            sleep(GRACE / GRACES).await;
        }
        lingers
    }

    /// Waits until nothing of these accounts' shares is on its way back any more; answers whether that was soon.
    async fn has_returned(&self, accounts: &[Arc<Account>]) -> bool {
        let returned = async {
            loop {
                let answered = self.leases.answered.notified();
                let returning = self.leases.book.lock().kept_of_returning(accounts);
                if returning.iter().all(Option::is_none) {
                    return;
                }
                answered.await;
            }
        };
        timeout(GRACE, returned).await.is_ok()
    }

    /// Whether a demand would fit if others had no shares, and of the ones here nothing were left that is being given back: of
    /// those it is known what stays taken.
    fn shares_are_to_blame(
        &self,
        errand: &Errand,
        (sheets, returning): (&[Sheet], &[Option<Vec<u64>>]),
    ) -> bool {
        let node = errand.desk.node.name;
        let others = |sheet: &Sheet| sheet.leases.iter().any(|lease| lease.node != node);
        if !sheets.iter().any(others) && returning.iter().all(Option::is_none) {
            return false;
        }
        let mut without = sheets.to_vec();
        let accounts = errand.ask.accounts.iter().zip(returning);
        for (sheet, (account, kept)) in without.iter_mut().zip(accounts) {
            sheet.leases.retain(|lease| lease.node == node);
            let limits = account.rule.rule.limits().enumerate();
            for ((at, limit), seen) in limits.zip(&mut sheet.counters) {
                let own = sheet
                    .leases
                    .iter()
                    .filter_map(|lease| lease.amounts.get(at));
                let own: u64 = own.sum();
                let kept = kept.as_ref().and_then(|kept| kept.get(at));
                let own = kept.map_or(own, |kept| own.min(*kept));
                seen.shared = (own, limit.cost(own));
            }
        }
        let views = views(&errand.ask.accounts, &without);
        let judgement = remote::judge(&views, &errand.ask.demand, self.now());
        matches!(judgement, Judgement::Free)
    }

    /// Ends a reservation that was decided here; nothing if it was not.
    pub(crate) fn end_leased(
        &self,
        id: ReservationId,
        ending: (Outcome, Ending),
    ) -> Option<Result<Receipt, SettleError>> {
        let now = self.leases.now(self.now());
        let mut book = self.leases.book.lock();
        let (end, accounts) = book.end(id, ending, now)?;
        let presses = book.presses(&accounts, now.here);
        drop(book);
        self.leases.ring(presses);
        Some(end.map_err(SettleError::from))
    }

    /// Extends a reservation that was decided here; nothing if it was not.
    pub(crate) async fn extend_leased(
        &self,
        id: ReservationId,
        more: (Amounts, Option<Span>),
    ) -> Option<Result<Extended, SettleError>> {
        let mut tries = GRACES;
        loop {
            let now = self.leases.now(self.now());
            let growth = self.leases.book.lock().extend(id, more, now)?;
            let lacks = match growth {
                Growth::Granted(granted) => return Some(Ok(granted)),
                Growth::TooOften => return Some(Err(SettleError::TooOften)),
                Growth::Failed(error) => return Some(Err(error.into())),
                Growth::Lacks(accounts) => accounts,
            };
            if tries == 0 {
                return Some(Ok(self.no_room(&lacks, &more.0)));
            }
            tries -= 1;
            if let Err(error) = self.grow(&lacks, &more.0).await {
                return Some(Err(error.into()));
            }
        }
    }

    /// Has shares grow by what an extension lacks, plenty or not.
    async fn grow(&self, lacks: &[Arc<Account>], more: &Amounts) -> Result<(), LinkError> {
        for account in lacks {
            let answered = self.leases.answered.notified();
            let here = self.leases.now(self.now()).here;
            let report = self.leases.book.lock().report_ahead(account, more, here);
            let Some(report) = report else {
                // Another report is on its way.
                let _ = timeout(GRACE, answered).await;
                continue;
            };
            match self.report(&report).await {
                Ok(true) => {}
                // Others have been asked for their shares.
                Ok(false) => sleep(GRACE / GRACES).await,
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// What blocks an extension.
    fn no_room(&self, lacks: &[Arc<Account>], more: &Amounts) -> Extended {
        let counters = self.leases.book.lock().counters_of(lacks);
        let sheets = lacks.iter().zip(&counters);
        let sheets: Vec<_> = sheets
            .map(|(account, counters)| remote::Sheet {
                rule: &account.rule.rule,
                counters,
            })
            .collect();
        let now = self.now();
        let blocks = match remote::judge(&sheets, more, now) {
            Judgement::Never(never) => return Extended::Never(never),
            Judgement::Blocked(blocks) => blocks,
            Judgement::Free => Vec::new(),
        };
        Extended::Deny(denial(blocks, now))
    }

    /// Gives back all shares, and reports all that was used of them.
    pub(crate) async fn close_leases(self: &Arc<Self>) {
        self.leases.book.lock().close();
        let closed = async {
            loop {
                let answered = self.leases.answered.notified();
                if self.leases.book.lock().is_empty() {
                    return;
                }
                let pause = self.send_reports().min(CLOSING);
                let _ = timeout(pause, answered).await;
            }
        };
        // What cannot be given back counts as used when its time has come.
        let _ = timeout(CLOSING, closed).await;
    }

    /// Whether there are shares to give back.
    pub(crate) fn has_shares(&self) -> bool {
        !self.leases.book.lock().is_empty()
    }
}

fn denial(blocks: Vec<Block>, now: Time) -> Denial {
    match remote::denial(blocks, now) {
        Decision::Deny(denial) => denial,
        _ => Denial {
            blocked_by: Vec::new(),
            retry_after: Duration::ZERO,
            retry_at: now,
        },
    }
}

async fn keep(shared: Weak<Shared>, bell: Arc<Notify>) {
    loop {
        let Some(strong) = shared.upgrade() else {
            return;
        };
        let pause = strong.send_reports().min(NIGHT);
        drop(strong);
        // Either way it is looked again.
        let _ = timeout(pause, bell.notified()).await;
    }
}

/// What the script said to a report.
fn said_of(raw: &[u8]) -> Option<Said> {
    match raw.split_first()? {
        (b'L', rest) => {
            let mut bytes = Unpack(rest);
            Some(Said::Kept {
                grown: bytes.byte()? != 0,
                asked: bytes.byte()? != 0,
                till: instant(bytes.long()?),
            })
        }
        (b'X', _) => Some(Said::Ended),
        _ => Some(Said::Stale),
    }
}
