//! A request body, read once: what sizing and the gateway need of it.

mod error;
mod patch;

pub use error::CallError;

use crate::dialect::{Dialect, Endpoint};
use crate::framing;
use crate::json::Json;
use crate::plan::Plan;

/// A parsed request.
///
/// Holds the body as it came, and the texts to be counted; images and other attachments are
/// reduced to their token cost while parsing. Unknown fields are left alone.
#[derive(Debug)]
pub struct Call {
    endpoint: Endpoint,
    model: String,
    settings: Settings,
    plan: Plan,
    body: Box<[u8]>,
}

/// The scalars of a request that decide about its output.
#[derive(Clone, Copy, Debug, Default)]
struct Settings {
    streams: bool,
    usage_requested: bool,
    background: bool,
    max_output: Option<u64>,
    choices: u64,
}

impl Call {
    /// Reads a request body.
    ///
    /// `path_model` is the model named in the request's path (Gemini, Azure deployments). It is
    /// used where the body names none; for Gemini it is the one that counts, whatever the body
    /// says. `null` stands for an absent field everywhere.
    ///
    /// # Errors
    ///
    /// [`CallError::Malformed`] with line and column where the body is no JSON (nesting deeper
    /// than 128 levels included); [`CallError::Missing`] and [`CallError::WrongType`] with the
    /// path of the field that is missing or not of its documented type.
    pub fn parse(
        endpoint: Endpoint,
        path_model: Option<&str>,
        body: &[u8],
    ) -> Result<Self, CallError> {
        let json = Json::parse(body).map_err(|error| CallError::malformed(&error))?;
        if !matches!(json, Json::Object(_)) {
            return Err(CallError::wrong("", "an object", &json));
        }
        refuse_repeated(&json)?;
        let model = match path_model {
            Some(model) if endpoint.dialect() == Dialect::Gemini => model.to_owned(),
            _ => read_model(path_model, &json)?,
        };
        let plan = framing::plan(endpoint, &model, &json)?;
        let mut settings = read_settings(endpoint, &json)?;
        settings.choices = settings.choices.saturating_mul(plan.prompts);
        Ok(Self {
            endpoint,
            model,
            settings,
            plan,
            body: body.into(),
        })
    }

    /// The operation asked for.
    pub fn endpoint(&self) -> Endpoint {
        self.endpoint
    }

    /// The model asked for, as the caller spelt it.
    pub fn model(&self) -> &str {
        &self.model
    }

    /// Whether the answer is to be streamed.
    pub fn streams(&self) -> bool {
        self.settings.streams
    }

    /// Whether the provider goes on with the answer when its reader leaves (`background` of the
    /// Responses API).
    pub fn is_background(&self) -> bool {
        self.settings.background
    }

    /// The most output tokens a choice the caller allows, by whichever name the endpoint has for
    /// it: the larger of `max_completion_tokens` and `max_tokens`, `max_output_tokens`,
    /// `generationConfig.maxOutputTokens`.
    pub fn max_output(&self) -> Option<u64> {
        self.settings.max_output
    }

    /// How many answers are asked for: `n` or `best_of`, `candidateCount`, times the number of
    /// prompts of a legacy completion. At least 1.
    pub fn choices(&self) -> u64 {
        self.settings.choices.max(1)
    }

    /// The body with `stream_options.include_usage` set, for an OpenAI chat or legacy completion
    /// that streams and does not ask for it. `None`: forward the body as it came.
    pub fn with_usage_requested(&self) -> Option<Vec<u8>> {
        let offers = matches!(
            self.endpoint,
            Endpoint::ChatCompletions | Endpoint::Completions
        );
        if !offers || !self.settings.streams || self.settings.usage_requested {
            return None;
        }
        Some(patch::request_usage(&self.body))
    }

    /// The body with its model replaced and nothing else changed.
    pub fn with_model(&self, model: &str) -> Vec<u8> {
        patch::replace_model(&self.body, model)
    }

    /// Bytes of text that counting the input has to read: what the work of
    /// [`Counter::input`](crate::Counter::input) grows with.
    pub fn text_bytes(&self) -> usize {
        self.plan.text_bytes()
    }

    pub(crate) fn plan(&self) -> &Plan {
        &self.plan
    }
}

