//! An answer that passes unread, within its times.

use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Bytes, BytesMut};
use http_body::{Body, Frame, SizeHint};

use super::answer::AnswerError;
use super::clock::AnswerClock;
use super::farewell::Cut;
use super::link::LinkBody;
use super::revocation::Revocation;

/// A provider's body on its way to the caller.
pub(crate) struct Passing {
    /// Read already, and still to go on.
    begun: Bytes,
    body: LinkBody,
    clock: AnswerClock,
    /// What ends it early, where nothing that reads it does.
    revocation: Option<Revocation>,
}

/// A body that was to be read whole.
pub(super) enum Gathered {
    /// All of it.
    All(Bytes),
    /// It is longer; what was read goes on first.
    Beginning,
}

impl Passing {
    /// Lets `body` pass under the bounds of `clock`.
    pub(super) fn new(body: LinkBody, clock: AnswerClock) -> Self {
        Self {
            begun: Bytes::new(),
            body,
            clock,
            revocation: None,
        }
    }

    /// Lets it pass until the key that it was asked for with is taken away.
    pub(super) fn until(mut self, revocation: Revocation) -> Self {
        self.revocation = Some(revocation);
        self
    }

    /// The next frame; an error when the provider breaks off, or a [`Cut`].
    pub(super) fn poll_frame(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, AnswerError>>> {
        if !self.begun.is_empty() {
            return Poll::Ready(Some(Ok(Frame::data(std::mem::take(&mut self.begun)))));
        }
        if let Poll::Ready(frame) = Pin::new(&mut self.body).poll_frame(cx) {
            self.clock.heard();
            let is_cut = |revocation: &mut Revocation| revocation.cuts();
            return Poll::Ready(match frame {
                Some(Ok(_)) if self.revocation.as_mut().is_some_and(is_cut) => {
                    Some(Err(Cut::Revoked.into()))
                }
                frame => frame.map(|frame| frame.map_err(AnswerError::from)),
            });
        }
        let overdue = ready!(self.clock.poll_overdue(cx));
        Poll::Ready(Some(Err(overdue.into())))
    }

    /// Reads the body whole if it has at most `most` bytes. One piece is not copied.
    ///
    /// # Errors
    /// As [`Self::poll_frame`].
    pub(super) async fn gather(&mut self, most: usize) -> Result<Gathered, AnswerError> {
        let mut first = Bytes::new();
        let mut more = BytesMut::new();
        while let Some(data) = self.next().await? {
            match (first.is_empty(), more.is_empty()) {
                (true, _) => first = data,
                (false, true) => {
                    more.reserve(first.len() + data.len());
                    more.extend_from_slice(&first);
                    more.extend_from_slice(&data);
                }
                (false, false) => more.extend_from_slice(&data),
            }
            if more.len() > most {
                self.begun = more.freeze();
                return Ok(Gathered::Beginning);
            }
        }
        Ok(Gathered::All(if more.is_empty() {
            first
        } else {
            more.freeze()
        }))
    }

    /// The next piece of data; `None` at the end. Trailers are left out.
    async fn next(&mut self) -> Result<Option<Bytes>, AnswerError> {
        while !self.is_end_stream() {
            match poll_fn(|cx| self.poll_frame(cx))
                .await
                .transpose()?
                .map(Frame::into_data)
            {
                Some(Ok(data)) => return Ok(Some(data)),
                Some(Err(_trailers)) => {}
                None => break,
            }
        }
        Ok(None)
    }

    pub(super) fn is_end_stream(&self) -> bool {
        self.begun.is_empty() && self.body.is_end_stream()
    }

    pub(super) fn size_hint(&self) -> SizeHint {
        match self.begun.is_empty() {
            true => self.body.size_hint(),
            false => SizeHint::default(),
        }
    }
}
