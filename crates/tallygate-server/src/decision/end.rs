//! `POST settle`, `cancel` and `extend`.

use std::time::Duration;

use serde_json::value::RawValue;
use serde_json::{Value, json};
use tallygate_core::{Amounts, Extended, Metric, Outcome, Receipt, ReservationId, Stated};
use tallygate_store::usage::{self, Method};
use tallygate_store::{SettleError, Settlement};
use tallygate_tokens::{Dialect, Usage, usage_of_value};

use super::fields::{FieldError, Fields};
use super::money::Reservation;
use super::reserve::stated;
use super::sizing::Form;
use super::subject::Subject;
use super::{Question, Told, told};
use crate::ledger::{self, Entry, Reserved, Use};
use crate::pipeline::{Price, Refusal};
use crate::wire::{ApiError, rfc3339};

/// What a body says was used.
struct Spent {
    stated: Stated,
    /// The parts that are subsets of input or output.
    details: Usage,
}

impl Question<'_> {
    /// Replaces what a reservation holds by what was used.
    ///
    /// # Errors
    /// When the reservation is unknown or ended otherwise.
    pub(super) async fn settle(&self) -> Result<Told, Refusal> {
        let mut fields = Fields::of_body(self.body)?;
        let reservation = Reservation::read(&mut fields)?;
        let price = self.settling_price(&reservation, &mut fields)?;
        let Spent {
            mut stated,
            details,
        } = self.spent(&mut fields)?;
        price.settled(&mut stated, &details);
        let exact = fields.flag("exact")?.unwrap_or(true);
        fields.end()?;
        let usage = match exact {
            true => Settlement::Stated(stated),
            false => Settlement::AtLeast(stated.or(&Amounts::ZERO)),
        };
        let ended = self.pipeline.store().settle(reservation.id, usage).await;
        self.end_marks(&reservation, &ended).await;
        self.tell_end(&reservation, &ended);
        self.record(&reservation, &ended, |receipt| {
            let charged = charged(usage, receipt);
            let cost = charged.get(Metric::COST);
            let known = stated.get(Metric::COST).is_some() || cost > 0;
            Use {
                charged,
                cost: known.then_some(cost),
                details,
                method: if exact { Method::Exact } else { Method::Kept },
            }
        })
        .await;
        self.pipeline.recorder().safe().await;
        Ok(self.ended(Outcome::Settled, ended)?)
    }

    /// Gives back all that a reservation holds.
    ///
    /// # Errors
    /// When the reservation is unknown or ended otherwise.
    pub(super) async fn cancel(&self) -> Result<Told, Refusal> {
        let mut fields = Fields::of_body(self.body)?;
        let reservation = Reservation::read(&mut fields)?;
        fields.end()?;
        let ended = self.pipeline.store().cancel(reservation.id).await;
        self.end_marks(&reservation, &ended).await;
        self.tell_end(&reservation, &ended);
        self.record(&reservation, &ended, |_| Use::default()).await;
        self.pipeline.recorder().safe().await;
        Ok(self.ended(Outcome::Cancelled, ended)?)
    }

    /// Moves a reservation's deadline, or adds to what it holds, or both.
    ///
    /// # Errors
    /// Denials, and when the reservation is unknown or has ended.
    pub(super) async fn extend(&self) -> Result<Value, Refusal> {
        let mut fields = Fields::of_body(self.body)?;
        let reservation = Reservation::read(&mut fields)?;
        let price = self.reserved_price(&reservation)?;
        let ttl = fields.ttl("ttl_ms")?;
        let metrics = self.caller.config().metrics();
        let demand = fields.object("demand")?;
        let demand = demand.map(|demand| stated(demand, metrics)).transpose()?;
        if ttl.is_none() && demand.is_none() {
            return Err(fields.missing("ttl_ms").into());
        }
        fields.end()?;
        let more = match demand {
            Some(demand) => self.priced_anew(reservation.id, &demand, &price).await?,
            None => Amounts::ZERO,
        };
        match self
            .pipeline
            .store()
            .extend(reservation.id, more, ttl)
            .await
        {
            Ok(Extended::Granted {
                expires_at,
                reserved,
            }) => {
                self.pipeline.observer().extended(&more);
                let recorder = self.pipeline.recorder();
                let stands = (reservation.id, expires_at);
                recorder
                    .extended(stands, &reserved, self.caller.config())
                    .await;
                self.tell_growth(&reservation, &more, (reserved, expires_at));
                self.extend_marks(&reservation, ttl).await;
                Ok(json!({
                    "reservation": reservation.to_string(),
                    "expires_at": rfc3339(expires_at),
                    "reserved": told::amounts(&reserved, metrics),
                }))
            }
            Ok(Extended::Deny(denial)) => {
                self.tell_denied(&reservation, &denial.blocked_by);
                Err(Refusal::of(denial.into(), "", more))
            }
            Ok(Extended::Never(never)) => {
                self.tell_denied(&reservation, &never.blocked_by);
                Err(Refusal::of(never.into(), "", more))
            }
            Err(error) => Err(self.failed(error).into()),
        }
    }

    /// What is added to a reservation with what it may cost more: the whole may come to a dearer length than either part.
    async fn priced_anew(
        &self,
        id: ReservationId,
        more: &Stated,
        price: &Price,
    ) -> Result<Amounts, ApiError> {
        if !price.prices(more) {
            return Ok(more.or(&Amounts::ZERO));
        }
        let held = self.pipeline.store().extend(id, Amounts::ZERO, None).await;
        match held.map_err(|error| self.failed(error))? {
            Extended::Granted { reserved, .. } => Ok(price.added(more, &reserved)),
            // Nothing was asked for that could be denied.
            _ => Err(ApiError::Internal),
        }
    }

    fn ended(
        &self,
        wanted: Outcome,
        ended: Result<Receipt, SettleError>,
    ) -> Result<Told, ApiError> {
        match ended {
            Ok(receipt) => {
                if !receipt.is_repeat() {
                    self.pipeline.observer().ended(&receipt);
                }
                Ok(told::receipt(&receipt, self.caller.config().metrics()).into())
            }
            // Its receipt is counted when there is one.
            Err(SettleError::Kept { outcome }) if outcome == wanted => {
                Ok(Told::accepted(told::kept(outcome)))
            }
            Err(error) => Err(self.failed(error)),
        }
    }

    fn failed(&self, error: SettleError) -> ApiError {
        match error {
            SettleError::Unknown => ApiError::UnknownReservation,
            SettleError::Standing(receipt) => ApiError::Ended {
                outcome: receipt.outcome,
                receipt: told::receipt(&receipt, self.caller.config().metrics()),
            },
            SettleError::Kept { outcome } => ApiError::Ended {
                outcome,
                receipt: told::kept(outcome),
            },
            SettleError::Store(error) => error.into(),
            _ => ApiError::Internal,
        }
    }

    /// Ends the marks that led to a reservation which has ended: they are remembered as long as its receipt. What is not done now
    /// ends at its deadline, or with a repeat.
    async fn end_marks(&self, reservation: &Reservation, ended: &Result<Receipt, SettleError>) {
        if let Ok(_) | Err(SettleError::Kept { .. }) = ended {
            for mark in &reservation.marks {
                let _: Result<Receipt, SettleError> = self.pipeline.store().cancel(*mark).await;
            }
        }
    }

    /// Lets the marks that lead to a reservation stand as long as it does.
    async fn extend_marks(&self, reservation: &Reservation, ttl: Option<Duration>) {
        let Some(ttl) = ttl else { return };
        for mark in &reservation.marks {
            let extended = self
                .pipeline
                .store()
                .extend(*mark, Amounts::ZERO, Some(ttl));
            let _: Result<Extended, SettleError> = extended.await;
        }
    }

    /// Tells the ledger of an end that takes effect, now or once the store hears of it. A repeat was told to the ledger by whoever
    /// it was that ended it, on this node or another, since a restart or before, unless that process was killed in between.
    async fn record(
        &self,
        reservation: &Reservation,
        ended: &Result<Receipt, SettleError>,
        used: impl FnOnce(Option<&Receipt>) -> Use,
    ) {
        let recorder = self.pipeline.recorder();
        let (outcome, receipt) = match ended {
            Ok(receipt) if receipt.is_repeat() => return recorder.left(reservation.id, receipt),
            Ok(receipt) => (receipt.outcome, Some(receipt)),
            Err(SettleError::Kept { outcome }) => (*outcome, None),
            Err(SettleError::Standing(receipt)) if receipt.outcome == Outcome::Expired => {
                let config = self.caller.config();
                return recorder.late(reservation.id, receipt, config).await;
            }
            Err(_) => return,
        };
        let outcome = match outcome {
            Outcome::Settled => usage::Outcome::Settled,
            Outcome::Cancelled => usage::Outcome::Cancelled,
            Outcome::Expired => return,
        };
        // Of a reservation that was made elsewhere and has no memo, whoever ends it is all that is known, and the model that its name
        // says.
        let otherwise = || {
            let own = Subject::of(self.caller.identity());
            let reserved = Reserved {
                at: self.pipeline.store().now(),
                amounts: receipt.map_or(Amounts::ZERO, held),
                waited: Duration::ZERO,
            };
            let name = reservation.model.as_deref().unwrap_or_default();
            let (model, upstream) = self.caller.config().model_label(name);
            let upstream = upstream.map_or("", |upstream| upstream.name());
            let labels = own.labels(&[("model", model), ("upstream", upstream)]);
            Entry::new(ledger::Subject::of(&labels, model), &reserved)
        };
        let end = ledger::End {
            id: reservation.id,
            outcome,
            used: used(receipt),
            setup: self.pipeline.setup(),
        };
        recorder.ended(end, otherwise).await;
    }

    /// The price that a settled reservation is charged by: of the `model` that is named now, else of the one it was held for.
    fn settling_price(
        &self,
        reservation: &Reservation,
        fields: &mut Fields<'_>,
    ) -> Result<Price, ApiError> {
        match fields.text("model")? {
            Some(model) => self.price(&model),
            None => self.reserved_price(reservation),
        }
    }

    fn reserved_price(&self, reservation: &Reservation) -> Result<Price, ApiError> {
        self.price(reservation.model.as_deref().unwrap_or_default())
    }

    /// What was used: `usage`, or what the provider's `response` says.
    fn spent(&self, fields: &mut Fields<'_>) -> Result<Spent, FieldError> {
        let dialect = Form::dialect(fields)?;
        match (fields.object("usage")?, fields.raw("response")) {
            (Some(_), Some(_)) => Err(fields.wrong("response", "left out beside `usage`")),
            (Some(mut usage), None) => {
                let details = details(&mut usage)?;
                let stated = stated(usage, self.caller.config().metrics())?;
                check_parts(&stated, &details)?;
                Ok(Spent { stated, details })
            }
            (None, Some(response)) => {
                let usage = usage_of(response, dialect)?;
                let usage = usage
                    .ok_or_else(|| fields.wrong("response", "an answer that tells its usage"))?;
                Ok(Spent {
                    stated: Stated::tokens(usage.input_tokens, usage.output_tokens),
                    details: usage,
                })
            }
            (None, None) => Err(fields.missing("usage")),
        }
    }
}

