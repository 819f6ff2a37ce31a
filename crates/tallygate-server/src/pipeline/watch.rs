//! Telling of what a call meets after it was let through: the thresholds that it passes when it grows or uses more than it
//! held, and the limits that deny it more.

use std::sync::Arc;

use tallygate_core::{Admission, Standing};

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

    fn subject(&self) -> Vec<(&str, &str)> {
        let pairs = self.0.iter();
        pairs.map(|(label, value)| (&**label, &**value)).collect()
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

    /// Tells that limits denied such a call more than it had.
    pub(crate) fn denied_more(&self, watched: Option<&Watched>, blocked_by: &[Standing]) {
        let Some(watched) = watched else { return };
        let (subject, now) = (watched.subject(), self.store.now());
        self.events.denied(&subject, blocked_by, now);
    }

    /// Looks where the limits stand, without keeping the call, and tells of what was passed. A store that does not answer is
    /// not asked again: the next decision tells.
    pub(crate) fn look_at(self: &Arc<Self>, watched: Option<&Watched>) {
        let Some(watched) = watched else { return };
        let (pipeline, watched) = (Arc::clone(self), watched.clone());
        tokio::spawn(async move {
            let subject = watched.subject();
            if let Ok(standings) = pipeline.store.peek(&subject).await {
                let now = pipeline.store.now();
                pipeline.events.seen(&subject, &standings, now);
            }
        });
    }
}
