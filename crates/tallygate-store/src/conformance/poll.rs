//! Driving futures without a runtime.
use crate::store::BoxFuture;
use std::future::{Future, poll_fn};
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::Thread;
use std::time::{Duration, Instant};

/// Runs every task to its end, each when it has woken.
pub(super) async fn by_turns(tasks: Vec<BoxFuture<'static, ()>>) {
    let mut tasks: Vec<_> = tasks.into_iter().map(Strict::new).collect();
    poll_fn(|context| {
        tasks.retain_mut(|task| Pin::new(task).poll(context).is_pending());
        match tasks.is_empty() {
            true => Poll::Ready(()),
            false => Poll::Pending,
        }
    })
    .await;
}

/// A future's output, or what it panicked with.
pub(super) async fn caught<T>(mut future: BoxFuture<'_, T>) -> Result<T, String> {
    poll_fn(|context| {
        let polled = AssertUnwindSafe(|| future.as_mut().poll(context));
        match std::panic::catch_unwind(polled) {
            Ok(polled) => polled.map(Ok),
            Err(panic) => Poll::Ready(Err(message(panic.as_ref()))),
        }
    })
    .await
}

fn message(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
    format!("panicked: {}", text.unwrap_or("without a message"))
}

/// Lets other tasks run.
pub(super) async fn give_way() {
    let mut given = false;
    poll_fn(|context| match std::mem::replace(&mut given, true) {
        true => Poll::Ready(()),
        false => {
            context.waker().wake_by_ref();
            Poll::Pending
        }
    })
    .await;
}

/// Polls a future once, now.
pub(super) async fn once<F: Future + Unpin>(future: &mut F) -> Poll<F::Output> {
    poll_fn(|context| Poll::Ready(Pin::new(&mut *future).poll(context))).await
}

/// Polls a future until `done`, for at most `patience`; answers its output if it ends before.
pub(super) async fn until<F: Future + Unpin>(
    future: &mut F,
    patience: Duration,
    done: impl Fn() -> bool,
) -> Option<F::Output> {
    let begun = Instant::now();
    poll_fn(|context| match Pin::new(&mut *future).poll(context) {
        Poll::Ready(output) => Poll::Ready(Some(output)),
        Poll::Pending if done() || begun.elapsed() > patience => Poll::Ready(None),
        Poll::Pending => {
            context.waker().wake_by_ref();
            Poll::Pending
        }
    })
    .await
}

/// A future's output if it comes within `patience`.
pub(super) async fn within<F: Future + Unpin>(
    future: &mut F,
    patience: Duration,
) -> Option<F::Output> {
    if let Poll::Ready(output) = once(future).await {
        return Some(output);
    }
    let watch = Watch::start(patience);
    poll_fn(|context| match watch.look(context) {
        Poll::Ready(()) => Poll::Ready(None),
        Poll::Pending => Pin::new(&mut *future).poll(context).map(Some),
    })
    .await
}

/// A future that is polled when it has woken its task, however often it is asked: who forgets to wake is
/// found out.
pub(super) struct Strict<F> {
    future: F,
    bell: Arc<Bell>,
}

struct Bell {
    rung: AtomicBool,
    task: Mutex<Option<Waker>>,
}

impl<F> Strict<F> {
    pub(super) fn new(future: F) -> Self {
        let bell = Bell {
            rung: AtomicBool::new(true),
            task: Mutex::default(),
        };
        Self {
            future,
            bell: Arc::new(bell),
        }
    }
}

impl<F: Future + Unpin> Future for Strict<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<F::Output> {
        let bell = self.bell.clone();
        *locked(&bell.task) = Some(context.waker().clone());
        match bell.rung.swap(false, Ordering::SeqCst) {
            true => {
                let waker = Waker::from(bell);
                Pin::new(&mut self.future).poll(&mut Context::from_waker(&waker))
            }
            false => Poll::Pending,
        }
    }
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.rung.store(true, Ordering::SeqCst);
        let task = locked(&self.task).take();
        task.into_iter().for_each(Waker::wake);
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Wakes a task when its time is up.
struct Watch {
    state: Arc<Mutex<State>>,
    thread: Thread,
}

#[derive(Default)]
struct State {
    waker: Option<Waker>,
    over: bool,
}

impl Watch {
    fn start(patience: Duration) -> Self {
        let state = Arc::new(Mutex::new(State::default()));
        let shared = Arc::downgrade(&state);
        let end = Instant::now() + patience;
        let watching = std::thread::spawn(move || {
            while let Some(left) = end.checked_duration_since(Instant::now()) {
                std::thread::park_timeout(left);
                if shared.strong_count() == 0 {
                    return;
                }
            }
            if let Some(state) = shared.upgrade() {
                let mut state = locked(&state);
                state.over = true;
                let waker = state.waker.take();
                drop(state);
                waker.into_iter().for_each(Waker::wake);
            }
        });
        Self {
            state,
            thread: watching.thread().clone(),
        }
    }

    /// Ready once its time is up.
    fn look(&self, context: &Context<'_>) -> Poll<()> {
        let mut state = locked(&self.state);
        if state.over {
            return Poll::Ready(());
        }
        state.waker = Some(context.waker().clone());
        Poll::Pending
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        // The last strong count goes first, so that the thread finds it gone.
        self.state = Arc::default();
        self.thread.unpark();
    }
}
