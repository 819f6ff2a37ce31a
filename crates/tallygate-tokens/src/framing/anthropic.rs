//! Anthropic messages. Its framing and tokenizer are not published: an estimate throughout.

use super::fields::{array, each, object, required_array, text};
use super::media;
use super::vision;
use crate::call::CallError;
use crate::dialect::Method;
use crate::image;
use crate::json::Json;
use crate::model;
use crate::plan::{Group, Plan};

pub(super) fn plan(name: &str, json: &Json<'_>) -> Result<Plan, CallError> {
    let messages = required_array(json, "messages")?;
    let generation = model::claude_generation(name).unwrap_or((u32::MAX, 0));
    let mut plan = Plan::new(Method::Estimated);
    plan.add_tokens(frame(generation));
    let further = messages.len().saturating_sub(1) as u64;
    plan.add_tokens(further.saturating_mul(FURTHER_MESSAGE));
    let mut sheet = Sheet {
        plan: &mut plan,
        group: Group::default(),
        generation,
    };
    if let Some(system) = json.get("system") {
        sheet.plan.add_tokens(SYSTEM);
        sheet.add_content("system", Some(system))?;
        sheet.close();
    }
    each("messages", messages, |message| {
        text(object(message)?, "role")?;
        sheet.add_content("content", message.get("content"))?;
        sheet.close();
        Ok(())
    })?;
    add_tools(&mut plan, json)?;
    let format = json.get("output_format");
    let format = format.or(json
        .get("output_config")
        .and_then(|config| config.get("format")));
    if let Some(schema) = format.and_then(|format| format.get("schema")) {
        plan.add_text(schema.to_string());
    }
    Ok(plan)
}

/// The frame of a request with a single message, measured by generation.
fn frame(generation: (u32, u32)) -> u64 {
    match generation {
        (4, 7) => 11,
        newer if newer > (4, 7) => 6,
        _ => 7,
    }
}

/// A turn's markers.
const FURTHER_MESSAGE: u64 = 4;
const SYSTEM: u64 = 3;

/// The hidden prompt that tools bring with them (Anthropic, "Tool use"): with a choice left to
/// the model, and with one forced.
const TOOLS: u64 = 346;
const TOOLS_FORCED: u64 = 313;

/// A dense page as text and as a picture (Anthropic, "PDF support").
const TOKENS_A_PAGE: u64 = 3_000;

/// What a document is taken for that only the provider can read.
const UNSEEN_PAGES: u64 = 10;

fn add_tools(plan: &mut Plan, json: &Json<'_>) -> Result<(), CallError> {
    let tools = array(json, "tools")?;
    if tools.is_empty() {
        return Ok(());
    }
    let choice = json
        .get("tool_choice")
        .and_then(|choice| choice.text("type"));
    let forced = matches!(choice, Some("any" | "tool"));
    plan.add_tokens(if forced { TOOLS_FORCED } else { TOOLS });
    let mut group = Group::default();
    each("tools", tools, |tool| {
        if object(tool)?.get("input_schema").is_none() {
            group.push(tool.to_string());
            return Ok(());
        }
        for key in ["name", "description"] {
            group.push(tool.text(key).unwrap_or_default());
        }
        let schema = tool.get("input_schema").map(ToString::to_string);
        group.push(schema.unwrap_or_default());
        Ok(())
    })?;
    plan.add_group(group);
    Ok(())
}

struct Sheet<'p> {
    plan: &'p mut Plan,
    group: Group,
    generation: (u32, u32),
}

impl Sheet<'_> {
    fn close(&mut self) {
        self.plan.add_group(std::mem::take(&mut self.group));
    }

    fn add_content(&mut self, key: &str, content: Option<&Json<'_>>) -> Result<(), CallError> {
        match content {
            None => Ok(()),
            Some(Json::String(text)) => {
                self.group.push(&**text);
                Ok(())
            }
            Some(Json::Array(blocks)) => each(key, blocks, |block| self.add_block(block)),
            Some(other) => Err(CallError::wrong(key, "a string or an array", other)),
        }
    }

    fn add_block(&mut self, block: &Json<'_>) -> Result<(), CallError> {
        match text(object(block)?, "type")?.unwrap_or("text") {
            "text" => self.group.push(text(block, "text")?.unwrap_or_default()),
            "thinking" => self
                .group
                .push(text(block, "thinking")?.unwrap_or_default()),
            "redacted_thinking" => {
                let data = block.text("data").unwrap_or_default();
                self.plan.add_tokens(media::opaque(data));
            }
            "image" => self.add_image(block.get("source")),
            "document" => self.add_document(block)?,
            "tool_use" => {
                self.group.push(block.text("name").unwrap_or_default());
                let input = block.get("input").map(ToString::to_string);
                self.group.push(input.unwrap_or_default());
            }
            "tool_result" => self.add_content("content", block.get("content"))?,
            _ => self.group.push(block.to_string()),
        }
        Ok(())
    }

    fn add_image(&mut self, source: Option<&Json<'_>>) {
        let data = source.and_then(|source| source.text("data"));
        let size = data.and_then(image::size_of_base64);
        self.plan.add_tokens(vision::claude(size, self.generation));
    }

    fn add_document(&mut self, block: &Json<'_>) -> Result<(), CallError> {
        for key in ["title", "context"] {
            self.group.push(block.text(key).unwrap_or_default());
        }
        let Some(source) = block.get("source") else {
            return Ok(());
        };
        match (source.text("type"), source.text("data")) {
            (Some("text"), Some(text)) => self.group.push(text),
            (Some("content"), _) => self.add_content("content", source.get("content"))?,
            (_, data) => {
                let pages = data.map_or(UNSEEN_PAGES, media::pdf_pages);
                self.plan.add_tokens(pages * TOKENS_A_PAGE);
            }
        }
        Ok(())
    }
}
