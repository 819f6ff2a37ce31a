//! `GET /api/events`: what happens, as it does.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::response::sse::{Event as Message, KeepAlive, Sse};
use axum::routing::get;
use futures_util::stream::{Stream, unfold};
use serde_json::json;
use tokio::sync::broadcast::error::RecvError;

use super::{Admin, Administrator, Route};

/// How often a listener hears something though nothing happens.
const ALIVE: Duration = Duration::from_secs(15);

pub(super) fn routes() -> [Route; 1] {
    [("GET", "/api/events", get(listen))]
}

/// Server-sent events: each with its id, its type and its JSON; `missed` says how many a slow listener did not hear.
async fn listen(
    State(admin): State<Admin>,
    _: Administrator,
) -> Sse<impl Stream<Item = Result<Message, Infallible>>> {
    let events = Arc::clone(admin.server().pipeline().events());
    let heard = events.subscribe();
    let told = unfold((events, heard), |(events, mut heard)| async move {
        let next = tokio::select! {
            next = heard.recv() => next,
            () = events.ended() => return None,
        };
        let message = match next {
            Ok(event) => Message::default()
                .id(&event.id)
                .event(event.kind.name())
                .json_data(&*event),
            Err(RecvError::Lagged(missed)) => Message::default()
                .event("missed")
                .json_data(json!({ "missed": missed })),
            Err(RecvError::Closed) => return None,
        };
        Some((Ok(message.unwrap_or_default()), (events, heard)))
    });
    Sse::new(told).keep_alive(KeepAlive::new().interval(ALIVE))
}
