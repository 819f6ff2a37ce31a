//! An end on its way, which comes though nobody waits for it any more.
use crate::capacity::Held;
use crate::failure::Failure;
use crate::hold::{self, End, Hold};
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use tallygate_core::Receipt;
use tallygate_store::{SettleError, Store};

/// What holds capacity, and hears of its end.
pub(crate) trait Holder: Send + Sync + 'static {
    fn hold(&self) -> &Hold;

    /// Lets go of what was held beside the capacity, unless the end is still to come.
    fn release(&self) {}
}

impl Holder for Hold {
    fn hold(&self) -> &Hold {
        self
    }
}

impl Holder for Held {
    fn hold(&self) -> &Hold {
        &self.hold
    }

    fn release(&self) {
        Self::release(self);
    }
}

/// Ends a hold, by the right of [`Hold::claim`]. Dropped once it was polled, it ends it all the same.
///
/// # Errors
/// What the store says; it may be tried again if that could not be reached. None: the end is kept, and delivered later.
pub(crate) async fn of<H: Holder>(
    holder: Arc<H>,
    store: Arc<dyn Store>,
    end: End,
) -> Result<Option<Receipt>, Failure> {
    let id = holder.hold().id();
    let asked = async move { hold::asked(&*store, id, end).await };
    let mut ending = Ending {
        asked: Some(Box::pin(asked)),
        holder,
    };
    let answer = poll_fn(|cx| ending.poll(cx)).await;
    noted(&*ending.holder, answer)
}

fn noted<H: Holder>(
    holder: &H,
    answer: Result<Receipt, SettleError>,
) -> Result<Option<Receipt>, Failure> {
    let noted = holder.hold().note(answer);
    holder.release();
    noted
}

type Asked = Pin<Box<dyn Future<Output = Result<Receipt, SettleError>> + Send>>;

struct Ending<H: Holder> {
    holder: Arc<H>,
    /// None: the store has answered.
    asked: Option<Asked>,
}

impl<H: Holder> Ending<H> {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<Receipt, SettleError>> {
        let Some(asked) = &mut self.asked else {
            return Poll::Pending;
        };
        let answer = asked.as_mut().poll(cx);
        if answer.is_ready() {
            self.asked = None;
        }
        answer
    }
}

impl<H: Holder> Drop for Ending<H> {
    fn drop(&mut self) {
        let Some(asked) = self.asked.take() else {
            return;
        };
        let holder = self.holder.clone();
        let Some(runtime) = self.holder.hold().core().runtime() else {
            // In a store of this process the first step did it; what was waited for is the disk.
            holder.hold().has_ended();
            return holder.release();
        };
        runtime.spawn(async move {
            // Nobody waits for it: whoever asks again hears the same.
            let _ = noted(&*holder, asked.await);
        });
    }
}
