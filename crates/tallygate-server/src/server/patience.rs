//! How long a connection may be silent, how long a head may take to come, and how long a client may leave an answer.
//!
//! hyper has one time for both: it runs from the end of an answer to the end of the next head. A connection that is kept
//! open between calls would have to come within the few seconds that a slow head is granted. So the transport here notes
//! when a head begins to come, and the timer looks at that.
//!
//! Nor does hyper have a time for a client that takes nothing of what is written to it. Such a client would hold its
//! connection, and the provider's, for ever: nobody asks an answer whose bytes cannot go on how long it has been taking.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use hyper::rt::{Sleep, Timer};
use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::config::Bounds;

/// How long a connection is kept open between two calls, and how long it may take to begin with the first. Longer than
/// clients keep theirs, so that they do not send into a connection that is being closed.
pub(super) const IDLE_TIME: Duration = Duration::from_secs(75);

/// One connection's times. As hyper's timer it is asked to ring [`IDLE_TIME`] after an answer; once a head has begun it
/// rings when that takes too long.
#[derive(Clone)]
pub(super) struct Patience {
    head_time: Duration,
    /// How long a client may take nothing of what is written to it.
    taking_time: Duration,
    watch: Arc<Mutex<Watch>>,
}

#[derive(Default)]
struct Watch {
    /// When the head that is awaited began to come.
    begun: Option<Instant>,
    /// One for all heads of the connection: moved when it rings, or when it would ring too late.
    alarm: Option<Pin<Box<tokio::time::Sleep>>>,
}

impl Patience {
    /// For a new connection.
    pub(super) fn new(bounds: &Bounds) -> Self {
        Self {
            head_time: bounds.header_time,
            taking_time: bounds.idle_time,
            watch: Arc::default(),
        }
    }

    /// Watches what comes over `transport`.
    pub(super) fn watching<T>(&self, transport: T) -> Watched<T> {
        Watched {
            transport,
            watch: Arc::clone(&self.watch),
            taking_time: self.taking_time,
            untaken: None,
        }
    }
}

impl Timer for Patience {
    fn sleep(&self, duration: Duration) -> Pin<Box<dyn Sleep>> {
        self.sleep_until(Instant::now() + duration)
    }

    /// A head is awaited from now on.
    fn sleep_until(&self, deadline: Instant) -> Pin<Box<dyn Sleep>> {
        self.watch.lock().begun = None;
        Box::pin(HeadDue {
            idle_end: deadline,
            patience: self.clone(),
        })
    }
}

/// Ready when the awaited head is late.
struct HeadDue {
    idle_end: Instant,
    patience: Patience,
}

impl Sleep for HeadDue {}

impl Future for HeadDue {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let mut watch = self.patience.watch.lock();
        let begun = watch.begun.map(|begun| begun + self.patience.head_time);
        let due = begun.unwrap_or(self.idle_end);
        let new = || Box::pin(tokio::time::sleep_until(due.into()));
        let alarm = watch.alarm.get_or_insert_with(new);
        if alarm.deadline() > due.into() {
            alarm.as_mut().reset(due.into());
        }
        loop {
            ready!(alarm.as_mut().poll(cx));
            if Instant::now() >= due {
                return Poll::Ready(());
            }
            alarm.as_mut().reset(due.into());
        }
    }
}

/// A transport that notes when something comes, and gives up when nothing goes.
pub(super) struct Watched<T> {
    transport: T,
    watch: Arc<Mutex<Watch>>,
    taking_time: Duration,
    /// Rings when the client has taken nothing for too long. There is one while something waits to go.
    untaken: Option<Pin<Box<tokio::time::Sleep>>>,
}

impl<T> Watched<T> {
    /// What a write came to, unless the client lets it wait for too long.
    fn taken(
        &mut self,
        written: Poll<io::Result<usize>>,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<usize>> {
        if written.is_ready() {
            self.untaken = None;
            return written;
        }
        let time = self.taking_time;
        let untaken = self
            .untaken
            .get_or_insert_with(|| Box::pin(tokio::time::sleep(time)));
        ready!(untaken.as_mut().poll(cx));
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Watched<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.transport).poll_read(cx, buffer);
        if buffer.filled().len() > before {
            self.watch.lock().begun.get_or_insert_with(Instant::now);
        }
        read
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Watched<T> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.transport).poll_write(cx, bytes);
        self.taken(written, cx)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.transport).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.transport).poll_shutdown(cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.transport.is_write_vectored()
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        pieces: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.transport).poll_write_vectored(cx, pieces);
        self.taken(written, cx)
    }
}
