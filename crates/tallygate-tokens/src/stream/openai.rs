//! OpenAI's streams: chat and legacy completion chunks, and the Responses API's typed events.

use super::reading::{Fate, Reading};
use crate::dialect::Dialect;
use crate::json::Json;
use crate::usage::usage_of_json;

/// A chat or legacy completion chunk.
pub(super) fn read_chunk(reading: &mut Reading, chunk: &Json<'_>) -> Fate {
    reading.name_model(chunk.text("model"));
    if let Some(error) = chunk.get("error") {
        reading.fail(error.text("type").or(error.text("code")));
    }
    let choices = chunk.get("choices").and_then(Json::as_array);
    for choice in choices.unwrap_or_default() {
        read_choice(reading, choice);
    }
    let Some(usage) = chunk.get("usage") else {
        return Fate::Content;
    };
    reading.tell_usage(usage_of_json(Dialect::OpenAi, usage));
    match (choices, usage) {
        (Some([]), Json::Object(_)) => Fate::UsageOnly,
        _ => Fate::Content,
    }
}

fn read_choice(reading: &mut Reading, choice: &Json<'_>) {
    let index = choice.get("index").and_then(Json::as_u64).unwrap_or(0);
    reading.text((index, 0), choice.text("text"));
    let Some(delta) = choice.get("delta") else {
        return;
    };
    for (part, key) in TEXTS.iter().enumerate() {
        reading.text((index, part as u64), delta.text(key));
    }
    for call in delta.items("tool_calls") {
        let at = call.get("index").and_then(Json::as_u64).unwrap_or(0);
        let part = (index, FIRST_CALL.saturating_add(at));
        for kind in ["function", "custom"] {
            read_function(reading, part, call.get(kind));
        }
    }
    read_function(reading, (index, FIRST_CALL), delta.get("function_call"));
}

fn read_function(reading: &mut Reading, part: (u64, u64), function: Option<&Json<'_>>) {
    let Some(function) = function else {
        return;
    };
    for key in ["name", "arguments", "input"] {
        reading.text(part, function.text(key));
    }
}

/// The texts of a delta; the last two are what compatible providers call visible reasoning.
const TEXTS: [&str; 4] = ["content", "refusal", "reasoning_content", "reasoning"];

/// Tool calls are told apart from texts by their part's number.
const FIRST_CALL: u64 = 16;

/// A typed event of a Responses stream.
pub(super) fn read_event(reading: &mut Reading, name: Option<&str>, event: &Json<'_>) {
    let Some(kind) = event.text("type").or(name) else {
        return;
    };
    let part = event.get("output_index").and_then(Json::as_u64);
    let part = (part.unwrap_or(0), 0);
    match kind {
        "response.completed" | "response.incomplete" | "response.failed" => {
            reading.seen.complete = true;
            if let Some(response) = event.get("response") {
                read_response(reading, response);
            }
        }
        "response.created" => {
            let response = event.get("response");
            reading.name_model(response.and_then(|response| response.text("model")));
        }
        "response.output_item.added" => {
            reading.text(part, event.get("item").and_then(|item| item.text("name")));
        }
        "error" => {
            let error = event.get("error").unwrap_or(event);
            reading.fail(error.text("code").or(error.text("type")));
        }
        kind if kind.ends_with(".delta") && !kind.contains("audio") => {
            reading.text(part, event.text("delta"));
        }
        _ => {}
    }
}

fn read_response(reading: &mut Reading, response: &Json<'_>) {
    reading.name_model(response.text("model"));
    if let Some(usage) = response.get("usage") {
        reading.tell_usage(usage_of_json(Dialect::OpenAi, usage));
    }
    if let Some(error) = response.get("error") {
        reading.fail(error.text("code").or(error.text("type")));
    }
}
