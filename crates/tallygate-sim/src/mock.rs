//! A strict fake provider of the OpenAI, Anthropic and Gemini dialects.
//!
//! It answers deterministic texts whose token counts are exactly what its usage says, enforces limits
//! of its own, keeps truthful books of what it admitted and refused, and misbehaves on demand
//! ([`Switches`]).
//!
//! | path | |
//! |---|---|
//! | `POST /v1/chat/completions`, `/v1/responses`, `/v1/completions` | OpenAI, streamed or not |
//! | `POST /v1/embeddings` | floats or base64, 64 dimensions unless asked |
//! | `POST /v1/messages`, `/v1/messages/count_tokens` | Anthropic, streamed or not |
//! | `POST /v1beta/models/{model}:generateContent`, `:streamGenerateContent` | Gemini |
//! | `GET /v1/models`, `/v1/models/{model}` | |
//! | `GET /mock/books` | its books as JSON, without a key |

mod asked;
mod body;
mod delivery;
mod desk;
mod gzip;
mod ledger;
mod options;
mod order;
mod plan;
mod quota_headers;
mod refusal;
mod responses;
mod route;
mod serve;
mod shared;
mod stream;
mod switches;
mod tab;
mod voice;

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::{JoinHandle, JoinSet};

pub use options::{Chance, Keys, MockOptions};
pub use responses::MAX_RESPONSES;
pub use shared::{MAX_TRIES, Received};
pub use switches::{
    Encoding, Failure, Fault, Lie, MAX_DELAY, MAX_ID, MAX_OUTPUT, MAX_PADDING, MAX_RETRY_AFTER,
    SwitchError, Switches, Tries,
};

use crate::books::{Books, Served};
use shared::Shared;

/// How long a connection may take to send the head of a request.
const HEAD_TIMEOUT: Duration = Duration::from_secs(30);

/// A running mock. Dropping it stops it too, without waiting.
pub struct Mock {
    addr: SocketAddr,
    shared: Arc<Shared>,
    accepting: JoinHandle<Infallible>,
}

impl Mock {
    /// Listens on `addr` (port 0: a free one) and serves on the current tokio runtime.
    ///
    /// # Errors
    /// The address cannot be bound.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub async fn start(addr: SocketAddr, options: MockOptions) -> io::Result<Self> {
        Self::listen(TcpListener::bind(addr).await?, options)
    }

    /// Serves on a listener that is bound already.
    ///
    /// # Errors
    /// The listener does not know its address.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub fn listen(listener: TcpListener, options: MockOptions) -> io::Result<Self> {
        let addr = listener.local_addr()?;
        let shared = Arc::new(Shared::new(options));
        let accepting = tokio::spawn(accept(listener, Arc::clone(&shared)));
        Ok(Self {
            addr,
            shared,
            accepting,
        })
    }

    /// Where it listens.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// A copy of its books now.
    pub fn books(&self) -> Books {
        self.shared.ledger.lock().books()
    }

    /// What each admitted call used so far, in their order, of as many as [`MockOptions::keep_calls`] says.
    pub fn calls(&self) -> Vec<Served> {
        self.shared.ledger.lock().calls().to_vec()
    }

    /// The latest requests, oldest first, as many as [`MockOptions::keep_received`] says.
    pub fn received(&self) -> Vec<Received> {
        self.shared.received()
    }

    /// Closes the listener and all connections.
    pub async fn stop(mut self) {
        self.accepting.abort();
        // Cancelled, as it was told to.
        let _ = (&mut self.accepting).await;
    }
}

impl Drop for Mock {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

/// Accepts until it is aborted; then its connections are, too.
async fn accept(listener: TcpListener, shared: Arc<Shared>) -> Infallible {
    let room = Arc::new(Semaphore::new(shared.options.max_connections));
    let mut connections = JoinSet::new();
    loop {
        while connections.try_join_next().is_some() {}
        let permit = Arc::clone(&room).acquire_owned().await;
        match (listener.accept().await, permit) {
            (Ok((socket, _)), Ok(permit)) => {
                connections.spawn(connect(socket, Arc::clone(&shared), permit));
            }
            // Out of file descriptors, or a peer that has left already.
            _ => tokio::time::sleep(Duration::from_millis(10)).await,
        }
    }
}

async fn connect(socket: TcpStream, shared: Arc<Shared>, _permit: OwnedSemaphorePermit) {
    // Without it small events wait for each other; a socket that refuses is as good as closed.
    let _ = socket.set_nodelay(true);
    let service = service_fn(move |request| serve::serve(Arc::clone(&shared), request));
    let mut server = http1::Builder::new();
    server
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT);
    // An error is a peer that has left or a connection cut by a switch.
    let _ = server.serve_connection(TokioIo::new(socket), service).await;
}
