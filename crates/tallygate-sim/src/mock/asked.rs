//! What a caller asks for, read strictly.

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::value::RawValue;
use tallygate_tokens::Endpoint;

/// Most choices of one call, as OpenAI allows.
const MAX_CHOICES: u64 = 128;
/// Most dimensions of an embedding.
const MAX_DIMENSIONS: u64 = 3_072;
/// Dimensions of an embedding when none are asked for. Real models have more; this keeps answers small.
const DIMENSIONS: u64 = 64;

/// A call's body: the parts that shape the answer.
pub(crate) struct Asked<'a> {
    pub(crate) endpoint: Endpoint,
    path_model: Option<&'a str>,
    fields: Fields<'a>,
}

#[derive(Deserialize)]
struct Fields<'a> {
    #[serde(borrow)]
    model: Option<Cow<'a, str>>,
    #[serde(borrow)]
    messages: Option<&'a RawValue>,
    #[serde(borrow)]
    input: Option<&'a RawValue>,
    #[serde(borrow)]
    prompt: Option<&'a RawValue>,
    #[serde(borrow)]
    contents: Option<&'a RawValue>,
    #[serde(borrow)]
    system: Option<&'a RawValue>,
    #[serde(borrow)]
    instructions: Option<&'a RawValue>,
    #[serde(borrow)]
    previous_response_id: Option<Cow<'a, str>>,
    stream: Option<bool>,
    stream_options: Option<StreamOptions>,
    max_tokens: Option<u64>,
    max_completion_tokens: Option<u64>,
    max_output_tokens: Option<u64>,
    n: Option<u64>,
    best_of: Option<u64>,
    dimensions: Option<u64>,
    #[serde(borrow)]
    encoding_format: Option<Cow<'a, str>>,
    metadata: Option<Metadata>,
    #[serde(rename = "generationConfig")]
    generation_config: Option<GenerationConfig>,
}

#[derive(Deserialize)]
struct StreamOptions {
    include_usage: Option<bool>,
}

#[derive(Deserialize)]
struct Metadata {
    mock_output_tokens: Option<Lenient>,
}

/// OpenAI's metadata holds texts only.
#[derive(Deserialize)]
#[serde(untagged)]
enum Lenient {
    Number(u64),
    Text(String),
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct GenerationConfig {
    max_output_tokens: Option<u64>,
    candidate_count: Option<u64>,
}

/// Why a body is refused with 400.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct BadCall {
    pub(crate) message: String,
    /// The field at fault, as OpenAI names it.
    pub(crate) param: Option<&'static str>,
}

impl<'a> Asked<'a> {
    pub(crate) fn parse(
        endpoint: Endpoint,
        path_model: Option<&'a str>,
        body: &'a [u8],
    ) -> Result<Self, BadCall> {
        let fields = serde_json::from_slice(body).map_err(|error| BadCall {
            message: format!("We could not parse the JSON body of your request: {error}"),
            param: None,
        })?;
        let asked = Self {
            endpoint,
            path_model,
            fields,
        };
        asked.check()?;
        Ok(asked)
    }

    pub(crate) fn model(&self) -> &str {
        self.path_model
            .or(self.fields.model.as_deref())
            .unwrap_or_default()
    }

    pub(crate) fn streams(&self) -> bool {
        match self.endpoint {
            Endpoint::StreamGenerateContent => true,
            Endpoint::Embeddings | Endpoint::CountTokens | Endpoint::GenerateContent => false,
            _ => self.fields.stream.unwrap_or(false),
        }
    }

    pub(crate) fn include_usage(&self) -> bool {
        let options = self.fields.stream_options.as_ref();
        options
            .and_then(|options| options.include_usage)
            .unwrap_or(false)
    }

    /// The most output tokens of one choice.
    pub(crate) fn max_output(&self) -> Option<u64> {
        let fields = &self.fields;
        match self.endpoint {
            Endpoint::ChatCompletions => fields.max_completion_tokens.or(fields.max_tokens),
            Endpoint::Responses => fields.max_output_tokens,
            // The documented default of the legacy endpoint.
            Endpoint::Completions => fields.max_tokens.or(Some(16)),
            Endpoint::Messages => fields.max_tokens,
            Endpoint::Embeddings | Endpoint::CountTokens => Some(0),
            Endpoint::GenerateContent | Endpoint::StreamGenerateContent => fields
                .generation_config
                .as_ref()
                .and_then(|config| config.max_output_tokens),
        }
    }

    /// How many texts the answer has.
    pub(crate) fn texts(&self) -> u64 {
        match self.endpoint {
            Endpoint::ChatCompletions => self.fields.n.unwrap_or(1),
            Endpoint::Completions => self.fields.n.unwrap_or(1) * self.prompts(),
            Endpoint::Embeddings | Endpoint::CountTokens => 0,
            Endpoint::GenerateContent | Endpoint::StreamGenerateContent => {
                let config = self.fields.generation_config.as_ref();
                config
                    .and_then(|config| config.candidate_count)
                    .unwrap_or(1)
            }
            Endpoint::Responses | Endpoint::Messages => 1,
        }
    }