/// Of a field that is given twice a reader may take either; the provider must not take the one
/// that was not counted.
fn refuse_repeated(json: &Json<'_>) -> Result<(), CallError> {
    let mut names: Vec<&str> = json.entries().iter().map(|(name, _)| &**name).collect();
    names.sort_unstable();
    match names.windows(2).find(|pair| pair[0] == pair[1]) {
        Some(pair) => Err(CallError::Repeated {
            path: pair[0].to_owned(),
        }),
        None => Ok(()),
    }
}

fn read_model(path_model: Option<&str>, json: &Json<'_>) -> Result<String, CallError> {
    match (json.get("model"), path_model) {
        (Some(Json::String(model)), _) => Ok(model.clone().into_owned()),
        (Some(other), _) => Err(CallError::wrong("model", "a string", other)),
        (None, Some(model)) => Ok(model.to_owned()),
        (None, None) => Err(CallError::missing("model")),
    }
}

fn read_settings(endpoint: Endpoint, json: &Json<'_>) -> Result<Settings, CallError> {
    match endpoint {
        Endpoint::ChatCompletions => Ok(Settings {
            // Which of the two a provider heeds is its own affair.
            max_output: number(json, "max_completion_tokens")?.max(number(json, "max_tokens")?),
            choices: number(json, "n")?.unwrap_or(1),
            ..openai_stream(json)?
        }),
        Endpoint::Completions => Ok(Settings {
            max_output: number(json, "max_tokens")?,
            choices: number(json, "n")?
                .max(number(json, "best_of")?)
                .unwrap_or(1),
            ..openai_stream(json)?
        }),
        Endpoint::Responses => Ok(Settings {
            streams: flag(json, "stream")?,
            max_output: number(json, "max_output_tokens")?,
            choices: 1,
            usage_requested: true,
            background: flag(json, "background")?,
        }),
        Endpoint::Messages => Ok(Settings {
            streams: flag(json, "stream")?,
            max_output: number(json, "max_tokens")?,
            choices: 1,
            usage_requested: true,
            background: false,
        }),
        Endpoint::GenerateContent | Endpoint::StreamGenerateContent => {
            gemini_settings(endpoint, json)
        }
        Endpoint::Embeddings | Endpoint::CountTokens => Ok(Settings {
            choices: 1,
            ..Settings::default()
        }),
    }
}

fn openai_stream(json: &Json<'_>) -> Result<Settings, CallError> {
    let options = match json.get("stream_options") {
        None => None,
        Some(options @ Json::Object(_)) => Some(options),
        Some(other) => return Err(CallError::wrong("stream_options", "an object", other)),
    };
    let usage_requested = match options {
        Some(options) => flag(options, "include_usage").map_err(|e| e.within("stream_options"))?,
        None => false,
    };
    Ok(Settings {
        streams: flag(json, "stream")?,
        usage_requested,
        ..Settings::default()
    })
}

fn gemini_settings(endpoint: Endpoint, json: &Json<'_>) -> Result<Settings, CallError> {
    let mut settings = Settings {
        streams: endpoint == Endpoint::StreamGenerateContent,
        usage_requested: true,
        background: false,
        max_output: None,
        choices: 1,
    };
    let named = ["generationConfig", "generation_config"];
    let Some((name, config)) = named.iter().find_map(|key| Some((*key, json.get(key)?))) else {
        return Ok(settings);
    };
    let read = |camel, snake| {
        let found = number(config, camel).map_err(|e| e.within(name))?;
        Ok(found.or(number(config, snake).map_err(|e| e.within(name))?))
    };
    settings.max_output = read("maxOutputTokens", "max_output_tokens")?;
    settings.choices = read("candidateCount", "candidate_count")?.unwrap_or(1);
    Ok(settings)
}

fn number(json: &Json<'_>, key: &str) -> Result<Option<u64>, CallError> {
    let Some(value) = json.get(key) else {
        return Ok(None);
    };
    match value.as_u64() {
        Some(number) => Ok(Some(number)),
        None => Err(CallError::wrong(key, "a non-negative whole number", value)),
    }
}

fn flag(json: &Json<'_>, key: &str) -> Result<bool, CallError> {
    match json.get(key) {
        None => Ok(false),
        Some(Json::Bool(value)) => Ok(*value),
        Some(other) => Err(CallError::wrong(key, "a boolean", other)),
    }
}
