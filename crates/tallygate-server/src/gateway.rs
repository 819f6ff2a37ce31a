//! The reverse proxy: a caller's call to a provider, sized, admitted, forwarded and settled.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::request::Parts;
use http::{HeaderMap, Request, Response, Version};
use hyper::body::Incoming;
use tallygate_core::Admission;
use tallygate_tokens::Dialect;

use crate::config::Bounds;
use crate::identify::Role;
use crate::observe::Stage;
use crate::pipeline::{Account, Asked, Caller, Laps, Pipeline, Refusal, Sized, Step, willing};
use crate::wire::{self, ApiError, Voice};

mod answer;
mod clock;
mod farewell;
mod forward;
mod growth;
mod harmless;
mod headers;
mod intake;
mod link;
mod metered;
mod pass;
mod passing;
mod path;
mod payload;
mod pool;
mod provider;
mod reader;
mod revocation;
mod seeking;
mod spelling;
mod unreported;

use clock::AnswerTimes;
use forward::Manner;
use headers::Reading;
use payload::Payload;
use reader::PassOn;
use seeking::{Granted, Seeking, Worded};

pub(crate) use answer::AnswerBody;
pub(crate) use headers::tell_model;
pub(crate) use intake::{IntakeBounds, IntakeError, collect};
pub(crate) use pass::pass;
pub(crate) use path::{Destination, destination};
pub(crate) use provider::{Provider, connector};

/// A hold outlives the longest answer by this.
const TTL_SLACK: Duration = Duration::from_secs(60);

/// A caller's say in how long it would wait in line, in milliseconds.
const MAX_WAIT: &str = "x-tallygate-max-wait-ms";

/// Serves one call whose size can be known.
///
/// # Errors
/// Everything that is answered here and not by the provider.
pub(crate) async fn call(
    pipeline: &Arc<Pipeline>,
    asked: Asked,
    request: Request<Incoming>,
) -> Result<Response<AnswerBody>, Refusal> {
    let mut laps = Laps::new(pipeline.observer());
    let caller = pipeline.identify(request.headers(), request.uri(), Role::Call)?;
    let (head, body) = request.into_parts();
    let max_wait = max_wait(&head.headers, caller.config().waiting().max_wait)?;
    let willing = willing(&head.headers)?;
    headers::check_encoding(&head.headers)?;
    laps.end(Stage::Identify);
    let bounds = IntakeBounds::of(caller.config().bounds());
    let body = collect(body, bounds).await.map_err(ApiError::from)?;
    laps.skip();
    let call = pipeline.read(&asked, &body).await?;
    let asked_for = call.model().to_owned();
    let attempts = caller.attempts(asked.endpoint, &asked_for, willing)?;
    let seeking = Seeking {
        pipeline,
        caller: &caller,
        endpoint: asked.endpoint,
        max_wait,
    };
    let worded = Worded { call, body };
    let granted = seeking.seek(&attempts, worded, &mut laps).await?;
    let Granted {
        attempt,
        worded,
        size,
        price,
        admitted,
        watched,
    } = granted;
    let (request, manner) = outgoing(head, &worded, &caller, attempt.provider);
    let call = worded.call;
    let account_of = attempt.account(&caller, Sized { call, size, price });
    let account = Account::open(admitted.hold, account_of, Arc::clone(pipeline))
        .having_waited(admitted.admission.waited)
        .watched(watched)
        .noted(admitted.admission.expires_at);
    laps.end(Stage::Forward);
    let answered = forward::forward(attempt.provider, request, account, manner).await;
    let mut answer = answered.map_err(|error| match attempt.step {
        Step::Asked => error.into(),
        _ => Refusal::from(error).served_by(attempt.name, &asked_for),
    })?;
    finish_headers(
        pipeline,
        answer.headers_mut(),
        asked.endpoint.dialect(),
        &admitted.admission,
    );
    if attempt.step != Step::Asked {
        headers::tell_model(answer.headers_mut(), attempt.name, &asked_for);
    }
    Ok(answer)
}

/// How long a caller waits in line: as configured, or less if it says so.
fn max_wait(headers: &HeaderMap, configured: Duration) -> Result<Duration, ApiError> {
    let Some(value) = headers.get(MAX_WAIT) else {
        return Ok(configured);
    };
    let millis = value
        .to_str()
        .ok()
        .and_then(|text| text.trim().parse().ok());
    let millis = millis.ok_or_else(|| {
        ApiError::invalid(format!("the header {MAX_WAIT} takes milliseconds"), None)
    })?;
    Ok(configured.min(Duration::from_millis(millis)))
}

/// The request to the provider, and how its answer is to be read.
fn outgoing(
    mut head: Parts,
    worded: &Worded,
    caller: &Caller,
    provider: &Provider,
) -> (Request<Payload>, Manner) {
    let (body, pass_on) = match worded.call.with_usage_requested() {
        Some(asking) => (Bytes::from(asking), PassOn::WithoutUsage),
        None => (worded.body.clone(), PassOn::Original),
    };
    head.uri = match worded.call.endpoint().dialect() {
        Dialect::Gemini => path::with_model(&head.uri, worded.call.model()),
        Dialect::OpenAi | Dialect::Anthropic => path::of_openai(&head.uri),
    };
    address(&mut head, provider, Reading::Answer, caller);
    let manner = Manner {
        times: AnswerTimes::of(caller.config().bounds()),
        pass_on,
        overrun: caller.config().bounds().overrun,
        owner: caller.owner(),
    };
    (Request::from_parts(head, Payload::Whole(body)), manner)
}

/// Turns the head of a caller's request into that of one to `provider`.
fn address(head: &mut Parts, provider: &Provider, reading: Reading, caller: &Caller) {
    let keyed = !caller.setup().keyring().is_open(); // then credentials are keys to this gateway
    head.uri = match keyed || provider.upstream().credential().is_some() {
        true => provider.locate(&headers::without_key(&head.uri)),
        false => provider.locate(&head.uri),
    };
    head.version = Version::HTTP_11;
    head.extensions.clear();
    if keyed {
        headers::drop_credentials(&mut head.headers);
    }
    headers::to_provider(&mut head.headers, provider, reading);
}

/// Makes a provider's headers ours: its connection's are gone, its limits set aside, ours told.
fn finish_headers(
    pipeline: &Pipeline,
    headers: &mut HeaderMap,
    dialect: Dialect,
    admission: &Admission,
) {
    headers::to_caller(headers);
    wire::set_aside_upstream_limits(headers);
    wire::add_standings(
        headers,
        Voice::Dialect(dialect),
        &admission.standings,
        pipeline.store().now(),
    );
}

impl AnswerTimes {
    fn of(bounds: &Bounds) -> Self {
        Self {
            head: bounds.answer_time.min(bounds.total_time),
            idle: bounds.idle_time,
            total: bounds.total_time,
        }
    }
}
