//! A call given whole, sized as the gateway would.

use bytes::Bytes;
use serde_json::value::RawValue;
use tallygate_core::Stated;
use tallygate_tokens::{Call, Count, Dialect, Endpoint, Estimate, OutputClass, OutputPolicy};

use super::fields::{FieldError, Fields};
use super::{Question, subject::Subject};
use crate::pipeline::{Asked, Estimating, Price};
use crate::wire::ApiError;

/// A call and its size.
pub(super) struct Measured {
    pub(super) call: Call,
    pub(super) endpoint: Endpoint,
    pub(super) input: Count,
    pub(super) output: Estimate,
}

impl Measured {
    /// Its tokens.
    pub(super) fn stated(&self) -> Stated {
        Stated::tokens(self.input.tokens, self.output.tokens)
    }
}

impl Question<'_> {
    /// Reads `request` with its optional `dialect`, and sizes it for `subject`.
    ///
    /// # Errors
    /// When it is no call, or names another model than `model`.
    pub(super) async fn measure(
        &self,
        request: &RawValue,
        form: Form<'_>,
        subject: &Subject<'_>,
    ) -> Result<Measured, ApiError> {
        let endpoint = form.endpoint(request, self)?;
        let body = self.body.slice_ref(request.get().as_bytes());
        let asked = Asked {
            endpoint,
            path_model: form.model.map(Box::from),
        };
        let call = self
            .pipeline
            .read(&asked, &body)
            .await
            .map_err(within_request)?;
        if form.model.is_some_and(|model| model != call.model()) {
            let wanted = "the model of the request, or left out";
            return Err(FieldError::Wrong {
                path: "model".to_owned(),
                wanted,
            }
            .into());
        }
        self.measured((endpoint, call), subject).await
    }

    /// The same call for the model `name`.
    ///
    /// # Errors
    /// [`ApiError::Internal`].
    pub(super) async fn remeasure(
        &self,
        measured: &Measured,
        name: &str,
        subject: &Subject<'_>,
    ) -> Result<Measured, ApiError> {
        let endpoint = measured.endpoint;
        let asked = Asked {
            endpoint,
            path_model: Some(Box::from(name)),
        };
        let body = Bytes::from(measured.call.with_model(name));
        let call = self.pipeline.read(&asked, &body).await?;
        self.measured((endpoint, call), subject).await
    }

    async fn measured(
        &self,
        (endpoint, call): (Endpoint, Call),
        subject: &Subject<'_>,
    ) -> Result<Measured, ApiError> {
        let (call, input) = self.pipeline.count(call).await?;
        let output = self.estimate_of(&call, input, subject);
        Ok(Measured {
            call,
            endpoint,
            input,
            output,
        })
    }

    /// What would be held for the output of `call`.
    pub(super) fn estimate_of(&self, call: &Call, input: Count, subject: &Subject<'_>) -> Estimate {
        let config = self.caller.config();
        let route = config.route(call.endpoint(), call.model()).ok();
        let policy = route.as_ref().map_or_else(
            || OutputPolicy::for_model(call.model()),
            |route| route.output,
        );
        let class = OutputClass {
            model: route.as_ref().map_or(call.model(), |route| route.model),
            tenant: subject.get("tenant").unwrap_or_default(),
            endpoint: call.endpoint(),
        };
        let (policy, price) = (&policy, &Price::default());
        self.pipeline
            .sized(
                call,
                input,
                Estimating {
                    class,
                    policy,
                    price,
                },
            )
            .output
    }
}

/// What a body says of the form of its `request`.
#[derive(Debug, Clone, Copy)]
pub(super) struct Form<'a> {
    pub(super) model: Option<&'a str>,
    pub(super) dialect: Option<Dialect>,
}

impl Form<'_> {
    /// Takes the field `dialect`.
    ///
    /// # Errors
    /// When it is none.
    pub(super) fn dialect(fields: &mut Fields<'_>) -> Result<Option<Dialect>, FieldError> {
        let Some(word) = fields.text("dialect")? else {
            return Ok(None);
        };
        let all = [Dialect::OpenAi, Dialect::Anthropic, Dialect::Gemini];
        match all.into_iter().find(|dialect| dialect.name() == word) {
            Some(dialect) => Ok(Some(dialect)),
            None => Err(fields.wrong("dialect", "openai, anthropic or gemini")),
        }
    }

    /// Which call `request` is: by the dialect said, or that of the model's upstream, and by the fields it has.
    fn endpoint(&self, request: &RawValue, question: &Question<'_>) -> Result<Endpoint, ApiError> {
        let mut fields = Fields::of_field("request", request)?;
        let has = |name: &str| fields.names().iter().any(|field| field == name);
        let (contents, input, prompt) = (has("contents"), has("input"), has("prompt"));
        let model = match self.model {
            Some(model) => model.to_owned(),
            None => fields.text("model")?.unwrap_or_default(),
        };
        let dialect = self
            .dialect
            .unwrap_or_else(|| dialect_of(&model, contents, question));
        Ok(match dialect {
            Dialect::Gemini => Endpoint::GenerateContent,
            Dialect::Anthropic => Endpoint::Messages,
            Dialect::OpenAi if input && model.contains("embedding") => Endpoint::Embeddings,
            Dialect::OpenAi if input => Endpoint::Responses,
            Dialect::OpenAi if prompt => Endpoint::Completions,
            Dialect::OpenAi => Endpoint::ChatCompletions,
        })
    }
}

fn dialect_of(model: &str, contents: bool, question: &Question<'_>) -> Dialect {
    let (_, upstream) = question.caller.config().model_label(model);
    match upstream {
        _ if contents => Dialect::Gemini,
        Some(upstream) => upstream.dialect(),
        None if model.starts_with("claude") => Dialect::Anthropic,
        None => Dialect::OpenAi,
    }
}

/// Paths in a call are paths in the field it stands in.
fn within_request(error: ApiError) -> ApiError {
    match error {
        ApiError::Invalid { message, field } => {
            let field =
                field.map_or_else(|| "request".to_owned(), |field| format!("request.{field}"));
            ApiError::invalid(message, Some(&field))
        }
        other => other,
    }
}
