//! A stream that outgrows its hold.

use std::task::{Context, Poll};

use tallygate_core::Extended;
use tallygate_store::{BoxFuture, SettleError};

use super::farewell::Cut;
use crate::config::Overrun;
use crate::pipeline::Account;

/// The least that is asked for beyond what has passed, in output tokens.
const LEAST_STEP: u64 = 16;

/// What is asked for beyond what has passed, of what is held already: a quarter, at least so much.
const FIRST_STEP: u64 = 256;

/// Watches one stream outgrow its hold, and asks for more in steps. A step that does not fit is asked for again smaller,
/// so that a stream that is to be cut is cut where the limit ends.
pub(super) struct Growth {
    overrun: Overrun,
    /// More is asked for when more than this has passed.
    ask_above: u64,
    step: u64,
    asked: Option<BoxFuture<'static, Result<Extended, SettleError>>>,
}

/// What came of asking.
enum Said {
    More,
    Less,
    No,
}

impl Growth {
    /// For a hold of `held` output tokens.
    pub(super) fn new(overrun: Overrun, held: u64) -> Self {
        Self {
            overrun,
            ask_above: held,
            step: step(held),
            asked: None,
        }
    }

    /// Looks at the stream after `passed` output tokens. Returns why it must be cut, if it must.
    pub(super) fn poll(
        &mut self,
        passed: u64,
        account: &mut Account,
        cx: &mut Context<'_>,
    ) -> Option<Cut> {
        while passed > self.ask_above {
            let Poll::Ready(said) = self.poll_ask(passed, account, cx) else {
                return None;
            };
            match said {
                Said::More => {
                    self.ask_above = account.held_output();
                    self.step = step(self.ask_above);
                }
                Said::Less => self.step /= 4,
                Said::No if self.overrun == Overrun::Cut => return Some(Cut::Overrun),
                Said::No => self.ask_above = passed.saturating_add(FIRST_STEP),
            }
        }
        None
    }

    fn poll_ask(&mut self, passed: u64, account: &mut Account, cx: &mut Context<'_>) -> Poll<Said> {
        let more = passed.saturating_sub(account.held_output());
        let more = more.saturating_add(self.step);
        let asked = self.asked.get_or_insert_with(|| account.ask_more(more));
        let answer = std::task::ready!(asked.as_mut().poll(cx));
        self.asked = None;
        Poll::Ready(match answer {
            Ok(Extended::Granted { reserved, .. }) => {
                account.grown_to(reserved);
                Said::More
            }
            Ok(Extended::Deny(_) | Extended::Never(_)) if self.step > LEAST_STEP => Said::Less,
            Ok(Extended::Deny(denial)) => {
                account.denied_more(&denial.blocked_by);
                Said::No
            }
            Ok(Extended::Never(never)) => {
                account.denied_more(&never.blocked_by);
                Said::No
            }
            _ => Said::No,
        })
    }
}

fn step(held: u64) -> u64 {
    (held / 4).max(FIRST_STEP)
}
