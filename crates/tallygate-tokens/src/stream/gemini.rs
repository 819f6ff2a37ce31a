//! Gemini's chunks, the same whether they come as events or as elements of an array.

use super::reading::Reading;
use crate::dialect::Dialect;
use crate::json::Json;
use crate::usage::usage_of_json;

pub(super) fn read_chunk(reading: &mut Reading, chunk: &Json<'_>) {
    reading.name_model(chunk.text("modelVersion"));
    for candidate in chunk.items("candidates") {
        read_candidate(reading, candidate);
    }
    if let Some(usage) = chunk.get("usageMetadata") {
        reading.tell_usage(usage_of_json(Dialect::Gemini, usage));
    }
    let feedback = chunk.get("promptFeedback");
    if feedback
        .and_then(|feedback| feedback.text("blockReason"))
        .is_some()
    {
        reading.seen.complete = true;
    }
    if let Some(error) = chunk.get("error") {
        reading.fail(error.text("status"));
    }
}

fn read_candidate(reading: &mut Reading, candidate: &Json<'_>) {
    let index = candidate.get("index").and_then(Json::as_u64).unwrap_or(0);
    let parts = candidate
        .get("content")
        .map(|content| content.items("parts"));
    for part in parts.unwrap_or_default() {
        let thought = part.get("thought") == Some(&Json::Bool(true));
        reading.text((index, u64::from(thought)), part.text("text"));
        if let Some(call) = part.get("functionCall") {
            reading.text((index, 2), call.text("name"));
            let arguments = call.get("args").map(ToString::to_string);
            reading.text((index, 2), arguments.as_deref());
        }
    }
    if candidate.text("finishReason").is_some() {
        reading.seen.complete = true;
    }
}
