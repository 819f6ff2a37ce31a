//! Whatever else a provider serves: handed on unread, as one request.

use std::sync::Arc;
use std::time::Duration;

use http::{Request, Response, StatusCode};
use hyper::body::Incoming;
use tallygate_core::{Amounts, Metric, ReservationId};
use tallygate_store::usage::{Method, Outcome};
use tallygate_store::{Settlement, WaitsFor};
use tallygate_tokens::Dialect;
use tokio::time::Instant;

use super::clock::{AnswerClock, AnswerTimes};
use super::headers::Reading;
use super::passing::Passing;
use super::path::Yields;
use super::payload::Payload;
use super::revocation::Revocation;
use super::{AnswerBody, TTL_SLACK, address, finish_headers, forward};
use crate::config::{NoRoute, UNREAD_ENDPOINT, Unread, Went};
use crate::identify::{Rejection, Role};
use crate::ledger::{Entry, Recorder, Reserved, Subject, Use};
use crate::observe::Door;
use crate::pipeline::{Admitted, Ending, Pipeline, Refusal, Terms, labels};
use crate::wire::ApiError;

/// The methods that are handed on. TRACE would have a provider repeat the key that was put in, CONNECT speaks of another host.
const METHODS: [http::Method; 7] = [
    http::Method::GET,
    http::Method::HEAD,
    http::Method::POST,
    http::Method::PUT,
    http::Method::PATCH,
    http::Method::DELETE,
    http::Method::OPTIONS,
];

/// Hands one request on to the upstream of its dialect, under its request limits alone. One that may generate passes where
/// neither a budget nor a tier's models stand against it.
///
/// # Errors
/// Everything that is answered here and not by the provider.
pub(crate) async fn pass(
    pipeline: &Arc<Pipeline>,
    (dialect, yields): (Dialect, Yields),
    request: Request<Incoming>,
) -> Result<Response<AnswerBody>, Refusal> {
    let caller = pipeline.identify(request.headers(), request.uri(), Role::Call)?;
    check_method(&request)?;
    let provider = caller
        .setup()
        .passing(dialect)
        .ok_or(ApiError::NoRoute(NoRoute::Dialect(dialect)))?;
    let mut known = vec![
        ("upstream", provider.upstream().name()),
        ("endpoint", UNREAD_ENDPOINT),
    ];
    known.extend(caller.config().downgraded(Went::AsAsked));
    let subject = labels(caller.identity(), &known);
    let bounds = caller.config().bounds();
    let terms = Terms {
        demand: Amounts::ZERO.with(Metric::REQUESTS, 1),
        ttl: bounds.total_time + TTL_SLACK,
        door: Door::Gateway,
        max_wait: Duration::ZERO,
        waits_for: WaitsFor::Anything,
        idempotency_key: None,
    };
    if yields == Yields::Anything {
        let upstream = provider.upstream().name();
        let may = caller.config().may_pass_unread(upstream, &subject);
        may.map_err(|by| escaping(by, pipeline, (upstream, &subject, &terms)))?;
    }
    let (mut head, body) = request.into_parts();
    let payload = Payload::passing(body, bounds.max_body)?;
    let (admitted, passage) = admit(pipeline, (&subject, yields), &terms).await?;
    let mut hold = admitted.hold;
    let served = Ending::Settle(Settlement::Exact(terms.demand));
    hold.or_else(served);
    address(&mut head, provider, Reading::Nothing, &caller);
    let times = AnswerTimes::of(bounds);
    let sent = Instant::now();
    let answer = match forward::send(provider, Request::from_parts(head, payload), times).await {
        Ok(answer) => answer,
        Err(failure) => {
            passage.end(Outcome::Failed);
            hold.end(Ending::Cancel).await;
            return Err(failure.told_of(provider.upstream().name()).into());
        }
    };
    let outcome = outcome(answer.status());
    passage.end(outcome);
    hold.end(match outcome {
        Outcome::Failed => Ending::Cancel,
        _ => served,
    })
    .await;
    let mut revocation = Revocation::new(caller.owner(), pipeline);
    if revocation.cuts() {
        return Err(ApiError::Rejected(Rejection::Revoked).into());
    }
    let clock = AnswerClock::new(times, sent);
    let passing = |body| Passing::new(body, clock).until(revocation);
    let mut answer = answer.map(|body| AnswerBody::passing(passing(body)));
    finish_headers(pipeline, answer.headers_mut(), dialect, &admitted.admission);
    Ok(answer)
}

