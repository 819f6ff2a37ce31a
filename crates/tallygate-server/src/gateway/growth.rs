//! A stream that outgrows its hold.

use std::task::{Context, Poll};

use tallygate_core::Extended;
use tallygate_store::{BoxFuture, SettleError};

use super::farewell::Cut;
use crate::pipeline::Account;

/// The least that is asked for at once, in output tokens.
const LEAST_STEP: u64 = 256;

/// What becomes of a stream that outgrows its hold when no more can be had.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Overrun {
    /// It runs on; what it uses above its hold becomes debt.
    #[default]
    Run,
    /// It is cut.
    Cut,
}

/// Watches one stream outgrow its hold, and asks for more in steps.
pub(super) struct Growth {
    overrun: Overrun,
    /// More is asked for when more than this has passed.
    ask_above: u64,
    asked: Option<BoxFuture<'static, Result<Extended, SettleError>>>,
}

impl Growth {
    /// For a hold of `held` output tokens.
    pub(super) fn new(overrun: Overrun, held: u64) -> Self {
        Self {
            overrun,
            ask_above: held,
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
        if passed <= self.ask_above && self.asked.is_none() {
            return None;
        }
        let asked = self.asked.get_or_insert_with(|| {
            let step = step(self.ask_above);
            account.ask_more((passed - self.ask_above).saturating_add(step))
        });
        let Poll::Ready(answer) = asked.as_mut().poll(cx) else {
            return None;
        };
        self.asked = None;
        match answer {
            Ok(Extended::Granted { reserved, .. }) => {
                account.grown_to(reserved);
                self.ask_above = account.held_output();
                None
            }
            Ok(Extended::Deny(_) | Extended::Never(_)) if self.overrun == Overrun::Cut => {
                Some(Cut::Overrun)
            }
            _ => {
                self.ask_above = passed.saturating_add(step(passed));
                None
            }
        }
    }
}

/// How much more is asked for at once: a quarter of what there is.
fn step(held: u64) -> u64 {
    (held / 4).max(LEAST_STEP)
}
