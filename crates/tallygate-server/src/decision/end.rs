//! `POST settle`, `cancel` and `extend`.

use serde_json::value::RawValue;
use serde_json::{Value, json};
use tallygate_core::{Amounts, Extended, Outcome, Receipt, ReservationId, Stated};
use tallygate_store::{SettleError, Settlement};
use tallygate_tokens::{Dialect, Usage, usage_of_value};

use super::fields::{FieldError, Fields};
use super::reserve::stated;
use super::sizing::Form;
use super::{Question, Told, told};
use crate::pipeline::Refusal;
use crate::wire::{ApiError, rfc3339};

/// The parts of a usage that are subsets of its input or output.
const DETAILS: [&str; 4] = [
    "cached_input_tokens",
    "cache_write_tokens",
    "reasoning_tokens",
    "audio_tokens",
];

impl Question<'_> {
    /// Replaces what a reservation holds by what was used.
    ///
    /// # Errors
    /// When the reservation is unknown or ended otherwise.
    pub(super) async fn settle(&self) -> Result<Told, Refusal> {
        let mut fields = Fields::of_body(self.body)?;
        let id = reservation(&mut fields)?;
        let used = self.used(&mut fields)?;
        let exact = fields.flag("exact")?.unwrap_or(true);
        fields.end()?;
        let usage = match exact {
            true => Settlement::Stated(used),
            false => Settlement::AtLeast(used.or(&Amounts::ZERO)),
        };
        let ended = self.pipeline.store().settle(id, usage).await;
        Ok(self.ended(Outcome::Settled, ended)?)
    }

    /// Gives back all that a reservation holds.
    ///
    /// # Errors
    /// When the reservation is unknown or ended otherwise.
    pub(super) async fn cancel(&self) -> Result<Told, Refusal> {
        let mut fields = Fields::of_body(self.body)?;
        let id = reservation(&mut fields)?;
        fields.end()?;
        let ended = self.pipeline.store().cancel(id).await;
        Ok(self.ended(Outcome::Cancelled, ended)?)
    }

    /// Moves a reservation's deadline, or adds to what it holds, or both.
    ///
    /// # Errors
    /// Denials, and when the reservation is unknown or has ended.
    pub(super) async fn extend(&self) -> Result<Value, Refusal> {
        let mut fields = Fields::of_body(self.body)?;
        let id = reservation(&mut fields)?;
        let ttl = fields.ttl("ttl_ms")?;
        let metrics = self.caller.config().metrics();
        let demand = fields
            .object("demand")?
            .map(|demand| stated(demand, metrics).map(|more| more.or(&Amounts::ZERO)))
            .transpose()?;
        if ttl.is_none() && demand.is_none() {
            return Err(fields.missing("ttl_ms").into());
        }
        fields.end()?;
        let more = demand.unwrap_or_default();
        match self.pipeline.store().extend(id, more, ttl).await {
            Ok(Extended::Granted {
                expires_at,
                reserved,
            }) => {
                self.pipeline.observer().extended(&more);
                Ok(json!({
                    "reservation": id.to_string(),
                    "expires_at": rfc3339(expires_at),
                    "reserved": told::amounts(&reserved, metrics),
                }))
            }
            Ok(Extended::Deny(denial)) => Err(Refusal::of(denial.into(), "", more)),
            Ok(Extended::Never(never)) => Err(Refusal::of(never.into(), "", more)),
            Err(error) => Err(self.failed(error).into()),
        }
    }

    fn ended(
        &self,
        wanted: Outcome,
        ended: Result<Receipt, SettleError>,
    ) -> Result<Told, ApiError> {
        match ended {
            Ok(receipt) => {
                self.pipeline.observer().ended(&receipt);
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

    /// What was used: `usage`, or what the provider's `response` says.
    fn used(&self, fields: &mut Fields<'_>) -> Result<Stated, FieldError> {
        let dialect = Form::dialect(fields)?;
        match (fields.object("usage")?, fields.raw("response")) {
            (Some(_), Some(_)) => Err(fields.wrong("response", "left out beside `usage`")),
            (Some(mut usage), None) => {
                for detail in DETAILS {
                    usage.amount(detail)?;
                }
                stated(usage, self.caller.config().metrics())
            }
            (None, Some(response)) => {
                let usage = usage_of(response, dialect)?;
                let usage = usage
                    .ok_or_else(|| fields.wrong("response", "an answer that tells its usage"))?;
                Ok(Stated::tokens(usage.input_tokens, usage.output_tokens))
            }
            (None, None) => Err(fields.missing("usage")),
        }
    }
}

fn reservation(fields: &mut Fields<'_>) -> Result<ReservationId, FieldError> {
    let text = fields
        .text("reservation")?
        .ok_or_else(|| fields.missing("reservation"))?;
    text.parse()
        .map_err(|_| fields.wrong("reservation", "the name of a reservation"))
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
