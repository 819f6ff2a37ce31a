//! What is kept while a stream is read, whatever its dialect.

use super::Seen;
use super::anthropic::{self, Told};
use super::running::{Part, Running};
use super::{gemini, openai};
use crate::answer;
use crate::dialect::Endpoint;
use crate::json::Json;
use crate::sse::{MAX_EVENT, SseEvent};
use crate::usage::{Usage, usage_of_body};

/// The state of a stream's reading.
#[derive(Debug, Default)]
pub(super) struct Reading {
    pub(super) seen: Seen,
    /// Anthropic's usage comes in parts.
    pub(super) told: Told,
    running: Option<Running>,
    /// The count's model was given and is not the stream's to say.
    pinned: bool,
}

/// Whether an event is the caller's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// It tells usage and nothing else.
    UsageOnly,
    /// Anything else.
    Content,
}

impl Reading {
    pub(super) fn count_as(&mut self, model: &str) {
        self.running = Some(Running::new(model));
        self.pinned = true;
    }

    /// Reads an event. What is no JSON, or not of the documented form, tells nothing.
    pub(super) fn read(&mut self, endpoint: Endpoint, event: SseEvent<'_>) -> Fate {
        if event.data == b"[DONE]" {
            self.seen.complete = true;
            return Fate::Content;
        }
        let Ok(json) = Json::parse(event.data) else {
            return Fate::Content;
        };
        match endpoint {
            Endpoint::ChatCompletions | Endpoint::Completions | Endpoint::Embeddings => {
                return openai::read_chunk(self, &json);
            }
            Endpoint::Responses => openai::read_event(self, event.event, &json),
            Endpoint::Messages | Endpoint::CountTokens => {
                anthropic::read_event(self, event.event, &json);
            }
            Endpoint::GenerateContent | Endpoint::StreamGenerateContent => {
                gemini::read_chunk(self, &json);
            }
        }
        Fate::Content
    }

    /// Reads an answer that came as one object after all.
    pub(super) fn read_object(&mut self, endpoint: Endpoint, body: &[u8]) {
        if body.len() > MAX_EVENT {
            self.seen.oversized_events += 1;
            return;
        }
        let Ok(json) = Json::parse(body) else {
            return;
        };
        self.seen.complete = true;
        self.seen.usage = usage_of_body(endpoint, body);
        self.name_model(json.text("model").or(json.text("modelVersion")));
        for text in answer::texts(endpoint, body).unwrap_or_default().texts {
            self.text((0, 0), Some(&text));
        }
        if let Some(error) = json.get("error") {
            self.fail(error.text("type").or(error.text("status")));
        }
    }

    /// A piece of the answer.
    pub(super) fn text(&mut self, part: Part, text: Option<&str>) {
        if let Some(text) = text {
            let running = self.running.get_or_insert_with(|| Running::new(""));
            running.add(part, text);
        }
    }

    pub(super) fn name_model(&mut self, model: Option<&str>) {
        let Some(model) = model.filter(|model| is_name(model)) else {
            return;
        };
        if self.seen.response_model.is_some() {
            return;
        }
        self.seen.response_model = Some(model.to_owned());
        if !self.pinned {
            let running = self.running.get_or_insert_with(|| Running::new(model));
            running.set_model(model);
        }
    }

    pub(super) fn tell_usage(&mut self, usage: Option<Usage>) {
        self.seen.usage = usage.or(self.seen.usage);
    }

    /// An error event: its type is kept if it looks like one.
    pub(super) fn fail(&mut self, kind: Option<&str>) {
        let kind = kind.filter(|kind| is_name(kind)).unwrap_or("error");
        self.seen.error = Some(kind.to_owned());
    }

    pub(super) fn update_count(&mut self) {
        if let Some(running) = &self.running {
            self.seen.output_tokens_counted = running.tokens();
        }
    }

    pub(super) fn finish(mut self) -> Seen {
        if let Some(running) = &self.running {
            self.seen.output_tokens_counted = running.finish();
        }
        if let (false, Some(usage)) = (self.seen.complete, &mut self.seen.usage) {
            usage.output_tokens = usage.output_tokens.max(self.seen.output_tokens_counted);
        }
        self.seen
    }
}

/// Whether a provider's word is a name (of a model or a type) that may be logged, and no prose.
fn is_name(word: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"_-.:/@+".contains(&byte);
    (1..=MAX_NAME).contains(&word.len()) && word.bytes().all(plain)
}

/// Longer than any model name or error type.
const MAX_NAME: usize = 128;
