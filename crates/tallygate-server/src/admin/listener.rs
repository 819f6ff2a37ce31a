//! The admin listener itself: how much of everything it takes, for how long.
//!
//! It is served as the data listener is, with the same times. A body is read before anybody looks at what is asked: it is small.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::ConnectInfo;
use axum::response::IntoResponse;
use http::{Request, Response, StatusCode};
use hyper::body::Incoming;
use tokio::net::TcpListener;
use tower::ServiceExt;

use super::{Admin, Refused, access, router};
use crate::config::Bounds;
use crate::gateway::{IntakeBounds, IntakeError, collect};
use crate::server::{ServerHandle, connections};

/// The largest body of a request, in bytes.
pub const MAX_BODY: usize = 64 << 10;

/// Clients connected at once; more wait in the listener's backlog.
pub const MAX_CONNECTIONS: usize = 256;

/// How long the last answers may take once the listener is to stop.
const STOP: Duration = Duration::from_secs(1);

/// Serves `listener` until `stopped` is done.
///
/// # Errors
/// When the listener has no address.
pub(crate) async fn serve(
    listener: TcpListener,
    server: ServerHandle,
    stopped: impl Future<Output = ()>,
) -> io::Result<()> {
    let of_data = *server.pipeline().setup().config().bounds();
    let bounds = Bounds {
        max_body: MAX_BODY,
        max_connections: MAX_CONNECTIONS,
        drain_time: STOP,
        ..of_data
    };
    let admin = Admin::new(server, listener.local_addr()?);
    access::tell_if_closed(&admin);
    let service = Arc::new(AdminService {
        router: router(admin),
        intake: IntakeBounds::of(&bounds),
    });
    connections::serve(listener, service, bounds, stopped).await;
    Ok(())
}

/// Everything that the admin listener answers.
struct AdminService {
    router: Router,
    intake: IntakeBounds,
}

impl connections::Service for AdminService {
    type Body = Body;

    async fn answer(
        self: &Arc<Self>,
        request: Request<Incoming>,
        peer: SocketAddr,
    ) -> Response<Body> {
        let (mut head, body) = request.into_parts();
        let body = match collect(body, self.intake).await {
            Ok(body) => Body::from(body),
            Err(error) => return Refused::from(error).into_response(),
        };
        head.extensions.insert(ConnectInfo(peer));
        let answered = self.router.clone().oneshot(Request::from_parts(head, body));
        match answered.await {
            Ok(answer) => answer,
            Err(never) => match never {},
        }
    }
}

impl From<IntakeError> for Refused {
    fn from(error: IntakeError) -> Self {
        let status = match &error {
            IntakeError::TooLarge(_) => StatusCode::PAYLOAD_TOO_LARGE,
            IntakeError::TooSlow(_) => StatusCode::REQUEST_TIMEOUT,
            IntakeError::Broken(_) => StatusCode::BAD_REQUEST,
        };
        Self::new(status, "invalid", error.to_string())
    }
}
