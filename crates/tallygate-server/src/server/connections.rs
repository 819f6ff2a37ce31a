//! The clients' connections: accepting, bounding and draining them.

use std::convert::Infallible;
use std::error::Error;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body::Body;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::JoinSet;

use super::patience::{IDLE_TIME, Patience, Watched};
use crate::config::Bounds;

/// A pause after an accept that failed for want of resources: the next would fail too.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// What answers the requests of all connections.
pub(crate) trait Service: Send + Sync + 'static {
    /// The bodies of its answers.
    type Body: Body<Data = Bytes, Error: Into<Box<dyn Error + Send + Sync>>> + Send + 'static;

    /// Answers one request that came from `peer`.
    fn answer(
        self: &Arc<Self>,
        request: Request<Incoming>,
        peer: SocketAddr,
    ) -> impl Future<Output = Response<Self::Body>> + Send;
}

/// Serves `listener` until `stop` is done, then lets open answers finish for at most `bounds.drain_time`. Answers that
/// are still running then are cut, and their holds settle at what passed.
pub(crate) async fn serve<S: Service>(
    listener: TcpListener,
    service: Arc<S>,
    bounds: Bounds,
    stop: impl Future<Output = ()>,
) {
    let (draining, watching) = watch::channel(());
    let mut connections = JoinSet::new();
    let slots = Arc::new(Semaphore::new(bounds.max_connections));
    let protocol = protocol(&bounds);
    let mut stop = pin!(stop);
    loop {
        let stream = tokio::select! {
            () = &mut stop => break,
            stream = accept(&listener, &slots) => stream,
        };
        while connections.try_join_next().is_some() {}
        let Some(Client { stream, peer, slot }) = stream else {
            continue;
        };
        let patience = Patience::new(&bounds);
        let mut protocol = protocol.clone();
        protocol.timer(patience.clone());
        let transport = transport(stream, &patience);
        let asked = (Arc::clone(&service), peer);
        let connection = connection(transport, protocol, asked, watching.clone());
        connections.spawn(async move {
            connection.await;
            drop(slot);
        });
    }
    drop(listener);
    let _ = draining.send(());
    drain(connections, bounds.drain_time).await;
}

/// Somebody who is connected.
struct Client {
    stream: TcpStream,
    peer: SocketAddr,
    slot: OwnedSemaphorePermit,
}

/// The next client, once there is a slot for it. `None` when accepting failed.
async fn accept(listener: &TcpListener, slots: &Arc<Semaphore>) -> Option<Client> {
    let slot = Arc::clone(slots).acquire_owned().await.ok()?;
    match listener.accept().await {
        Ok((stream, peer)) => Some(Client { stream, peer, slot }),
        Err(error) => {
            refused(&error).await;
            None
        }
    }
}

/// A client that left before it was accepted is its own affair; anything else is a want of descriptors or memory.
async fn refused(error: &io::Error) {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    if !matches!(
        error.kind(),
        ConnectionAborted | ConnectionRefused | ConnectionReset
    ) {
        tracing::error!(%error, "failed to accept a connection");
        tokio::time::sleep(ACCEPT_PAUSE).await;
    }
}

fn protocol(bounds: &Bounds) -> http1::Builder {
    let mut protocol = http1::Builder::new();
    protocol
        .header_read_timeout(IDLE_TIME)
        .max_header_size(bounds.max_headers);
    protocol
}

type Transport = TokioIo<Watched<TcpStream>>;

fn transport(stream: TcpStream, patience: &Patience) -> Transport {
    let _ = stream.set_nodelay(true); // fails only on a socket that is gone already
    TokioIo::new(patience.watching(stream))
}

/// Serves one client until it leaves, or until its answer under way is out after `draining` was told.
async fn connection<S: Service>(
    transport: Transport,
    protocol: http1::Builder,
    (service, peer): (Arc<S>, SocketAddr),
    mut draining: watch::Receiver<()>,
) {
    let respond = service_fn(move |request| {
        let service = Arc::clone(&service);
        async move { Ok::<_, Infallible>(service.answer(request, peer).await) }
    });
    let mut served = pin!(protocol.serve_connection(transport, respond));
    tokio::select! {
        biased;
        ended = served.as_mut() => return log_end(ended),
        _ = draining.changed() => served.as_mut().graceful_shutdown(),
    }
    log_end(served.await);
}

fn log_end(ended: hyper::Result<()>) {
    if let Err(error) = ended {
        tracing::debug!(%error, "a client's connection broke");
    }
}

async fn drain(mut connections: JoinSet<()>, patience: Duration) {
    let all = async { while connections.join_next().await.is_some() {} };
    if tokio::time::timeout(patience, all).await.is_err() {
        tracing::warn!(
            open = connections.len(),
            "cutting the answers that outlast the drain"
        );
    }
    connections.shutdown().await;
}