/// The parts of a usage that are subsets of its input or output.
fn details(usage: &mut Fields<'_>) -> Result<Usage, FieldError> {
    let mut part = |name| Ok(usage.amount(name)?.unwrap_or(0));
    Ok(Usage {
        cached_input_tokens: part("cached_input_tokens")?,
        cache_write_tokens: part("cache_write_tokens")?,
        reasoning_tokens: part("reasoning_tokens")?,
        audio_tokens: part("audio_tokens")?,
        ..Usage::default()
    })
}

/// A part is no larger than its whole, as far as that is stated.
fn check_parts(stated: &Stated, parts: &Usage) -> Result<(), FieldError> {
    let whole = |metric| stated.get(metric).or(stated.get(Metric::TOKENS));
    let input = whole(Metric::INPUT_TOKENS).unwrap_or(u64::MAX);
    let output = whole(Metric::OUTPUT_TOKENS).unwrap_or(u64::MAX);
    let (cached, written) = (parts.cached_input_tokens, parts.cache_write_tokens);
    let of_input = "no more than `input_tokens`, of which it is a part";
    let of_output = "no more than `output_tokens`, of which it is a part";
    for (name, part, whole, wanted) in [
        ("cached_input_tokens", cached, input, of_input),
        (
            "cache_write_tokens",
            cached.saturating_add(written),
            input,
            of_input,
        ),
        (
            "reasoning_tokens",
            parts.reasoning_tokens,
            output,
            of_output,
        ),
    ] {
        if part > whole {
            let path = format!("usage.{name}");
            return Err(FieldError::Wrong { path, wanted });
        }
    }
    Ok(())
}

