//! What tells a quota from a rate: nobody sits a quota out.

use tallygate_core::{Calendar, LimitInfo, Metric, Shape};

/// Whether a wait for this limit is one for a new day, week or month, or for money.
pub(crate) fn is_quota(limit: &LimitInfo) -> bool {
    is_quota_of(limit.metric, &limit.shape)
}

/// As [`is_quota`], of a limit that is only written yet.
pub(crate) fn is_quota_of(metric: Metric, shape: &Shape) -> bool {
    let by_calendar = matches!(
        shape,
        Shape::Fixed {
            window: Calendar::Day | Calendar::Week | Calendar::Month,
            ..
        }
    );
    by_calendar || metric == Metric::COST
}
