//! The bodies of answers.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};

use super::metered::Metered;
use super::passing::Passing;

/// Why an answer's body broke off.
pub(crate) type AnswerError = Box<dyn std::error::Error + Send + Sync>;

/// The body of an answer to a caller.
pub(crate) struct AnswerBody {
    source: Source,
    /// The body breaks off by this, once what came before it is on its way.
    broken: Option<AnswerError>,
}

enum Source {
    Whole(Bytes),
    Passing(Passing),
    Metered(Box<Metered>),
}

impl AnswerBody {
    /// A body that is all here.
    pub(crate) fn whole(bytes: Bytes) -> Self {
        Self::from(Source::Whole(bytes))
    }

    /// A body that passes unread.
    pub(super) fn passing(passing: Passing) -> Self {
        Self::from(Source::Passing(passing))
    }

    /// A body that passes, and is read on the way.
    pub(super) fn metered(metered: Metered) -> Self {
        Self::from(Source::Metered(Box::new(metered)))
    }
}

impl From<Source> for AnswerBody {
    fn from(source: Source) -> Self {
        Self {
            source,
            broken: None,
        }
    }
}

impl Source {
    fn poll_frame(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, AnswerError>>> {
        match self {
            Self::Whole(bytes) if bytes.is_empty() => Poll::Ready(None),
            Self::Whole(bytes) => Poll::Ready(Some(Ok(Frame::data(std::mem::take(bytes))))),
            Self::Passing(passing) => passing.poll_frame(cx),
            Self::Metered(metered) => metered.poll_frame(cx),
        }
    }
}

impl Body for AnswerBody {
    type Data = Bytes;
    type Error = AnswerError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, AnswerError>>> {
        if let Some(broken) = self.broken.take() {
            return Poll::Ready(Some(Err(broken)));
        }
        match ready!(self.source.poll_frame(cx)) {
            Some(Err(broken)) => {
                // The connection writes what it has only when it is told to wait; on an error it would drop it.
                self.broken = Some(broken);
                cx.waker().wake_by_ref();
                Poll::Pending
            }
            frame => Poll::Ready(frame),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.broken.is_none()
            && match &self.source {
                Source::Whole(bytes) => bytes.is_empty(),
                Source::Passing(passing) => passing.is_end_stream(),
                Source::Metered(metered) => metered.is_end_stream(),
            }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.source {
            Source::Whole(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Source::Passing(passing) => passing.size_hint(),
            Source::Metered(_) => SizeHint::default(),
        }
    }
}
