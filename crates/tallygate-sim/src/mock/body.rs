//! Bodies of answers, and how they break off.

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use tokio::time::Sleep;

use super::stream::Stream;

/// The body of an answer.
pub(crate) enum MockBody {
    /// Sent at once.
    Whole(Option<Bytes>),
    /// Announced as longer than what comes.
    Broken(Broken),
    /// Produced event by event.
    Stream(Box<Stream>),
}

/// The connection is to be closed; not an error of the mock's.
#[derive(Debug, Clone, Copy, thiserror::Error)]
#[error("connection cut by a switch of the mock")]
pub(crate) struct Cut;

/// The first part of a body whose rest never comes.
pub(crate) struct Broken {
    part: Option<Bytes>,
    announced: u64,
    breaking: Breaking,
}

/// Ends a body without its end: what was sent is flushed, then the connection closes.
pub(crate) enum Breaking {
    /// As soon as what was sent is flushed.
    Now(Flush),
    /// After the stall.
    Stalled(Pin<Box<Sleep>>),
}

/// Lets one round pass, in which the connection flushes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Flush {
    Due,
    Passed,
}

impl Broken {
    /// The first half of `body`, announced as the whole.
    pub(crate) fn half(body: Bytes, breaking: Breaking) -> Self {
        let (announced, half) = (body.len() as u64, body.len() / 2);
        Self {
            part: Some(body.slice(..half)),
            announced,
            breaking,
        }
    }
}

impl Breaking {
    /// Breaks off after a stall of this length.
    pub(crate) fn stalled(stall: Duration) -> Self {
        Self::Stalled(Box::pin(tokio::time::sleep(stall)))
    }

    /// Ready when the connection is to be closed.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Cut> {
        match self {
            Self::Now(Flush::Passed) => Poll::Ready(Cut),
            Self::Now(flush) => {
                *flush = Flush::Passed;
                cx.waker().wake_by_ref();
                Poll::Pending
            }
            Self::Stalled(sleep) => sleep.as_mut().poll(cx).map(|()| Cut),
        }
    }
}

impl Body for MockBody {
    type Data = Bytes;
    type Error = Cut;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Cut>>> {
        match &mut *self {
            Self::Whole(bytes) => Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
            Self::Broken(broken) => match broken.part.take() {
                Some(part) => Poll::Ready(Some(Ok(Frame::data(part)))),
                None => Poll::Ready(Some(Err(ready!(broken.breaking.poll(cx))))),
            },
            Self::Stream(stream) => stream
                .poll_next(cx)
                .map(|next| next.map(|bytes| bytes.map(Frame::data))),
        }
    }

    fn is_end_stream(&self) -> bool {
        matches!(self, Self::Whole(None))
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Whole(bytes) => {
                SizeHint::with_exact(bytes.as_ref().map_or(0, |bytes| bytes.len() as u64))
            }
            Self::Broken(broken) => SizeHint::with_exact(broken.announced),
            Self::Stream(_) => SizeHint::default(),
        }
    }
}
