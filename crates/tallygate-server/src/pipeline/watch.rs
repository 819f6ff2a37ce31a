//! Telling of the thresholds that a call passes after it was let through: when it grows, or uses more than it held.

use std::sync::Arc;

use tallygate_core::Admission;

use super::Pipeline;
use super::watchlist::Watchlist;

/// Whom such a call counts for: the labels of its subject.
#[derive(Debug, Clone)]
pub(crate) struct Watched(Arc<[(String, String)]>);

impl Watched {
    /// Of this subject.
    pub(super) fn of(subject: &[(&str, &str)]) -> Self {
        let owned = |(label, value): &(&str, &str)| ((*label).to_owned(), (*value).to_owned());
        Self(subject.iter().map(owned).collect())
    }
}

impl Pipeline {
    /// For a call of `subject` that was let through; none where nothing is told of its limits.
    pub(crate) fn watched(
        &self,
        subject: &[(&str, &str)],
        admission: &Admission,
    ) -> Option<Watched> {
        let watches = self.events.watches(&admission.standings);
        watches.then(|| Watched::of(subject))
    }

    /// For a call of `subject` of which it is not known what limits it has.
    pub(crate) fn watched_anyhow(&self, subject: &[(&str, &str)]) -> Option<Watched> {
        self.events.tells().then(|| Watched::of(subject))
    }

    /// Whom the open reservations of the decision API count for.
    pub(crate) fn watchlist(&self) -> &Watchlist {
        &self.watchlist
    }

    /// Looks where the limits stand, without keeping the call, and tells of what was passed. A store that does not answer is
    /// not asked again: the next decision tells.
    pub(crate) fn look_at(self: &Arc<Self>, watched: Option<&Watched>) {
        let Some(watched) = watched else { return };
        let (pipeline, watched) = (Arc::clone(self), watched.clone());
        tokio::spawn(async move {
            let pairs = watched.0.iter();
            let subject: Vec<(&str, &str)> = pairs
                .map(|(label, value)| (label.as_str(), value.as_str()))
                .collect();
            if let Ok(standings) = pipeline.store.peek(&subject).await {
                let now = pipeline.store.now();
                pipeline.events.seen(&subject, &standings, now);
            }
        });
    }
}
