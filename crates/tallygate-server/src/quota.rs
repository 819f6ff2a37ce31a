//! What is in the way of a call that another model may help out of: nobody sits a quota out.

use tallygate_core::{Decision, Denial, Mode};

/// Whether another model may help where this was said: a quota is used up, or the demand can never fit.
pub(crate) fn is_for_a_quota(decision: &Decision) -> bool {
    match decision {
        Decision::Admit(_) => false,
        Decision::Deny(denial) => has_a_quota(denial),
        Decision::Never(_) => true,
    }
}

fn has_a_quota(denial: &Denial) -> bool {
    let mut blocking = denial.blocked_by.iter().map(|standing| &standing.limit);
    blocking.any(|limit| limit.mode == Mode::Enforce && limit.is_quota())
}
