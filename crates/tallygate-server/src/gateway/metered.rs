//! An answer that passes as it comes, is read on the way and settled at its end.

use std::task::{Context, Poll, ready};

use bytes::{Bytes, BytesMut};
use http_body::Frame;
use tallygate_store::BoxFuture;

use super::answer::AnswerError;
use super::clock::Overdue;
use super::farewell::{Cut, Farewell};
use super::growth::{Growth, Overrun};
use super::passing::Passing;
use super::reader::{Finding, Reader};
use crate::pipeline::Account;

/// A provider's answer on its way to the caller.
pub(crate) struct Metered {
    body: Passing,
    reader: Reader,
    growth: Growth,
    farewell: Farewell,
    state: State,
}

enum State {
    Passing(Box<Account>),
    /// The answer is out; it ends, or breaks off, once its account is settled.
    Settling(BoxFuture<'static, ()>, Option<AnswerError>),
    Over,
}

impl Metered {
    /// Reads `body` on its way, for `account`.
    pub(super) fn new(body: Passing, reader: Reader, account: Account, overrun: Overrun) -> Self {
        Self {
            body,
            reader,
            growth: Growth::new(overrun, account.held_output()),
            farewell: Farewell::of(&account),
            state: State::Passing(Box::new(account)),
        }
    }

    /// The next frame; `None` once the account is settled.
    pub(super) fn poll_frame(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, AnswerError>>> {
        loop {
            let data = match &mut self.state {
                State::Passing(_) => ready!(self.poll_passing(cx)),
                State::Settling(settling, broken) => {
                    ready!(settling.as_mut().poll(cx));
                    let broken = broken.take();
                    self.state = State::Over;
                    return Poll::Ready(broken.map(Err));
                }
                State::Over => return Poll::Ready(None),
            };
            if !data.is_empty() {
                return Poll::Ready(Some(Ok(Frame::data(data))));
            }
        }
    }

    /// Whether nothing more will come.
    pub(super) fn is_end_stream(&self) -> bool {
        matches!(self.state, State::Over)
    }

    /// The next bytes for the caller; none when the state changed instead.
    fn poll_passing(&mut self, cx: &mut Context<'_>) -> Poll<Bytes> {
        if self.poll_growth(cx).is_some() {
            return Poll::Ready(self.cut(Cut::Overrun));
        }
        Poll::Ready(match ready!(self.body.poll_frame(cx)) {
            Some(Ok(frame)) => frame
                .into_data()
                .map_or_else(|_| Bytes::new(), |data| self.reader.read(data)),
            Some(Err(error)) => match error.downcast::<Overdue>() {
                Ok(overdue) => self.cut(Cut::Overdue(*overdue)),
                Err(error) => self.end(Some(error)),
            },
            None => self.end(None),
        })
    }

    fn poll_growth(&mut self, cx: &mut Context<'_>) -> Option<Cut> {
        match &mut self.state {
            State::Passing(account) => self.growth.poll(self.reader.passed(), account, cx),
            State::Settling(..) | State::Over => None,
        }
    }

    /// The provider's answer is over: what was kept back goes out, and the account is settled.
    fn end(&mut self, broken: Option<AnswerError>) -> Bytes {
        let State::Passing(account) = std::mem::replace(&mut self.state, State::Over) else {
            return Bytes::new();
        };
        let reader = std::mem::replace(&mut self.reader, Reader::Blind);
        let (rest, finding) = match broken {
            None => reader.finish(),
            Some(_) => (Bytes::new(), Finding::Known(reader.so_far())),
        };
        self.state = State::Settling(Box::pin(finding.settle(*account)), broken);
        rest
    }

    /// Ends the answer from here. A reader of events is told why in its dialect; any other sees the answer break off.
    fn cut(&mut self, cut: Cut) -> Bytes {
        if !self.reader.reads_events() {
            return self.end(Some(cut.into()));
        }
        let mut last = BytesMut::from(self.end(None));
        last.extend_from_slice(b"\n\n"); // ends an event that was under way
        last.extend_from_slice(&self.farewell.event(cut));
        last.freeze()
    }
}

impl Drop for Metered {
    fn drop(&mut self) {
        if let State::Passing(account) = std::mem::replace(&mut self.state, State::Over) {
            account.abandon(self.reader.so_far());
        }
    }
}
