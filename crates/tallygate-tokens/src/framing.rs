//! How each endpoint wraps its texts, by the provider's documents where there are any.

use crate::call::CallError;
use crate::dialect::{Endpoint, Method};
use crate::json::Json;
use crate::plan::Plan;

/// What there is to count in a request of `endpoint` to `model`.
pub(crate) fn plan(endpoint: Endpoint, _model: &str, json: &Json<'_>) -> Result<Plan, CallError> {
    let mut plan = Plan::new(Method::Framed);
    if endpoint == Endpoint::ChatCompletions {
        plan.add_tokens(3);
        for message in json.items("messages") {
            plan.add_tokens(3);
            for key in ["role", "content"] {
                if let Some(text) = message.text(key) {
                    plan.add_text(text);
                }
            }
        }
        return Ok(plan);
    }
    plan.weaken(Method::Estimated);
    plan.add_text(json.to_string());
    Ok(plan)
}
