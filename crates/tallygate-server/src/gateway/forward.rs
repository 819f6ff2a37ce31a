//! Sending a call on, and what its answer means for its account.

use std::sync::Arc;

use bytes::BytesMut;
use http::header::{CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, HeaderMap};
use http::{Request, Response, StatusCode};
use tallygate_tokens::{Endpoint, StreamOptions, StreamReader};
use tokio::time::timeout;

use super::answer::{AnswerBody, AnswerError};
use super::clock::{AnswerClock, AnswerTimes, Overdue};
use super::link::LinkBody;
use super::metered::Metered;
use super::passing::{Gathered, Passing};
use super::payload::{Payload, PayloadError};
use super::provider::{Provider, SendError};
use super::reader::{Finding, Form, PassOn, Reader};
use super::revocation::Revocation;
use crate::config::Overrun;
use crate::identify::Identity;
use crate::pipeline::{Account, Served};
use crate::wire::ApiError;

/// Answers up to this size are read whole before they go on, so that a provider that breaks off inside one is told of
/// by a status. Longer ones pass as they come.
const READ_WHOLE: usize = 1024 * 1024;

/// How a call is sent and its answer read.
#[derive(Debug, Clone)]
pub(super) struct Manner {
    pub(super) times: AnswerTimes,
    pub(super) pass_on: PassOn,
    pub(super) overrun: Overrun,
    /// Whose call it is.
    pub(super) owner: Arc<Identity>,
}

