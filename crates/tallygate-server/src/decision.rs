//! The decision API: the stages of the pipeline for callers that send their calls themselves.

use std::sync::Arc;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderValue};
use http::{Method, Request, Response, StatusCode};
use hyper::body::Incoming;
use serde_json::Value;

use crate::gateway::{AnswerBody, IntakeBounds, collect};
use crate::identify::{Downgrade, Role};
use crate::pipeline::{Caller, Pipeline, Refusal, willing};
use crate::wire::ApiError;

mod count;
mod end;
mod fields;
mod limits;
mod money;
mod query;
mod reserve;
mod sizing;
mod subject;
mod told;
mod watch;
mod wish;

pub(crate) use fields::{FieldError, Fields};
pub(crate) use query::pairs;

/// Paths of the decision API begin so.
pub(crate) const PREFIX: &str = "/tallygate/v1/";

/// One question to the API.
struct Question<'a> {
    pipeline: &'a Arc<Pipeline>,
    caller: &'a Caller,
    /// Whether the request wants no cheaper model.
    willing: Downgrade,
    /// The body as it came.
    body: &'a Bytes,
}

/// An answer that is no refusal.
struct Told {
    status: StatusCode,
    body: Value,
}

impl Told {
    /// It will be done.
    fn accepted(body: Value) -> Self {
        Self {
            status: StatusCode::ACCEPTED,
            body,
        }
    }
}

impl From<Value> for Told {
    fn from(body: Value) -> Self {
        Self {
            status: StatusCode::OK,
            body,
        }
    }
}

/// What the API does, by the last part of its path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Operation {
    Reserve,
    Settle,
    Cancel,
    Extend,
    Count,
    Estimate,
    Limits,
}

/// Answers one request to the API.
///
/// # Errors
/// Everything but an admission, a receipt or a number; denials too.
pub(crate) async fn answer(
    pipeline: &Arc<Pipeline>,
    request: Request<Incoming>,
) -> Result<Response<AnswerBody>, Refusal> {
    let operation = Operation::of(request.method(), request.uri().path())?;
    let caller = pipeline.identify(request.headers(), request.uri(), Role::Decide)?;
    let (head, body) = request.into_parts();
    let willing = willing(&head.headers)?;
    let body = collect(body, IntakeBounds::of(caller.config().bounds()))
        .await
        .map_err(ApiError::from)?;
    let question = Question {
        pipeline,
        caller: &caller,
        willing,
        body: &body,
    };
    let told = match operation {
        Operation::Reserve => question.reserve().await?.into(),
        Operation::Settle => question.settle().await?,
        Operation::Cancel => question.cancel().await?,
        Operation::Extend => question.extend().await?.into(),
        Operation::Count => question.count().await?.into(),
        Operation::Estimate => question.estimate().await?.into(),
        Operation::Limits => {
            let query = head.uri.query().unwrap_or_default();
            question.limits(query).await?.into()
        }
    };
    Ok(json(&told))
}

impl Operation {
    fn of(method: &Method, path: &str) -> Result<Self, ApiError> {
        let operation = match path.strip_prefix(PREFIX).unwrap_or_default() {
            "reserve" => Self::Reserve,
            "settle" => Self::Settle,
            "cancel" => Self::Cancel,
            "extend" => Self::Extend,
            "count" => Self::Count,
            "estimate" => Self::Estimate,
            "limits" => Self::Limits,
            _ => return Err(ApiError::NoPath(path.to_owned())),
        };
        let allowed = operation.method();
        match method.as_str() == allowed {
            true => Ok(operation),
            false => Err(ApiError::Method {
                path: path.to_owned(),
                allowed,
            }),
        }
    }

    fn method(self) -> &'static str {
        match self {
            Self::Limits => "GET",
            _ => "POST",
        }
    }
}

fn json(told: &Told) -> Response<AnswerBody> {
    let mut response = Response::new(AnswerBody::whole(Bytes::from(told.body.to_string())));
    *response.status_mut() = told.status;
    response
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

impl From<FieldError> for ApiError {
    fn from(error: FieldError) -> Self {
        Self::invalid(error.to_string(), error.path())
    }
}

impl From<FieldError> for Refusal {
    fn from(error: FieldError) -> Self {
        ApiError::from(error).into()
    }
}
