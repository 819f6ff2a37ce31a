//! Anthropic's typed events.

use super::reading::Reading;
use crate::json::Json;
use crate::usage::{Usage, amount};

/// Anthropic's usage as told so far. `message_start` tells the input and a first output,
/// `message_delta` the output *so far*, and sometimes the input again: all amounts are
/// cumulative, so the largest told is the last one.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Told {
    input: u64,
    cache_read: u64,
    cache_write: u64,
    output: u64,
}

impl Told {
    fn hear(&mut self, usage: &Json<'_>) {
        let read = |key| amount(usage, key).unwrap_or(0);
        self.input = self.input.max(read("input_tokens"));
        self.cache_read = self.cache_read.max(read("cache_read_input_tokens"));
        self.cache_write = self.cache_write.max(read("cache_creation_input_tokens"));
        self.output = self.output.max(read("output_tokens"));
    }

    fn usage(self) -> Usage {
        Usage {
            input_tokens: self.input + self.cache_read + self.cache_write,
            output_tokens: self.output,
            cached_input_tokens: self.cache_read,
            cache_write_tokens: self.cache_write,
            ..Usage::default()
        }
    }
}

pub(super) fn read_event(reading: &mut Reading, name: Option<&str>, event: &Json<'_>) {
    let index = event.get("index").and_then(Json::as_u64).unwrap_or(0);
    match event.text("type").or(name) {
        Some("message_start") => {
            if let Some(message) = event.get("message") {
                reading.name_model(message.text("model"));
                hear(reading, message);
            }
        }
        Some("content_block_start") => {
            let block = event.get("content_block");
            for key in ["text", "thinking", "name"] {
                reading.text((index, 0), block.and_then(|block| block.text(key)));
            }
        }
        Some("content_block_delta") => {
            let delta = event.get("delta");
            for key in ["text", "thinking", "partial_json"] {
                reading.text((index, 0), delta.and_then(|delta| delta.text(key)));
            }
        }
        Some("message_delta") => hear(reading, event),
        Some("message_stop") => reading.seen.complete = true,
        Some("error") => {
            let error = event.get("error");
            reading.fail(error.and_then(|error| error.text("type")));
        }
        _ => {}
    }
}

fn hear(reading: &mut Reading, told: &Json<'_>) {
    if let Some(usage @ Json::Object(_)) = told.get("usage") {
        reading.told.hear(usage);
        reading.tell_usage(Some(reading.told.usage()));
    }
}
