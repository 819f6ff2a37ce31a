//! Legacy completions and embeddings: bare texts or tokens, without any framing.

use crate::call::CallError;
use crate::dialect::Method;
use crate::json::Json;
use crate::plan::Plan;

/// A legacy completion: one or more prompts, and a suffix for insertions.
pub(super) fn completion(json: &Json<'_>) -> Result<Plan, CallError> {
    let mut plan = Plan::new(Method::Exact);
    if let Some(prompt) = json.get("prompt") {
        plan.prompts = add_input(&mut plan, "prompt", prompt)?;
    } else {
        // An absent prompt stands for one end-of-text token.
        plan.add_tokens(1);
    }
    if let Some(suffix) = json.text("suffix") {
        plan.weaken(Method::Estimated);
        plan.add_text(suffix);
    }
    Ok(plan)
}

/// Embeddings: one or more inputs.
pub(super) fn embedding(json: &Json<'_>) -> Result<Plan, CallError> {
    let input = json
        .get("input")
        .ok_or_else(|| CallError::missing("input"))?;
    let mut plan = Plan::new(Method::Exact);
    add_input(&mut plan, "input", input)?;
    Ok(plan)
}

/// A text, tokens, or an array of these; tells how many inputs there are.
fn add_input(plan: &mut Plan, key: &str, input: &Json<'_>) -> Result<u64, CallError> {
    match input {
        Json::Array(items) if items.iter().all(is_number) => {
            plan.add_tokens(items.len() as u64);
            Ok(1)
        }
        Json::Array(items) => {
            for (at, item) in items.iter().enumerate() {
                add_one(plan, item).map_err(|error| error.at(at).within(key))?;
            }
            Ok(items.len() as u64)
        }
        one => {
            add_one(plan, one).map_err(|error| error.within(key))?;
            Ok(1)
        }
    }
}

fn add_one(plan: &mut Plan, input: &Json<'_>) -> Result<(), CallError> {
    match input {
        Json::String(text) => plan.add_text(&**text),
        Json::Array(tokens) if tokens.iter().all(is_number) => {
            plan.add_tokens(tokens.len() as u64);
        }
        other => {
            return Err(CallError::wrong(
                "",
                "a string or an array of tokens",
                other,
            ));
        }
    }
    Ok(())
}

fn is_number(json: &Json<'_>) -> bool {
    matches!(json, Json::Number(_))
}
