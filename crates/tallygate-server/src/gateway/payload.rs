//! What is sent to a provider.

use std::error::Error;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;

use crate::wire::ApiError;

/// The body of a forwarded request.
#[derive(Debug)]
pub(super) enum Payload {
    /// Read and sized before it is sent.
    Whole(Bytes),
    /// Handed on as it arrives.
    Passing {
        /// Where it comes from.
        body: Incoming,
        /// How many bytes of it came.
        came: usize,
        /// How many may.
        bound: usize,
    },
}

/// Why a passing body stopped.
#[derive(Debug, thiserror::Error)]
pub(super) enum PayloadError {
    /// The caller broke off.
    #[error("reading the request body")]
    Read(#[from] hyper::Error),
    /// The caller sent more than so many bytes.
    #[error("the request body is larger than {0} bytes")]
    TooLarge(usize),
}

impl PayloadError {
    /// The payload's fault in a failed exchange, if it was that.
    pub(super) fn behind(error: &hyper::Error) -> Option<&Self> {
        error.source()?.downcast_ref()
    }
}

impl Payload {
    /// Hands `body` on, at most `bound` bytes of it.
    ///
    /// # Errors
    /// When it tells that it is longer.
    pub(super) fn passing(body: Incoming, bound: usize) -> Result<Self, ApiError> {
        match body.size_hint().lower() > bound as u64 {
            true => Err(ApiError::TooLarge(bound)),
            false => Ok(Self::Passing {
                body,
                came: 0,
                bound,
            }),
        }
    }
}

impl Body for Payload {
    type Data = Bytes;
    type Error = PayloadError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, PayloadError>>> {
        match &mut *self {
            Self::Whole(bytes) if bytes.is_empty() => Poll::Ready(None),
            Self::Whole(bytes) => Poll::Ready(Some(Ok(Frame::data(std::mem::take(bytes))))),
            Self::Passing { body, came, bound } => {
                let frame = ready!(Pin::new(body).poll_frame(cx)).transpose()?;
                *came += frame
                    .as_ref()
                    .and_then(Frame::data_ref)
                    .map_or(0, Bytes::len);
                match *came > *bound {
                    true => Poll::Ready(Some(Err(PayloadError::TooLarge(*bound)))),
                    false => Poll::Ready(frame.map(Ok)),
                }
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Whole(bytes) => bytes.is_empty(),
            Self::Passing { body, .. } => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Whole(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Self::Passing { body, .. } => body.size_hint(),
        }
    }
}
