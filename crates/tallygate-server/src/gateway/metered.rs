//! An answer that passes as it comes, is read on the way and settled at its end.

use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::Frame;
use tallygate_store::BoxFuture;

use super::answer::AnswerError;
use super::clock::Overdue;
use super::farewell::{Cut, Farewell};
use super::growth::Growth;
use super::passing::Passing;
use super::reader::{Finished, Form, Reader};
use super::revocation::Revocation;
use crate::config::Overrun;
use crate::pipeline::Account;
use crate::wire::ApiError;

/// A provider's answer on its way to the caller.
pub(crate) struct Metered {
    body: Passing,
    reader: Reader,
    growth: Growth,
    revocation: Revocation,
    farewell: Farewell,
    state: State,
}

enum State {
    Passing(Box<Account>),
    /// All of the answer is here. Its last bytes go out once its account is settled: a caller that knows the length may
    /// not ask for more after them.
    Settling(BoxFuture<'static, ()>, Last),
    Over(Option<AnswerError>),
}

/// How an answer ends.
struct Last {
    data: Bytes,
    broken: Option<AnswerError>,
}

impl Metered {
    /// Reads `body` on its way, for `account`.
    pub(super) fn new(
        body: Passing,
        reader: Reader,
        account: Account,
        (overrun, revocation): (Overrun, Revocation),
    ) -> Self {
        Self {
            body,
            reader,
            growth: Growth::new(overrun, account.held_output()),
            revocation,
            farewell: Farewell::of(&account),
            state: State::Passing(Box::new(account)),
        }
    }

    /// The next frame; the last one, or the end, once the account is settled.
    pub(super) fn poll_frame(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, AnswerError>>> {
        loop {
            let data = match &mut self.state {
                State::Passing(_) => ready!(self.poll_passing(cx)),
                State::Settling(settling, last) => {
                    ready!(settling.as_mut().poll(cx));
                    let data = std::mem::take(&mut last.data);
                    self.state = State::Over(last.broken.take());
                    data
                }
                State::Over(broken) => return Poll::Ready(broken.take().map(Err)),
            };
            if !data.is_empty() {
                return Poll::Ready(Some(Ok(Frame::data(data))));
            }
        }
    }

    /// Whether nothing more will come.
    pub(super) fn is_end_stream(&self) -> bool {
        matches!(self.state, State::Over(None))
    }

    /// The next bytes for the caller; none when the state changed instead.
    fn poll_passing(&mut self, cx: &mut Context<'_>) -> Poll<Bytes> {
        if self.poll_growth(cx).is_some() {
            self.cut(Cut::Overrun);
            return Poll::Ready(Bytes::new());
        }
        match ready!(self.body.poll_frame(cx)) {
            // What has come is the provider's work, and is paid for; what passes on is for who is let in.
            Some(Ok(frame)) if self.revocation.cuts() => {
                drop(self.read(frame.into_data().unwrap_or_default()));
                self.cut(Cut::Revoked);
            }
            Some(Ok(frame)) => {
                let data = self.read(frame.into_data().unwrap_or_default());
                if !self.body.is_end_stream() {
                    return Poll::Ready(data);
                }
                self.end(data);
            }
            Some(Err(error)) => match error.downcast::<Overdue>() {
                Ok(overdue) => self.cut(Cut::Overdue(*overdue)),
                Err(error) => self.break_off(error),
            },
            None => self.end(Bytes::new()),
        }
        Poll::Ready(Bytes::new())
    }

    fn read(&mut self, data: Bytes) -> Bytes {
        if let (State::Passing(account), Form::Events) = (&mut self.state, self.reader.form()) {
            account.streamed();
        }
        self.reader.read(data)
    }

    fn poll_growth(&mut self, cx: &mut Context<'_>) -> Option<Cut> {
        match &mut self.state {
            State::Passing(account) => self.growth.poll(self.reader.passed(), account, cx),
            State::Settling(..) | State::Over(_) => None,
        }
    }

    /// The provider's answer is over: `data` and what was kept back are the last to go out.
    fn end(&mut self, data: Bytes) {
        let Some((account, finished)) = self.close() else {
            return;
        };
        let data = match finished.rest.is_empty() {
            true => data,
            false => [data, finished.rest].concat().into(),
        };
        let settling = Box::pin(finished.finding.settle(account));
        self.state = State::Settling(settling, Last { data, broken: None });
    }

    /// The provider broke off, and so does the answer.
    fn break_off(&mut self, broken: AnswerError) {
        let error = self.farewell.broken_off();
        self.end_early(&error, |finished| Last {
            data: finished.rest,
            broken: Some(broken),
        });
    }

    /// Ends the answer from here. A reader of events is told why in its dialect; any other sees the answer break off.
    fn cut(&mut self, cut: Cut) {
        let error = self.farewell.error(cut);
        let event = match self.reader.form() {
            Form::Events => Some(self.farewell.event(&error)),
            Form::Other => None,
        };
        self.end_early(&error, |finished| match event {
            // A blank line ends an event that was under way.
            Some(event) => Last {
                data: [&finished.rest[..], b"\n\n", &event].concat().into(),
                broken: None,
            },
            None => Last {
                data: finished.rest,
                broken: Some(cut.into()),
            },
        });
    }

    fn end_early(&mut self, error: &ApiError, last: impl FnOnce(Finished) -> Last) {
        let Some((account, mut finished)) = self.close() else {
            return;
        };
        let served = std::mem::take(&mut finished.finding).of_part();
        let settling = Box::pin(account.settle_failed(served, error));
        self.state = State::Settling(settling, last(finished));
    }

    /// Takes the account and what the reader has at the end; once.
    fn close(&mut self) -> Option<(Account, Finished)> {
        let State::Passing(mut account) = std::mem::replace(&mut self.state, State::Over(None))
        else {
            return None;
        };
        let mut finished = std::mem::replace(&mut self.reader, Reader::Blind).finish();
        account.named(finished.model.take());
        Some((*account, finished))
    }
}

impl Drop for Metered {
    fn drop(&mut self) {
        if let Some((account, finished)) = self.close() {
            account.abandon(finished.finding.of_part());
        }
    }
}