    /// The output length that the body's metadata fixes.
    pub(crate) fn output_tokens(&self) -> Option<u64> {
        match self.fields.metadata.as_ref()?.mock_output_tokens.as_ref()? {
            Lenient::Number(tokens) => Some(*tokens),
            Lenient::Text(text) => text.parse().ok(),
        }
        .map(|tokens| tokens.min(super::switches::MAX_OUTPUT))
    }

    /// The response that this one goes on from.
    pub(crate) fn previous_response(&self) -> Option<&str> {
        self.fields.previous_response_id.as_deref()
    }

    /// The prompt as it was written.
    pub(crate) fn prompt(&self) -> impl Iterator<Item = &'a str> {
        let f = &self.fields;
        let parts = [
            f.system,
            f.instructions,
            f.messages,
            f.input,
            f.prompt,
            f.contents,
        ];
        parts.into_iter().flatten().map(RawValue::get)
    }

    /// How many inputs an embedding call has.
    pub(crate) fn inputs(&self) -> u64 {
        members(self.fields.input)
    }

    pub(crate) fn dimensions(&self) -> u64 {
        self.fields.dimensions.unwrap_or(DIMENSIONS)
    }

    pub(crate) fn wants_base64(&self) -> bool {
        self.fields.encoding_format.as_deref() == Some("base64")
    }

    fn prompts(&self) -> u64 {
        members(self.fields.prompt)
    }

    fn check(&self) -> Result<(), BadCall> {
        let fields = &self.fields;
        if self.model().is_empty() {
            return bad("you must provide a model parameter", "model");
        }
        self.check_prompt()?;
        if fields.stream_options.is_some() && !self.streams() {
            return bad(
                "The 'stream_options' parameter is only allowed when 'stream' is enabled.",
                "stream_options",
            );
        }
        if fields.max_tokens.is_some() && fields.max_completion_tokens.is_some() {
            return bad(
                "Setting 'max_tokens' and 'max_completion_tokens' at the same time is not supported.",
                "max_tokens",
            );
        }
        if self.endpoint == Endpoint::Messages && fields.max_tokens.is_none() {
            return bad("max_tokens: Field required", "max_tokens");
        }
        self.check_numbers()
    }

    fn check_prompt(&self) -> Result<(), BadCall> {
        let fields = &self.fields;
        let (prompt, name) = match self.endpoint {
            Endpoint::ChatCompletions | Endpoint::Messages | Endpoint::CountTokens => {
                (fields.messages, "messages")
            }
            Endpoint::Responses | Endpoint::Embeddings => (fields.input, "input"),
            Endpoint::Completions => (fields.prompt, "prompt"),
            Endpoint::GenerateContent | Endpoint::StreamGenerateContent => {
                (fields.contents, "contents")
            }
        };
        match prompt.map(RawValue::get) {
            None | Some("null") => bad("a required parameter is missing", name),
            Some(text) if is_empty_array(text) => bad(
                "an empty array was given; at least one member is needed",
                name,
            ),
            Some(_) => Ok(()),
        }
    }

    fn check_numbers(&self) -> Result<(), BadCall> {
        let fields = &self.fields;
        let choices = self.fields.n.unwrap_or(1);
        if choices == 0 || choices > MAX_CHOICES || self.texts() > MAX_CHOICES {
            return bad("must be between 1 and 128", "n");
        }
        if fields
            .best_of
            .is_some_and(|best_of| best_of < choices || best_of > MAX_CHOICES)
        {
            return bad("must be at least n and at most 128", "best_of");
        }
        if [
            fields.max_tokens,
            fields.max_completion_tokens,
            fields.max_output_tokens,
        ]
        .contains(&Some(0))
        {
            return bad("must be at least 1", "max_tokens");
        }
        if self.dimensions() == 0 || self.dimensions() > MAX_DIMENSIONS || self.inputs() > 2_048 {
            return bad(
                "dimensions must be between 1 and 3072, inputs at most 2048",
                "dimensions",
            );
        }
        Ok(())
    }
}

fn bad<T>(message: &str, param: &'static str) -> Result<T, BadCall> {
    Err(BadCall {
        message: format!("{message} ({param})"),
        param: Some(param),
    })
}

fn is_empty_array(text: &str) -> bool {
    text.strip_prefix('[')
        .is_some_and(|rest| rest.trim_start().starts_with(']'))
}

/// How many texts a value holds: one, or the members of an array of texts or of arrays.
fn members(value: Option<&RawValue>) -> u64 {
    let Some(text) = value.map(RawValue::get) else {
        return 1;
    };
    match serde_json::from_str::<Vec<&RawValue>>(text) {
        // An array of numbers is one text, given as tokens.
        Ok(list)
            if list
                .first()
                .is_some_and(|first| first.get().starts_with(['"', '['])) =>
        {
            list.len() as u64
        }
        _ => 1,
    }
}