/// What a settlement came to: tokens as stated, so that of a sum alone no kind is made up; what is not spoken of as charged.
fn charged(usage: Settlement, receipt: Option<&Receipt>) -> Amounts {
    let charged = receipt.map_or(Amounts::ZERO, |receipt| receipt.charged);
    match usage {
        Settlement::Stated(stated) if stated.get(Metric::TOKENS).is_some() => {
            let cost = stated.get(Metric::COST);
            let cost = cost.unwrap_or(charged.get(Metric::COST));
            stated.or(&Amounts::ZERO).with(Metric::COST, cost)
        }
        Settlement::AtLeast(least) => charged.zip(&least, u64::max),
        _ => charged,
    }
}

/// What a reservation held that ended so.
fn held(receipt: &Receipt) -> Amounts {
    let sum = |a: u64, b: u64| a.saturating_add(b);
    let all = receipt.charged.zip(&receipt.returned, sum);
    all.zip(&receipt.debt, u64::saturating_sub)
}

/// The usage that a provider's answer tells, in whatever dialect it is.
fn usage_of(response: &RawValue, dialect: Option<Dialect>) -> Result<Option<Usage>, FieldError> {
    let wrong = |_| FieldError::Wrong {
        path: "response".to_owned(),
        wanted: "an object",
    };
    let answer: Value = serde_json::from_str(response.get()).map_err(wrong)?;
    let gemini = answer.get("usageMetadata");
    let usage = gemini.or_else(|| answer.get("usage"));
    let dialect = dialect.unwrap_or(match answer.get("type").and_then(Value::as_str) {
        _ if gemini.is_some() => Dialect::Gemini,
        Some("message") => Dialect::Anthropic,
        _ => Dialect::OpenAi,
    });
    Ok(usage.and_then(|usage| usage_of_value(dialect, usage)))
}
