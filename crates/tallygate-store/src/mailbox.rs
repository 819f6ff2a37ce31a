//! The hand-over of one answer to one caller that may have left: exactly one side ends up with it.
use crate::sync::{Arc, Mutex};
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

/// The end that answers.
#[derive(Debug)]
pub(crate) struct Sender<T>(Arc<Mutex<State<T>>>);

/// The end that waits: a future of the answer.
#[derive(Debug)]
pub(crate) struct Receiver<T>(Arc<Mutex<State<T>>>);

#[derive(Debug)]
enum State<T> {
    Waiting(Option<Waker>),
    Answered(T),
    Over,
}

/// A pair of ends.
pub(crate) fn mailbox<T>() -> (Sender<T>, Receiver<T>) {
    let state = Arc::new(Mutex::new(State::Waiting(None)));
    (Sender(state.clone()), Receiver(state))
}

impl<T> Sender<T> {
    /// Answers; gives the answer back if the caller has left.
    pub(crate) fn send(self, answer: T) -> Option<T> {
        let mut state = self.0.lock();
        match std::mem::replace(&mut *state, State::Over) {
            State::Waiting(waker) => {
                *state = State::Answered(answer);
                drop(state);
                if let Some(waker) = waker {
                    waker.wake();
                }
                None
            }
            State::Answered(_) | State::Over => Some(answer),
        }
    }
}

impl<T> Receiver<T> {
    /// Leaves; what was answered and not yet taken is given out.
    pub(crate) fn leave(&self) -> Option<T> {
        match std::mem::replace(&mut *self.0.lock(), State::Over) {
            State::Answered(answer) => Some(answer),
            State::Waiting(_) | State::Over => None,
        }
    }
}

impl<T> Future for Receiver<T> {
    type Output = T;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<T> {
        let mut state = self.0.lock();
        match std::mem::replace(&mut *state, State::Over) {
            State::Answered(answer) => Poll::Ready(answer),
            State::Waiting(_) => {
                *state = State::Waiting(Some(context.waker().clone()));
                Poll::Pending
            }
            State::Over => Poll::Pending,
        }
    }
}

#[cfg(all(test, tallygate_loom))]
mod loom_tests {
    use super::*;
    use std::task::Waker;

    fn take(receiver: &mut Receiver<u8>) -> Option<u8> {
        let mut context = Context::from_waker(Waker::noop());
        match Pin::new(receiver).poll(&mut context) {
            Poll::Ready(answer) => Some(answer),
            Poll::Pending => None,
        }
    }

    /// Whatever the interleaving, the answer is taken, reclaimed by the leaver or given back to the sender: once.
    #[test]
    fn loom_an_answer_ends_up_on_exactly_one_side() {
        loom::model(|| {
            let (sender, mut receiver) = mailbox();
            let answering = loom::thread::spawn(move || sender.send(7));
            let taken = take(&mut receiver);
            let reclaimed = receiver.leave();
            let returned = answering.join().expect("the sender's thread ends");
            let places = [taken, reclaimed, returned];
            assert_eq!(places.iter().flatten().count(), 1, "{places:?}");
        });
    }

    /// An answer after the caller began to wait wakes it.
    #[test]
    fn loom_a_waiting_caller_is_woken() {
        loom::model(|| {
            let (sender, receiver) = mailbox();
            let answering = loom::thread::spawn(move || sender.send(7));
            let answer = loom::future::block_on(receiver);
            assert_eq!(answer, 7);
            assert_eq!(answering.join().expect("the sender's thread ends"), None);
        });
    }
}