/// What became of a request that was answered so.
fn outcome(status: StatusCode) -> Outcome {
    match status {
        StatusCode::TOO_MANY_REQUESTS => Outcome::Failed,
        status if status.is_server_error() => Outcome::Failed,
        status if status.is_client_error() => Outcome::Refused,
        _ => Outcome::Settled,
    }
}

/// The refusal of a call that would escape what stands against it.
fn escaping(
    by: Unread,
    pipeline: &Pipeline,
    (upstream, subject, terms): (&str, &[(&str, &str)], &Terms<'_>),
) -> Refusal {
    let error = ApiError::Unsized {
        by,
        upstream: upstream.to_owned(),
    };
    Refusal::of(error, "", terms.demand)
        .of_subject(Subject::of(subject, ""), &reserved(pipeline, terms))
}

fn reserved(pipeline: &Pipeline, terms: &Terms<'_>) -> Reserved {
    Reserved {
        at: pipeline.store().now(),
        amounts: terms.demand,
        waited: Duration::ZERO,
    }
}

/// A request that was let through, until the ledger is told of it. Dropped, its caller has left: it was sent all the same.
struct Passage {
    id: ReservationId,
    recorder: Arc<Recorder>,
    entry: Option<Entry>,
    yields: Yields,
    begun: Instant,
}

impl Passage {
    fn end(mut self, outcome: Outcome) {
        self.record(outcome);
    }

    fn record(&mut self, outcome: Outcome) {
        if let Some(entry) = self.entry.take() {
            let used = Use {
                method: match (self.yields, outcome) {
                    // It has used what nobody can say.
                    (Yields::Anything, Outcome::Settled) => Method::Kept,
                    _ => Method::Exact,
                },
                ..Use::default()
            };
            let record = entry.ended(outcome, &used, self.begun.elapsed());
            self.recorder.record_end(self.id, record);
        }
    }
}

impl Drop for Passage {
    fn drop(&mut self) {
        self.record(Outcome::Settled);
    }
}

async fn admit(
    pipeline: &Arc<Pipeline>,
    (subject, yields): (&[(&str, &str)], Yields),
    terms: &Terms<'_>,
) -> Result<(Admitted, Passage), Refusal> {
    let who = Subject::of(subject, "");
    let admitted = pipeline.admit(subject, terms).await;
    let reserved = reserved(pipeline, terms);
    match admitted {
        Ok(admitted) => {
            let (id, expires_at) = (admitted.admission.id, admitted.admission.expires_at);
            let entry = Entry::new(who, &reserved);
            let recorder = Arc::clone(pipeline.recorder());
            recorder.opened((id, expires_at), || entry.clone());
            let passage = Passage {
                id,
                recorder,
                entry: Some(entry),
                yields,
                begun: Instant::now(),
            };
            Ok((admitted, passage))
        }
        Err(error) => Err(Refusal::of(error, "", terms.demand).of_subject(who, &reserved)),
    }
}

fn check_method<B>(request: &Request<B>) -> Result<(), ApiError> {
    match METHODS.contains(request.method()) {
        true => Ok(()),
        false => Err(ApiError::Method {
            path: request.uri().path().to_owned(),
            allowed: "GET, HEAD, POST, PUT, PATCH, DELETE and OPTIONS",
        }),
    }
}
