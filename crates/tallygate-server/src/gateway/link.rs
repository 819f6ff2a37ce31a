//! One connection to a provider, driven by the request that holds it.
//!
//! A link has no task of its own: whoever holds it polls it. A call therefore costs no hand-over between tasks, and
//! an answer dropped half-read drops its connection, which tells the provider to stop.

use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::{Request, Response};
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use hyper::client::conn::http1::{self, SendRequest};
use hyper_rustls::MaybeHttpsStream;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::time::Instant;

use super::payload::Payload;
use super::pool::Pool;

/// The transport under a link: plain or TLS.
pub(super) type Transport = MaybeHttpsStream<TokioIo<TcpStream>>;

type Driver = http1::Connection<Transport, Payload>;

/// A connection that is open and idle, or carries the one call of its holder.
pub(super) struct Link {
    sender: SendRequest<Payload>,
    /// `None` once the connection has ended.
    driver: Option<Driver>,
    idle_since: Instant,
}

/// Why a link gave no answer.
#[derive(Debug)]
pub(super) enum LinkError {
    /// The connection closed before it took the call: it may be sent on another.
    Unsent(Box<Request<Payload>>),
    /// The connection broke after the call was sent; what the provider did with it is unknown.
    Broken(hyper::Error),
}

impl Link {
    /// Speaks HTTP/1 over a fresh `transport`.
    pub(super) async fn open(transport: Transport) -> Result<Self, hyper::Error> {
        let (sender, driver) = http1::Builder::new().handshake(transport).await?;
        Ok(Self {
            sender,
            driver: Some(driver),
            idle_since: Instant::now(),
        })
    }

    /// Since when nobody has used it.
    pub(super) fn idle_since(&self) -> Instant {
        self.idle_since
    }

    /// Whether it still takes a call; looks at the socket once, waits for nothing.
    pub(super) fn is_open(&mut self, cx: &mut Context<'_>) -> bool {
        self.drive(cx);
        self.driver.is_some() && self.sender.is_ready()
    }

    /// Sends `request` and waits for the head of its answer. The answer's body goes on driving the link and gives it
    /// back to `pool` at its end.
    ///
    /// # Cancel safety
    /// Dropping the future closes the connection.
    pub(super) async fn exchange(
        mut self: Box<Self>,
        request: Request<Payload>,
        pool: &Arc<Pool>,
    ) -> Result<Response<LinkBody>, LinkError> {
        let mut head = pin!(self.sender.try_send_request(request));
        let driver = &mut self.driver;
        let answer = std::future::poll_fn(|cx| {
            poll_driver(driver, cx);
            head.as_mut().poll(cx)
        })
        .await;
        match answer {
            Ok(response) => Ok(response.map(|body| LinkBody {
                body,
                link: Some(self),
                pool: Arc::clone(pool),
            })),
            Err(mut refused) => Err(match refused.take_message() {
                Some(request) => LinkError::Unsent(Box::new(request)),
                None => LinkError::Broken(refused.into_error()),
            }),
        }
    }

    fn drive(&mut self, cx: &mut Context<'_>) {
        poll_driver(&mut self.driver, cx);
    }

    /// After an answer's last byte: whether another call may follow.
    fn rest(&mut self, cx: &mut Context<'_>) -> bool {
        self.is_open(cx) && {
            self.idle_since = Instant::now();
            true
        }
    }
}

fn poll_driver(driver: &mut Option<Driver>, cx: &mut Context<'_>) {
    if let Some(running) = driver
        && Pin::new(running).poll(cx).is_ready()
    {
        *driver = None; // how it ended is told by the answer it was carrying
    }
}

/// The body of an answer, with the link it comes over.
pub(super) struct LinkBody {
    body: Incoming,
    link: Option<Box<Link>>,
    pool: Arc<Pool>,
}

impl LinkBody {
    fn poll_body(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        if let Poll::Ready(frame) = Pin::new(&mut self.body).poll_frame(cx) {
            return Poll::Ready(frame);
        }
        let Some(link) = &mut self.link else {
            return Poll::Pending;
        };
        link.drive(cx);
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn give_back(&mut self, cx: &mut Context<'_>) {
        if let Some(mut link) = self.link.take()
            && link.rest(cx)
        {
            self.pool.put(link);
        }
    }
}

impl Body for LinkBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let frame = ready!(self.poll_body(cx));
        match &frame {
            Some(Err(_)) => self.link = None,
            // A reader that knows the length may not ask again after the last frame.
            Some(Ok(_)) if self.body.is_end_stream() => self.give_back(cx),
            None => self.give_back(cx),
            Some(Ok(_)) => {}
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
