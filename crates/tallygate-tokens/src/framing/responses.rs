//! OpenAI Responses: framed like chat; what only the provider remembers cannot be known.

use super::chat::{
    MESSAGE, REPLY, TOOL_CALL, Tools, add_choice, add_function_call, add_role_name, add_schema,
};
use super::fields::{each, object, text};
use super::media;
use super::openai_method;
use super::parts::Sheet;
use super::vision::Vision;
use crate::call::CallError;
use crate::dialect::Method;
use crate::json::Json;
use crate::plan::Plan;

pub(super) fn plan(name: &str, json: &Json<'_>) -> Result<Plan, CallError> {
    let mut plan = Plan::new(openai_method(name));
    plan.add_tokens(REPLY);
    let mut sheet = Sheet::new(&mut plan, Vision::of(name));
    let mut with_system = false;
    if let Some(instructions) = json.get("instructions") {
        with_system = true;
        add_input(&mut sheet, ("instructions", "system"), instructions)?;
    }
    if let Some(input) = json.get("input") {
        with_system |= input.as_array().unwrap_or_default().iter().any(is_system);
        add_input(&mut sheet, ("input", "user"), input)?;
    }
    Tools::read(json, "")?.add_to(&mut plan, with_system);
    add_choice(&mut plan, json.get("tool_choice"));
    let format = json.get("text").and_then(|text| text.get("format"));
    add_schema(
        &mut plan,
        format.filter(|format| format.get("schema").is_some()),
    );
    if REMEMBERED.iter().any(|key| json.get(key).is_some()) {
        plan.weaken(Method::Estimated);
    }
    Ok(plan)
}

/// Context that the provider adds from its own memory.
const REMEMBERED: [&str; 3] = ["previous_response_id", "conversation", "prompt"];

fn is_system(item: &Json<'_>) -> bool {
    matches!(item.text("role"), Some("system" | "developer"))
}

/// `instructions` and `input`: one message as text, or a list of items.
fn add_input(
    sheet: &mut Sheet<'_>,
    (key, role): (&str, &str),
    input: &Json<'_>,
) -> Result<(), CallError> {
    match input {
        Json::String(text) => {
            sheet.plan.add_tokens(MESSAGE);
            add_role_name(sheet, role);
            sheet.group.push(&**text);
            sheet.close();
            Ok(())
        }
        Json::Array(items) => each(key, items, |item| add_item(sheet, item)),
        other => Err(CallError::wrong(key, "a string or an array", other)),
    }
}

fn add_item(sheet: &mut Sheet<'_>, item: &Json<'_>) -> Result<(), CallError> {
    match text(object(item)?, "type")?.unwrap_or("message") {
        "message" => {
            sheet.plan.add_tokens(MESSAGE);
            add_role_name(sheet, text(item, "role")?.unwrap_or_default());
            sheet.add_content("content", item.get("content"))?;
        }
        "function_call" | "custom_tool_call" => {
            sheet.plan.add_tokens(MESSAGE + TOOL_CALL);
            sheet.plan.weaken(Method::Estimated);
            add_function_call(sheet, item);
        }
        "function_call_output" | "custom_tool_call_output" => {
            sheet.plan.add_tokens(MESSAGE + 1);
            sheet.plan.weaken(Method::Estimated);
            sheet.add_content("output", item.get("output"))?;
        }
        "reasoning" => add_reasoning(sheet, item)?,
        "computer_call_output" => {
            sheet.plan.weaken(Method::Estimated);
            sheet.add_image(item.get("output").unwrap_or(item))?;
        }
        _ => sheet.add_unknown(item),
    }
    sheet.close();
    Ok(())
}

/// Earlier reasoning, handed back readable or encrypted.
fn add_reasoning(sheet: &mut Sheet<'_>, item: &Json<'_>) -> Result<(), CallError> {
    sheet.plan.weaken(Method::Estimated);
    match item.text("encrypted_content") {
        Some(data) => sheet.plan.add_tokens(media::opaque(data)),
        None => {
            for key in ["summary", "content"] {
                sheet.add_content(key, item.get(key))?;
            }
        }
    }
    Ok(())
}
