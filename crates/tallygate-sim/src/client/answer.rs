//! Reading answers, apart from the gateway's own readers.

use serde_json::Value;

/// One server-sent event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// Its name, if it has one.
    pub event: Option<String>,
    /// Its data.
    pub data: String,
}

/// The events of a whole body that ends its lines with LF or CRLF. An unfinished last event is left
/// out.
pub fn events(body: &[u8]) -> Vec<Event> {
    let text = String::from_utf8_lossy(body).replace("\r\n", "\n");
    let Some((finished, _)) = text.rsplit_once("\n\n") else {
        return Vec::new();
    };
    finished.split("\n\n").map(event).collect()
}

fn event(block: &str) -> Event {
    let field = |name: &str| {
        let values = block.lines().filter_map(|line| line.strip_prefix(name));
        let values: Vec<&str> = values
            .map(|value| value.strip_prefix(' ').unwrap_or(value))
            .collect();
        (!values.is_empty()).then(|| values.join("\n"))
    };
    Event {
        event: field("event:"),
        data: field("data:").unwrap_or_default(),
    }
}

/// What a model said.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Answer {
    /// The text of each choice.
    pub texts: Vec<String>,
    /// Its usage, if told.
    pub usage: Option<Told>,
    /// Why the first choice ended, in the dialect's words.
    pub finish: Option<String>,
    /// The dialect's last event came, or the body is whole.
    pub complete: bool,
    /// The message of an error, whole or inside the stream.
    pub error: Option<String>,
    /// The answer's id.
    pub id: Option<String>,
}

/// Usage in one form: input with cache, output with reasoning.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Told {
    /// Input tokens, cached ones included.
    pub input: u64,
    /// Output tokens, reasoning included.
    pub output: u64,
    /// Cached input tokens.
    pub cached: u64,
    /// Reasoning tokens.
    pub reasoning: u64,
}

impl Answer {
    /// The first text.
    pub fn text(&self) -> &str {
        self.texts.first().map_or("", String::as_str)
    }

    /// Reads an answer that came whole.
    pub fn of_body(body: &Value) -> Self {
        let mut answer = Self {
            complete: body.is_object(),
            ..Self::default()
        };
        answer.take(body);
        answer
    }

    /// Reads a stream.
    pub fn of_events(events: &[Event]) -> Self {
        let mut answer = Self::default();
        for event in events {
            match serde_json::from_str(&event.data) {
                Ok(value) => answer.take(&value),
                Err(_) => answer.complete |= event.data == "[DONE]",
            }
        }
        answer
    }

    /// Takes what one object says, whatever its dialect.
    fn take(&mut self, value: &Value) {
        self.take_error(value);
        self.take_openai(value);
        self.take_responses(value);
        self.take_anthropic(value);
        self.take_gemini(value);
        let id = value["id"]
            .as_str()
            .or(value["response"]["id"].as_str())
            .or(value["message"]["id"].as_str());
        if self.id.is_none() {
            self.id = id.or(value["responseId"].as_str()).map(str::to_owned);
        }
    }

    fn take_error(&mut self, value: &Value) {
        let message = &value["error"]["message"];
        let message = if value["type"] == "error" && message.is_null() {
            &value["message"]
        } else {
            message
        };
        if let Some(message) = message.as_str() {
            self.error = Some(message.to_owned());
        }
    }

    fn take_openai(&mut self, value: &Value) {
        for choice in members(&value["choices"]) {
            let index = choice["index"].as_u64().unwrap_or(0);
            let texts = [
                &choice["text"],
                &choice["delta"]["content"],
                &choice["message"]["content"],
            ];
            texts.into_iter().for_each(|text| self.say(index, text));
            self.finish_by(&choice["finish_reason"]);
        }
        if let Some(input) = value["usage"]["prompt_tokens"].as_u64() {
            let usage = &value["usage"];
            self.usage = Some(Told {
                input,
                output: number(&usage["completion_tokens"]),
                cached: number(&usage["prompt_tokens_details"]["cached_tokens"]),
                reasoning: number(&usage["completion_tokens_details"]["reasoning_tokens"]),
            });
        }
    }

    fn take_responses(&mut self, value: &Value) {
        let response = if value["object"] == "response" {
            value
        } else {
            &value["response"]
        };
        match value["type"].as_str() {
            Some("response.output_text.delta") => self.say(0, &value["delta"]),
            Some("response.completed" | "response.incomplete" | "response.failed") => {
                self.complete = true
            }
            None if response.is_object() => {
                self.say(0, &response["output"][0]["content"][0]["text"])
            }
            _ => {}
        }
        self.finish_by(&response["status"]);
        let usage = &response["usage"];
        if usage.is_object() {
            self.usage = Some(Told {
                input: number(&usage["input_tokens"]),
                output: number(&usage["output_tokens"]),
                cached: number(&usage["input_tokens_details"]["cached_tokens"]),
                reasoning: number(&usage["output_tokens_details"]["reasoning_tokens"]),
            });
        }
    }

    fn take_anthropic(&mut self, value: &Value) {
        match value["type"].as_str() {
            Some("message") => {
                self.say(0, &value["content"][0]["text"]);
                self.finish_by(&value["stop_reason"]);
                self.take_message_usage(&value["usage"]);
            }
            Some("message_start") => self.take_message_usage(&value["message"]["usage"]),
            Some("content_block_delta") => self.say(0, &value["delta"]["text"]),
            Some("message_delta") => {
                self.finish_by(&value["delta"]["stop_reason"]);
                if let (Some(usage), Some(output)) =
                    (&mut self.usage, value["usage"]["output_tokens"].as_u64())
                {
                    usage.output = output;
                }
            }
            Some("message_stop") => self.complete = true,
            _ => {}
        }
    }

    fn take_message_usage(&mut self, usage: &Value) {
        if !usage.is_object() {
            return;
        }
        let cached = number(&usage["cache_read_input_tokens"]);
        let written = number(&usage["cache_creation_input_tokens"]);
        let input = number(&usage["input_tokens"]) + cached + written;
        self.usage = Some(Told {
            input,
            output: number(&usage["output_tokens"]),
            cached,
            reasoning: 0,
        });
    }

    fn take_gemini(&mut self, value: &Value) {
        for candidate in members(&value["candidates"]) {
            let index = candidate["index"].as_u64().unwrap_or(0);
            self.say(index, &candidate["content"]["parts"][0]["text"]);
            self.finish_by(&candidate["finishReason"]);
            self.complete |= candidate["finishReason"].is_string();
        }
        let usage = &value["usageMetadata"];
        if usage.is_object() {
            let reasoning = number(&usage["thoughtsTokenCount"]);
            self.usage = Some(Told {
                input: number(&usage["promptTokenCount"]),
                output: number(&usage["candidatesTokenCount"]) + reasoning,
                cached: number(&usage["cachedContentTokenCount"]),
                reasoning,
            });
        }
    }

    fn say(&mut self, index: u64, text: &Value) {
        let (Some(text), Ok(index)) = (text.as_str(), usize::try_from(index)) else {
            return;
        };
        if index >= self.texts.len() && index < 128 {
            self.texts.resize(index + 1, String::new());
        }
        if let Some(said) = self.texts.get_mut(index) {
            said.push_str(text);
        }
    }

    fn finish_by(&mut self, reason: &Value) {
        if let Some(reason) = reason.as_str() {
            self.finish = Some(reason.to_owned());
        }
    }
}

fn members(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

fn number(value: &Value) -> u64 {
    value.as_u64().unwrap_or(0)
}
