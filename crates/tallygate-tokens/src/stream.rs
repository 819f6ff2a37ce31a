//! Reading a streamed answer as it passes.

use crate::dialect::Endpoint;
use crate::sse::SseSplitter;
use crate::usage::{Usage, usage_of_value};

/// What to do to a stream besides reading it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StreamOptions {
    /// Remove the chunk that only tells usage: it was asked for by us and not by the caller
    /// ([`Call::with_usage_requested`](crate::Call::with_usage_requested)).
    pub drop_usage_chunk: bool,
}

/// What a stream has told so far.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// The usage, as last told.
    pub usage: Option<Usage>,
    /// Whether the dialect's terminal event has come.
    pub complete: bool,
    /// The *type* of an error event, never its text.
    pub error: Option<String>,
    /// Our own count of the text and tool-call deltas.
    pub output_tokens_counted: u64,
    /// Events too large to be read; they were passed on unread.
    pub oversized_events: u64,
    /// The model that says it answered.
    pub response_model: Option<String>,
}

/// Reads a streamed answer as it passes.
#[derive(Debug)]
pub struct StreamReader {
    endpoint: Endpoint,
    events: SseSplitter,
    seen: Seen,
}

impl StreamReader {
    /// A reader at the start of an answer from `endpoint`.
    pub fn new(endpoint: Endpoint, _options: StreamOptions) -> Self {
        Self {
            endpoint,
            events: SseSplitter::new(),
            seen: Seen::default(),
        }
    }

    /// Counts the answer's text as that of `model`, whatever model the stream names.
    #[must_use]
    pub fn counting_as(self, _model: &str) -> Self {
        self
    }

    /// Feeds a chunk and appends to `out` the bytes to send on: the same ones, except for a usage
    /// chunk to be dropped. A complete event is never held back.
    pub fn push(&mut self, chunk: &[u8], out: &mut Vec<u8>) {
        out.extend_from_slice(chunk);
        for event in self.events.push(chunk) {
            if event.data == b"[DONE]" || event.event == Some("message_stop") {
                self.seen.complete = true;
            }
            let Ok(value) = serde_json::from_slice::<serde_json::Value>(event.data) else {
                continue;
            };
            if let Some(usage) = value.get("usage") {
                let told = usage_of_value(self.endpoint.dialect(), usage);
                self.seen.usage = told.or(self.seen.usage);
            }
        }
    }

    /// The end of the stream, however it came: appends what was held back and tells all that was
    /// seen.
    pub fn finish(self, _out: &mut Vec<u8>) -> Seen {
        self.seen
    }

    /// What was seen so far.
    pub fn seen(&self) -> &Seen {
        &self.seen
    }
}