/// Sends a call and gives the answer to pass on, its account settled or about to be when the answer ends.
///
/// # Errors
/// When the provider gave no answer, or broke off inside one that had not gone on yet. The account is settled.
pub(super) async fn forward(
    provider: &Provider,
    request: Request<Payload>,
    mut account: Account,
    manner: Manner,
) -> Result<Response<AnswerBody>, ApiError> {
    let answer = match send(provider, request, manner.times).await {
        Ok(answer) => answer,
        Err(failure) => {
            let error = failure.told_of(provider.upstream().name());
            account.settle_failed(failure.served(), &error).await;
            return Err(error);
        }
    };
    let (mut head, body) = answer.into_parts();
    let passing = Passing::new(body, AnswerClock::new(manner.times, account.sent()));
    account.answered(head.status.as_u16());
    let body = match fate(head.status) {
        Fate::Served => served(&mut head.headers, passing, account, manner).await?,
        Fate::Ended(served) => {
            account.settle(served).await;
            AnswerBody::passing(passing)
        }
    };
    Ok(Response::from_parts(head, body))
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    /// The call did not get through.
    #[error(transparent)]
    Send(#[from] SendError),
    /// The answer's head or, for an answer read whole, its end did not come in time.
    #[error(transparent)]
    Overdue(#[from] Overdue),
    /// The provider broke off inside an answer that is read whole.
    #[error("the upstream broke off inside its answer: {0}")]
    BrokenOff(AnswerError),
}

impl Failure {
    fn inside(error: AnswerError) -> Self {
        match error.downcast::<Overdue>() {
            Ok(overdue) => Self::Overdue(*overdue),
            Err(error) => Self::BrokenOff(error),
        }
    }

    /// What the caller is told.
    pub(super) fn told_of(&self, upstream: &str) -> ApiError {
        let name = upstream.to_owned();
        match self {
            Self::Send(SendError::Broken(error)) => match PayloadError::behind(error) {
                Some(PayloadError::TooLarge(bound)) => ApiError::TooLarge(*bound),
                _ => ApiError::BrokenOff(name),
            },
            Self::Send(SendError::Connect(_)) => ApiError::Unreachable(name),
            Self::Send(SendError::ConnectTimeout(_)) | Self::Overdue(_) => ApiError::TimedOut(name),
            Self::BrokenOff(_) => ApiError::BrokenOff(name),
        }
    }

    /// What it means for the account. A provider that fell silent may have been at work all along.
    fn served(&self) -> Served {
        match self {
            Self::Send(_) => Served::Not,
            Self::Overdue(_) | Self::BrokenOff(_) => Served::Unknown,
        }
    }
}

/// Sends `request` and waits for the head of its answer.
pub(super) async fn send(
    provider: &Provider,
    request: Request<Payload>,
    times: AnswerTimes,
) -> Result<Response<LinkBody>, Failure> {
    match timeout(times.head, provider.send(request)).await {
        Ok(sent) => Ok(sent?),
        Err(_) => Err(Overdue::Head(times.head).into()),
    }
}

/// What an answer's status means for its account.
enum Fate {
    /// The call was served; its use is in the answer.
    Served,
    /// It was not, and the account can be settled at once.
    Ended(Served),
}

fn fate(status: StatusCode) -> Fate {
    match status {
        StatusCode::TOO_MANY_REQUESTS => Fate::Ended(Served::Not),
        status if status.is_server_error() => Fate::Ended(Served::Not),
        status if status.is_success() => Fate::Served,
        _ => Fate::Ended(Served::Refused),
    }
}

/// The body of an answer that was served, read in the form it comes in.
async fn served(
    headers: &mut HeaderMap,
    passing: Passing,
    account: Account,
    manner: Manner,
) -> Result<AnswerBody, ApiError> {
    if manner.pass_on == PassOn::WithoutUsage {
        headers.remove(CONTENT_LENGTH); // the usage chunk will be missing
    }
    let reader = reader(headers, &account, manner.pass_on);
    let readable_whole = passing.size_hint().lower() <= READ_WHOLE as u64;
    match reader {
        Reader::Text { endpoint, .. } if readable_whole => {
            whole(passing, account, endpoint, manner).await
        }
        reader => Ok(metered(passing, reader, account, manner)),
    }
}

fn metered(passing: Passing, reader: Reader, account: Account, manner: Manner) -> AnswerBody {
    let revocation = Revocation::new(manner.owner, account.pipeline());
    AnswerBody::metered(Metered::new(
        passing,
        reader,
        account,
        (manner.overrun, revocation),
    ))
}

fn reader(headers: &HeaderMap, account: &Account, pass_on: PassOn) -> Reader {
    let is = |name, wanted: &str| {
        headers
            .get(name)
            .and_then(|value| value.to_str().ok())
            .is_some_and(|value| {
                value
                    .get(..wanted.len())
                    .is_some_and(|start| start.eq_ignore_ascii_case(wanted))
            })
    };
    if headers.contains_key(CONTENT_ENCODING) && !is(CONTENT_ENCODING, "identity") {
        return Reader::Blind;
    }
    let form = match is(CONTENT_TYPE, "text/event-stream") {
        true => Form::Events,
        false => Form::Other,
    };
    // Gemini streams an array of JSON where no events are asked for.
    if form == Form::Events || account.endpoint() == Endpoint::StreamGenerateContent {
        let options = StreamOptions {
            drop_usage_chunk: pass_on == PassOn::WithoutUsage,
        };
        let stream = StreamReader::new(account.endpoint(), options).counting_as(account.model());
        return Reader::Stream {
            stream: Box::new(stream),
            form,
            pass_on,
        };
    }
    Reader::Text {
        endpoint: account.endpoint(),
        kept: Some(BytesMut::new()),
    }
}

/// Reads an answer whole, settles, and passes it on. One that turns out longer than thought passes as it comes.
async fn whole(
    mut passing: Passing,
    account: Account,
    endpoint: Endpoint,
    manner: Manner,
) -> Result<AnswerBody, ApiError> {
    match passing.gather(READ_WHOLE).await {
        Ok(Gathered::All(text)) => {
            Finding::Text(endpoint, text.clone()).settle(account).await;
            Ok(AnswerBody::whole(text))
        }
        Ok(Gathered::Beginning) => {
            let reader = Reader::Text {
                endpoint,
                kept: Some(BytesMut::new()),
            };
            Ok(metered(passing, reader, account, manner))
        }
        Err(error) => {
            let failure = Failure::inside(error);
            let error = failure.told_of(account.of().upstream.name());
            account.settle_failed(failure.served(), &error).await;
            Err(error)
        }
    }
}
