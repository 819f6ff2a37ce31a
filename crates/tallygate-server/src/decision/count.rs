//! `POST count` and `estimate`.

use serde_json::{Value, json};
use std::sync::Arc;
use tallygate_tokens::{Call, Cost, Count, Endpoint, Estimate};
use tokio::task::spawn_blocking;

use super::Question;
use super::fields::Fields;
use super::sizing::Form;
use super::subject::Subject;
use crate::pipeline::Refusal;
use crate::wire::ApiError;

/// Texts above this are counted off the async workers, which are to be held for no more than a millisecond.
const COUNTED_IN_PLACE: usize = 64 * 1024;

/// How large a text or a call is, and of which model.
struct Sizes {
    model: String,
    input: Count,
    output: Estimate,
}

impl Question<'_> {
    /// How many tokens a text or a call has.
    ///
    /// # Errors
    /// When the body has neither, or both.
    pub(super) async fn count(&self) -> Result<Value, Refusal> {
        let Sizes { input, .. } = self.sizes().await?;
        Ok(json!({ "input_tokens": input.tokens, "method": input.method }))
    }

    /// As [`Self::count`], with the output as it would be held.
    ///
    /// # Errors
    /// As [`Self::count`].
    pub(super) async fn estimate(&self) -> Result<Value, Refusal> {
        let Sizes {
            model,
            input,
            output,
        } = self.sizes().await?;
        let cost = self.price(&model)?.bound(input.tokens, output.tokens);
        Ok(json!({
            "input_tokens": input.tokens,
            "method": input.method,
            "output_tokens": output.tokens,
            "output_method": output.method,
            "total": input.tokens.saturating_add(output.tokens),
            "cost": cost.map(Cost::micros),
            "cost_method": if cost.is_some() { "bound" } else { "unpriced" },
        }))
    }

    async fn sizes(&self) -> Result<Sizes, Refusal> {
        let mut fields = Fields::of_body(self.body)?;
        let model = fields.text("model")?;
        let dialect = Form::dialect(&mut fields)?;
        let subject = Subject::of(self.caller.identity());
        let (text, request) = (fields.text("text")?, fields.raw("request"));
        match (text, request) {
            (Some(_), Some(_)) => Err(fields.wrong("request", "left out beside `text`").into()),
            (None, None) => Err(fields.missing("text").into()),
            (None, Some(request)) => {
                fields.end()?;
                let form = Form {
                    model: model.as_deref(),
                    dialect,
                };
                let measured = self.measure(request, form, &subject).await?;
                Ok(Sizes {
                    model: measured.call.model().to_owned(),
                    input: measured.input,
                    output: measured.output,
                })
            }
            (Some(text), None) => {
                let model = model.ok_or_else(|| fields.missing("model"))?;
                fields.end()?;
                // For its answer a text is what a chat of it alone would be.
                let chat =
                    json!({ "model": model, "messages": [{ "role": "user", "content": "" }] });
                let call =
                    Call::parse(Endpoint::ChatCompletions, None, chat.to_string().as_bytes());
                let input = self.count_text(model.clone(), text).await?;
                let call = call.map_err(ApiError::from)?;
                let output = self.estimate_of(&call, input, &subject);
                Ok(Sizes {
                    model,
                    input,
                    output,
                })
            }
        }
    }

    async fn count_text(&self, model: String, text: String) -> Result<Count, ApiError> {
        let counter = Arc::clone(self.pipeline.counter());
        if text.len() <= COUNTED_IN_PLACE {
            return Ok(counter.text(&model, &text));
        }
        let counting = spawn_blocking(move || counter.text(&model, &text));
        counting.await.map_err(|_| ApiError::Internal)
    }
}
