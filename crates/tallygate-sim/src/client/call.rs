//! Calls the client can send.

use http::{HeaderName, HeaderValue};
use serde_json::{Value, json};
use tallygate_tokens::{Call, Counter, Endpoint};

use crate::rng::Rng;
use crate::words;

/// A call to a model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApiCall {
    endpoint: Endpoint,
    model: String,
    body: Value,
    headers: Vec<(String, String)>,
}

impl ApiCall {
    /// A call of `endpoint` with one message of the user's, or one input.
    ///
    /// Anthropic's messages are given `max_tokens` 1,024, which that dialect demands.
    pub fn new(endpoint: Endpoint, model: &str, prompt: &str) -> Self {
        let message = json!([{ "role": "user", "content": prompt }]);
        let body = match endpoint {
            Endpoint::ChatCompletions | Endpoint::CountTokens => {
                json!({ "model": model, "messages": message })
            }
            Endpoint::Messages => {
                json!({ "model": model, "max_tokens": 1_024, "messages": message })
            }
            Endpoint::Responses | Endpoint::Embeddings => {
                json!({ "model": model, "input": prompt })
            }
            Endpoint::Completions => json!({ "model": model, "prompt": prompt }),
            Endpoint::GenerateContent | Endpoint::StreamGenerateContent => {
                json!({ "contents": [{ "role": "user", "parts": [{ "text": prompt }] }] })
            }
        };
        Self {
            endpoint,
            model: model.to_owned(),
            body,
            headers: Vec::new(),
        }
    }

    /// A call whose whole input, framing included, is `input_tokens` by our own count; where that number
    /// cannot be met (too small, or a model whose tokens are estimated), the largest below it, or one
    /// word.
    ///
    /// `seed` chooses the words.
    pub fn sized(endpoint: Endpoint, model: &str, input_tokens: u64, seed: u64) -> Self {
        let counter = Counter::new([0, 0], 0);
        let of = |words: u64| Self::new(endpoint, model, &words::text(&mut Rng::new(seed), words));
        let (mut fits, mut over) = (1, input_tokens.max(1) + 1);
        while over - fits > 1 {
            let words = fits + (over - fits) / 2;
            match of(words).input(&counter) {
                Some(tokens) if tokens <= input_tokens => fits = words,
                _ => over = words,
            }
        }
        of(fits)
    }

    /// An OpenAI chat call.
    pub fn chat(model: &str, prompt: &str) -> Self {
        Self::new(Endpoint::ChatCompletions, model, prompt)
    }

    /// An Anthropic messages call.
    pub fn messages(model: &str, prompt: &str) -> Self {
        Self::new(Endpoint::Messages, model, prompt)
    }

    /// Caps the output by the dialect's own field.
    #[must_use]
    pub fn max_tokens(mut self, tokens: u64) -> Self {
        match self.endpoint {
            Endpoint::Responses => self.body["max_output_tokens"] = tokens.into(),
            Endpoint::GenerateContent | Endpoint::StreamGenerateContent => {
                self.body["generationConfig"] = json!({ "maxOutputTokens": tokens });
            }
            _ => self.body["max_tokens"] = tokens.into(),
        }
        self
    }

    /// Asks for a stream. Gemini streams by its endpoint.
    #[must_use]
    pub fn streamed(self) -> Self {
        self.with("stream", json!(true))
    }

    /// Asks for a stream that ends with its usage, as OpenAI's chat and completions can.
    #[must_use]
    pub fn streamed_with_usage(self) -> Self {
        self.streamed()
            .with("stream_options", json!({ "include_usage": true }))
    }

    /// Sets a field of the body.
    #[must_use]
    pub fn with(mut self, field: &str, value: Value) -> Self {
        self.body[field] = value;
        self
    }

    /// Sets a header.
    #[must_use]
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Fixes the output of a mock, in tokens.
    #[must_use]
    pub fn output(self, tokens: u64) -> Self {
        self.header("x-mock-output-tokens", &tokens.to_string())
    }

    /// Which call it is.
    pub fn endpoint(&self) -> Endpoint {
        self.endpoint
    }

    /// The path and query it is sent to.
    pub fn path(&self) -> String {
        match self.endpoint {
            Endpoint::ChatCompletions => "/v1/chat/completions".to_owned(),
            Endpoint::Responses => "/v1/responses".to_owned(),
            Endpoint::Completions => "/v1/completions".to_owned(),
            Endpoint::Embeddings => "/v1/embeddings".to_owned(),
            Endpoint::Messages => "/v1/messages".to_owned(),
            Endpoint::CountTokens => "/v1/messages/count_tokens".to_owned(),
            Endpoint::GenerateContent => format!("/v1beta/models/{}:generateContent", self.model),
            Endpoint::StreamGenerateContent => {
                format!(
                    "/v1beta/models/{}:streamGenerateContent?alt=sse",
                    self.model
                )
            }
        }
    }

    /// The body as it is sent.
    pub fn body(&self) -> String {
        self.body.to_string()
    }

    /// The tokens of its input; `None` if the body cannot be read.
    fn input(&self, counter: &Counter) -> Option<u64> {
        let call = Call::parse(self.endpoint, Some(&self.model), self.body().as_bytes()).ok()?;
        Some(counter.input(&call).tokens)
    }

    /// The headers it is sent with, beside those of the client.
    pub(super) fn headers(&self) -> impl Iterator<Item = (HeaderName, HeaderValue)> {
        let version = matches!(self.endpoint, Endpoint::Messages | Endpoint::CountTokens);
        let fixed = version.then_some(("anthropic-version", "2023-06-01"));
        let own = self
            .headers
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str()));
        let valid = |(name, value)| {
            Some((
                HeaderName::try_from(name).ok()?,
                HeaderValue::try_from(value).ok()?,
            ))
        };
        fixed
            .into_iter()
            .chain(own)
            .filter_map(valid)
            .collect::<Vec<_>>()
            .into_iter()
    }
}
