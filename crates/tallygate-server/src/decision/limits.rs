//! `GET limits`.

use serde_json::{Value, json};
use tallygate_core::DOWNGRADED;

use super::subject::Subject;
use super::{Question, query, told};
use crate::config::{ServingStep, Went};
use crate::identify::{Downgrade, KEY_LABEL};
use crate::pipeline::Refusal;
use crate::wire::ApiError;

impl Question<'_> {
    /// What applies to a subject, and where each counter stands. Changes nothing.
    ///
    /// # Errors
    /// When the store cannot be reached, or the query names what the caller may not.
    pub(super) async fn limits(&self, query: &str) -> Result<Value, Refusal> {
        let mut subject = Subject::of(self.caller.identity());
        let mut call = Vec::new();
        for (label, value) in query::pairs(query) {
            match label.as_str() {
                "model" | "upstream" | "endpoint" | DOWNGRADED => call.push((label, value)),
                KEY_LABEL if subject.get(KEY_LABEL).is_some() => {} // Gemini's callers show their key so
                _ => subject.add(&label, value).map_err(|wanted| {
                    ApiError::invalid(
                        format!("the label `{label}` must be {wanted}"),
                        Some(&label),
                    )
                })?,
            }
        }
        let config = self.caller.config();
        let asked = call
            .iter()
            .find(|(label, _)| label == "model")
            .map(|(_, model)| model.as_str());
        let (model, upstream) = config.model_label(asked.unwrap_or_default());
        let mut known: Vec<(&str, &str)> = Vec::new();
        for (label, value) in &call {
            known.push((label, if label == "model" { model } else { value }));
        }
        if let Some(upstream) =
            upstream.filter(|_| call.iter().all(|(label, _)| label != "upstream"))
        {
            known.push(("upstream", upstream.name()));
        }
        if call.iter().all(|(label, _)| label != DOWNGRADED) {
            known.extend(config.downgraded(Went::AsAsked));
        }
        let (store, labels) = (self.pipeline.store(), subject.labels(&known));
        let standings = store.peek(&labels).await.map_err(ApiError::from)?;
        let mut told = json!({ "limits": told::limits(&standings, &store.regimes(&labels)) });
        if let Some(asked) = asked {
            let mut models = config.servings(subject.get("tier"), asked);
            if self.caller.takes(self.willing) == Downgrade::Never {
                models.retain(|serving| serving.step == ServingStep::Asked);
            }
            told["models"] = json!(models);
        }
        Ok(told)
    }
}
