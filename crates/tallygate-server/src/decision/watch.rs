//! Telling of what a reservation meets after it was made: the thresholds that it passes when it grows or has used more than it
//! held, and the limits that deny it more.

use tallygate_core::{Admission, Amounts, Metric, Receipt, Replay, ReservationId, Standing, Time};
use tallygate_store::SettleError;

use super::Question;
use super::money::Reservation;
use super::subject::Subject;
use crate::pipeline::{Holding, Watched};

impl Question<'_> {
    /// Remembers whom a reservation counts for, where something is told of that.
    pub(super) fn watch(&self, admission: &Admission, subject: &[(&str, &str)]) {
        let watched = self.pipeline.watched(subject, admission);
        let (Some(watched), Replay::Fresh | Replay::Open) = (watched, admission.replay) else {
            return;
        };
        let holding = Holding {
            watched,
            reserved: admission.reserved,
            expires_at: admission.expires_at,
        };
        self.remember_holding(admission.id, holding);
    }

    /// A reservation holds so much until then. More of it is told of.
    pub(super) fn tell_growth(
        &self,
        reservation: &Reservation,
        more: &Amounts,
        (reserved, expires_at): (Amounts, Time),
    ) {
        let holding = self.pipeline.watchlist().find(reservation.id);
        if let Some(holding) = &holding {
            let holding = Holding {
                watched: holding.watched.clone(),
                reserved,
                expires_at,
            };
            self.remember_holding(reservation.id, holding);
        }
        if *more != Amounts::ZERO {
            self.look_at(reservation, holding);
        }
    }

    /// A reservation was denied more by these limits. That is told of like any denial.
    pub(super) fn tell_denied(&self, reservation: &Reservation, blocked_by: &[Standing]) {
        let holding = self.pipeline.watchlist().find(reservation.id);
        let watched = self.watched(reservation, holding);
        self.pipeline.denied_more(watched.as_ref(), blocked_by);
    }

    /// A reservation has ended so. What it used above what it held is told of.
    pub(super) fn tell_end(&self, reservation: &Reservation, ended: &Result<Receipt, SettleError>) {
        if let Err(SettleError::Store(_)) = ended {
            return;
        }
        let holding = self.pipeline.watchlist().forget(reservation.id);
        let overran = match ended {
            Ok(receipt) => !receipt.is_repeat() && may_exceed(receipt, holding.as_ref()),
            // What it comes to is not known here.
            Err(SettleError::Kept { .. }) => true,
            Err(_) => false,
        };
        if overran {
            self.look_at(reservation, holding);
        }
    }

    fn remember_holding(&self, id: ReservationId, holding: Holding) {
        let now = self.pipeline.store().now();
        self.pipeline.watchlist().remember(id, holding, now);
    }

    fn look_at(&self, reservation: &Reservation, holding: Option<Holding>) {
        let watched = self.watched(reservation, holding);
        self.pipeline.look_at(watched.as_ref());
    }

    fn watched(&self, reservation: &Reservation, holding: Option<Holding>) -> Option<Watched> {
        let known = holding.map(|holding| holding.watched);
        known.or_else(|| self.watched_by_caller(reservation))
    }

    /// Of a reservation that was made elsewhere: the labels of whoever speaks of it are all that is known.
    fn watched_by_caller(&self, reservation: &Reservation) -> Option<Watched> {
        let own = Subject::of(self.caller.identity());
        let name = reservation.model.as_deref().unwrap_or_default();
        let (model, upstream) = self.caller.config().model_label(name);
        let upstream = upstream.map_or("", |upstream| upstream.name());
        let labels = own.labels(&[("model", model), ("upstream", upstream)]);
        self.pipeline.watched_anyhow(&labels)
    }
}

/// Whether more was charged than held; of what was held elsewhere all that is known is that some of it was returned, or none.
fn may_exceed(receipt: &Receipt, holding: Option<&Holding>) -> bool {
    let Some(holding) = holding else {
        let mut charged = receipt.charged.iter();
        return charged
            .any(|(metric, _)| metric != Metric::REQUESTS && receipt.returned.get(metric) == 0);
    };
    let above = receipt.charged.zip(&holding.reserved, u64::saturating_sub);
    above != Amounts::ZERO
}
