//! Gemini's contents. Its tokenizer is not one of ours: an estimate throughout.
//!
//! Names are accepted in camel case, as documented, and in snake case, as the service does.

use super::fields::{each, object};
use super::media;
use super::vision;
use crate::call::CallError;
use crate::dialect::Method;
use crate::image;
use crate::json::Json;
use crate::plan::{Group, Plan};

pub(super) fn plan(json: &Json<'_>) -> Result<Plan, CallError> {
    let mut plan = Plan::new(Method::Estimated);
    for (camel, snake) in [
        ("systemInstruction", "system_instruction"),
        ("contents", "contents"),
    ] {
        if let Some(contents) = either(json, camel, snake) {
            add_contents(&mut plan, camel, contents)?;
        }
    }
    let mut group = Group::default();
    for tool in json.items("tools") {
        for function in either(tool, "functionDeclarations", "function_declarations")
            .and_then(Json::as_array)
            .unwrap_or_default()
        {
            group.push(function.to_string());
        }
    }
    plan.add_group(group);
    let config = either(json, "generationConfig", "generation_config");
    let schema = config.and_then(|config| {
        either(config, "responseSchema", "response_schema").or(config.get("responseJsonSchema"))
    });
    plan.add_text(schema.map(ToString::to_string).unwrap_or_default());
    Ok(plan)
}

fn either<'j>(json: &'j Json<'j>, camel: &str, snake: &str) -> Option<&'j Json<'j>> {
    json.get(camel).or_else(|| json.get(snake))
}

/// One content, several, or bare text.
fn add_contents(plan: &mut Plan, key: &str, contents: &Json<'_>) -> Result<(), CallError> {
    match contents {
        Json::String(text) => plan.add_text(&**text),
        Json::Array(items) => each(key, items, |content| add_content(plan, content))?,
        content => add_content(plan, content).map_err(|error| error.within(key))?,
    }
    Ok(())
}

fn add_content(plan: &mut Plan, content: &Json<'_>) -> Result<(), CallError> {
    let mut group = Group::default();
    match object(content)?.get("parts") {
        None => {}
        Some(Json::Array(parts)) => each("parts", parts, |part| {
            add_part(plan, &mut group, object(part)?);
            Ok(())
        })?,
        Some(part @ Json::Object(_)) => add_part(plan, &mut group, part),
        Some(other) => return Err(CallError::wrong("parts", "an array", other)),
    }
    plan.add_group(group);
    Ok(())
}

fn add_part(plan: &mut Plan, group: &mut Group, part: &Json<'_>) {
    if let Some(text) = part.text("text") {
        group.push(text);
    } else if let Some(data) = either(part, "inlineData", "inline_data") {
        plan.add_tokens(inline(data));
    } else if let Some(file) = either(part, "fileData", "file_data") {
        plan.add_tokens(unseen(media_type(file)));
    } else {
        group.push(part.to_string());
    }
}

fn media_type<'j>(data: &'j Json<'j>) -> &'j str {
    let named = either(data, "mimeType", "mime_type");
    named.and_then(Json::as_str).unwrap_or_default()
}

/// Tokens a second (Google, "Understand and count tokens").
const SOUND_RATE: u64 = 32;
const FILM_RATE: u64 = 263;

/// A page of a document.
const TOKENS_A_PAGE: u64 = 258;

fn inline(blob: &Json<'_>) -> u64 {
    let data = blob.text("data").unwrap_or_default();
    match media_type(blob).split('/').next() {
        Some("image") => vision::gemini(image::size_of_base64(data)),
        Some("audio") => media::sound(data, SOUND_RATE),
        Some("video") => media::film(data, FILM_RATE),
        Some("text") => media::opaque(data),
        _ => media::pdf_pages(data) * TOKENS_A_PAGE,
    }
}

/// A file that only the provider can read: an image of many tiles, a minute of sound or film, or
/// a document of ten pages.
fn unseen(media_type: &str) -> u64 {
    match media_type.split('/').next() {
        Some("audio") => 60 * SOUND_RATE,
        Some("video") => 60 * FILM_RATE,
        Some("image") => vision::gemini(None),
        _ => 10 * TOKENS_A_PAGE,
    }
}
