//! OpenAI chat completions.
//!
//! A message costs 3 tokens, its role, its content, and its name and one more; the reply is
//! primed with 3 (OpenAI cookbook, "How to count tokens with tiktoken"). What tools, choices of
//! tools and function messages add was measured against the API.

use super::fields::{each, object, required_array, text};
use super::openai_method;
use super::parts::Sheet;
use super::tools::{self, Namespace};
use super::vision::Vision;
use crate::call::CallError;
use crate::dialect::Method;
use crate::json::Json;
use crate::plan::Plan;

pub(super) fn plan(name: &str, json: &Json<'_>) -> Result<Plan, CallError> {
    let messages = required_array(json, "messages")?;
    let mut plan = Plan::new(openai_method(name));
    plan.add_tokens(REPLY);
    let tools = Tools::read(json, "function")?;
    let mut pads_system = tools.namespace.is_some();
    let mut sheet = Sheet::new(&mut plan, Vision::of(name));
    each("messages", messages, |message| {
        let padded = pads_system && is_system(message);
        pads_system &= !padded;
        add_message(&mut sheet, message, if padded { "\n" } else { "" })
    })?;
    let with_system = messages.iter().any(is_system);
    tools.add_to(&mut plan, with_system);
    add_choice(
        &mut plan,
        json.get("tool_choice").or(json.get("function_call")),
    );
    let format = json.get("response_format");
    add_schema(
        &mut plan,
        format.and_then(|format| format.get("json_schema")),
    );
    Ok(plan)
}

/// Every message is wrapped in three tokens, and so is the beginning of the reply.
pub(super) const MESSAGE: u64 = 3;
pub(super) const REPLY: u64 = 3;

/// A call of a tool is wrapped like a message.
pub(super) const TOOL_CALL: u64 = 3;

fn is_system(message: &Json<'_>) -> bool {
    matches!(message.text("role"), Some("system" | "developer"))
}

/// `ending`: the first system message ends in a newline when tools follow it.
fn add_message(sheet: &mut Sheet<'_>, message: &Json<'_>, ending: &str) -> Result<(), CallError> {
    object(message)?;
    sheet.plan.add_tokens(MESSAGE);
    add_role(sheet, message)?;
    match message.get("content") {
        Some(Json::String(text)) if !ending.is_empty() => {
            sheet.group.push(format!("{text}{ending}"));
        }
        content => sheet.add_content("content", content)?,
    }
    sheet
        .group
        .push(text(message, "refusal")?.unwrap_or_default());
    add_calls(sheet, message)?;
    sheet.close();
    Ok(())
}

fn add_role(sheet: &mut Sheet<'_>, message: &Json<'_>) -> Result<(), CallError> {
    let role = text(message, "role")?.unwrap_or_default();
    add_role_name(sheet, role);
    let Some(name) = text(message, "name")? else {
        return Ok(());
    };
    sheet.group.push(name);
    // A function's answer is named by a shorter header.
    if role != "function" {
        sheet.plan.add_tokens(1);
    }
    Ok(())
}

/// A role's own name: one token for all that are documented.
pub(super) fn add_role_name(sheet: &mut Sheet<'_>, role: &str) {
    match role {
        "system" | "developer" | "user" | "assistant" | "tool" => sheet.plan.add_tokens(1),
        "function" => {}
        other => sheet.group.push(other),
    }
}

fn add_calls(sheet: &mut Sheet<'_>, message: &Json<'_>) -> Result<(), CallError> {
    if let Some(call) = message.get("function_call") {
        sheet.plan.add_tokens(TOOL_CALL);
        add_function_call(sheet, call);
    }
    each("tool_calls", message.items("tool_calls"), |call| {
        sheet.plan.add_tokens(TOOL_CALL);
        sheet.plan.weaken(Method::Estimated);
        let function = object(call)?.get("function").or(call.get("custom"));
        add_function_call(sheet, function.unwrap_or(call));
        Ok(())
    })
}

/// A call's name and arguments.
pub(super) fn add_function_call(sheet: &mut Sheet<'_>, call: &Json<'_>) {
    for key in ["name", "arguments", "input"] {
        sheet.group.push(call.text(key).unwrap_or_default());
    }
}

/// The tools a request offers.
pub(super) struct Tools<'j> {
    namespace: Option<Namespace>,
    /// Tools that are no functions.
    others: Vec<&'j Json<'j>>,
}

impl<'j> Tools<'j> {
    /// Reads `tools` and the older `functions`. `inner` names the object in which a function tool
    /// is described; Responses has none and describes it in the tool itself.
    pub(super) fn read(json: &'j Json<'j>, inner: &str) -> Result<Self, CallError> {
        let mut functions: Vec<_> = json.items("functions").iter().collect();
        let mut others = Vec::new();
        each("tools", super::fields::array(json, "tools")?, |tool| {
            match text(object(tool)?, "type")? {
                Some("function") => functions.push(tool.get(inner).unwrap_or(tool)),
                _ => others.push(tool),
            }
            Ok(())
        })?;
        Ok(Self {
            namespace: tools::namespace(&functions),
            others,
        })
    }

    /// The namespace costs 9 tokens more than its text, or 5 where a system message leads it in.
    pub(super) fn add_to(self, plan: &mut Plan, with_system: bool) {
        if let Some(namespace) = self.namespace {
            plan.add_tokens(if with_system { 5 } else { 9 });
            plan.add_text(namespace.text);
            if !namespace.flat {
                plan.weaken(Method::Estimated);
            }
        }
        for tool in self.others {
            plan.weaken(Method::Estimated);
            plan.add_text(tool.to_string());
        }
    }
}

/// A tool the model must call is named to it; forbidding tools costs one token.
pub(super) fn add_choice(plan: &mut Plan, choice: Option<&Json<'_>>) {
    match choice {
        Some(Json::String(word)) if word == "none" => plan.add_tokens(1),
        Some(choice @ Json::Object(_)) => {
            let function = choice.get("function").unwrap_or(choice);
            if let Some(name) = function.text("name") {
                plan.add_tokens(4);
                plan.add_text(name);
            }
        }
        _ => {}
    }
}

/// A schema the answer must follow (`name`, `description`, `schema`): shown to the model in a form
/// nobody documents, counted as JSON.
pub(super) fn add_schema(plan: &mut Plan, format: Option<&Json<'_>>) {
    let Some(format) = format else {
        return;
    };
    plan.weaken(Method::Estimated);
    for key in ["name", "description"] {
        plan.add_text(format.text(key).unwrap_or_default());
    }
    if let Some(schema) = format.get("schema") {
        plan.add_text(schema.to_string());
    }
}
