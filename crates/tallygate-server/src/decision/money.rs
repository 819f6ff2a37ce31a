//! What wishes and usages of the decision API cost, and the names of reservations that remember whose price counts.

use std::fmt;

use tallygate_core::{Amounts, Metric, ReservationId, Stated};
use tallygate_tokens::{Cost, Usage};

use super::Question;
use super::fields::{FieldError, Fields};
use crate::config::Priced;
use crate::pipeline::{Price, check_name};
use crate::wire::ApiError;

/// How many marks a name may have: no ladder is as long.
const MOST_MARKS: usize = 256;

/// A reservation as callers name it: `ID`, or `ID.MODEL` where it was held at the price of a model. So whoever settles it,
/// on whatever instance, charges by the same prices, and nothing has to be kept for it. Where an idempotency key left marks on a
/// ladder they stand behind the id, `ID+MARK+MARK`, and end with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Reservation {
    pub(super) id: ReservationId,
    pub(super) marks: Vec<ReservationId>,
    pub(super) model: Option<String>,
}

impl fmt::Display for Reservation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.id)?;
        self.marks
            .iter()
            .try_for_each(|mark| write!(f, "+{mark}"))?;
        self.model
            .iter()
            .try_for_each(|model| write!(f, ".{model}"))
    }
}

impl Reservation {
    /// Takes the field `reservation`.
    ///
    /// # Errors
    /// When it is missing or no name of one.
    pub(super) fn read(fields: &mut Fields<'_>) -> Result<Self, FieldError> {
        let text = fields.text("reservation")?;
        let text = text.ok_or_else(|| fields.missing("reservation"))?;
        let (ids, model) = match text.split_once('.') {
            Some((ids, model)) => (ids, Some(model.to_owned())),
            None => (text.as_str(), None),
        };
        let wrong = || fields.wrong("reservation", "the name of a reservation");
        let ids: Result<Vec<ReservationId>, _> = ids.split('+').map(str::parse).collect();
        let mut ids = ids.map_err(|_| wrong())?.into_iter();
        let id = ids.next().ok_or_else(wrong)?;
        if ids.len() > MOST_MARKS {
            return Err(wrong());
        }
        let marks = ids.collect();
        Ok(Self { id, marks, model })
    }
}

impl Question<'_> {
    /// The price of a model by the name that a caller gives it; of none, none.
    ///
    /// # Errors
    /// When it is no name of a model.
    pub(super) fn price(&self, name: &str) -> Result<Price, ApiError> {
        if name.is_empty() {
            return Ok(Price::default());
        }
        check_name(name)?;
        let (label, upstream) = self.caller.config().model_label(name);
        Ok(self.caller.price(&Priced {
            name,
            label,
            upstream: upstream.map(|upstream| upstream.name()),
        }))
    }

    /// Makes sure that what `stated` leaves out of the cost of a call is known.
    ///
    /// # Errors
    /// When a limit that applies to `subject` counts money, and neither the cost nor the price of the model is known.
    pub(super) fn check_cost(
        &self,
        stated: &Stated,
        price: &Price,
        (model, subject): (Option<&str>, &[(&str, &str)]),
    ) -> Result<(), ApiError> {
        let tokens = stated.get(Metric::TOKENS).unwrap_or(0) > 0;
        let free = model.is_none() && !tokens;
        match stated.get(Metric::COST).is_some() || free {
            true => Ok(()),
            false => self
                .caller
                .may_count(price, (model.unwrap_or_default(), subject)),
        }
    }
}

impl Price {
    /// These amounts with the most that their tokens can cost, unless they tell their cost.
    pub(super) fn filled(&self, stated: &Stated, others: &Amounts) -> Amounts {
        let amounts = stated.or(others);
        match (stated.get(Metric::COST), self.most(stated)) {
            (None, Some(cost)) => amounts.with(Metric::COST, cost.micros()),
            _ => amounts,
        }
    }

    /// Whether the cost of these amounts is left to the price of their model: it is known, and they are tokens without a cost.
    pub(super) fn prices(&self, stated: &Stated) -> bool {
        let tokens = stated.get(Metric::TOKENS).unwrap_or(0);
        self.is_known() && tokens > 0 && stated.get(Metric::COST).is_none()
    }

    /// `more` than is held, with what the whole may cost more than what is held.
    pub(super) fn added(&self, more: &Stated, held: &Amounts) -> Amounts {
        let amounts = more.or(&Amounts::ZERO);
        let whole = held.zip(&amounts, u64::saturating_add);
        let of = |metric| whole.get(metric);
        let (input, output) = (of(Metric::INPUT_TOKENS), of(Metric::OUTPUT_TOKENS));
        // Whose side was not told may be of either.
        let untold = of(Metric::TOKENS).saturating_sub(input.saturating_add(output));
        let as_input = self.bound(input.saturating_add(untold), output);
        let most = as_input.max(self.bound(input, output.saturating_add(untold)));
        let held = Cost::from_micros(held.get(Metric::COST));
        match most {
            Some(most) => amounts.with(Metric::COST, most.saturating_sub(held).micros()),
            None => amounts,
        }
    }

    /// The most that the tokens which are stated can cost, of whatever side those are whose side is not told.
    fn most(&self, stated: &Stated) -> Option<Cost> {
        let of = |metric| stated.get(metric).unwrap_or(0);
        let sides = stated
            .get(Metric::INPUT_TOKENS)
            .or(stated.get(Metric::OUTPUT_TOKENS));
        let tokens = of(Metric::TOKENS);
        match sides {
            Some(_) => self.bound(of(Metric::INPUT_TOKENS), of(Metric::OUTPUT_TOKENS)),
            None => self.bound(tokens, 0).max(self.bound(0, tokens)),
        }
    }

    /// States the cost of `usage` beside its tokens, unless it is stated already or no tokens are.
    pub(super) fn settled(&self, stated: &mut Stated, details: &Usage) {
        let usage = Usage {
            input_tokens: stated.get(Metric::INPUT_TOKENS).unwrap_or(0),
            output_tokens: stated.get(Metric::OUTPUT_TOKENS).unwrap_or(0),
            ..*details
        };
        let sides = stated.get(Metric::INPUT_TOKENS).is_some();
        let cost = match stated.get(Metric::TOKENS) {
            Some(_) if sides => self.cost(&usage),
            Some(_) => self.most(stated),
            None => None,
        };
        if let (Some(cost), None) = (cost, stated.get(Metric::COST)) {
            stated.set(Metric::COST, cost.micros());
        }
    }
}
