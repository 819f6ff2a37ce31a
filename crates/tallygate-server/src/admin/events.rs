//! `GET /api/events`: what happens, as it does.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::response::sse::{Event as Message, KeepAlive, Sse};
use axum::routing::get;
use futures_util::stream::{Stream, unfold};
use http::StatusCode;
use serde_json::json;
use tokio::sync::OwnedSemaphorePermit;
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;
use tokio::time::{Interval, interval};

use super::{Admin, Administrator, Refused, Route};
use crate::events::{Event, Events};

/// How often a listener hears something though nothing happens.
const ALIVE: Duration = Duration::from_secs(15);

/// How often it is looked whether a listener's key is good still, though nothing happens.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Those who listen at once; the next is refused.
pub const MAX_LISTENERS: usize = 64;

pub(super) fn routes() -> [Route; 1] {
    [("GET", "/api/events", get(listen))]
}

/// Server-sent events: each with its id, its type and its JSON; `missed` says how many a slow listener did not hear. It ends
/// with the listener's key.
async fn listen(
    State(admin): State<Admin>,
    who: Administrator,
) -> Result<Sse<impl Stream<Item = Result<Message, Infallible>>>, Refused> {
    let place = Arc::clone(&admin.listeners).try_acquire_owned();
    let place = place.map_err(|_| full())?;
    let events = Arc::clone(admin.server().pipeline().events());
    let listener = Listener {
        heard: events.subscribe(),
        events,
        looked: interval(LOOK_EVERY),
        who,
        admin,
        _place: place,
    };
    let told = unfold(listener, |mut listener| async move {
        let message = listener.next().await?;
        Some((Ok(message), listener))
    });
    Ok(Sse::new(told).keep_alive(KeepAlive::new().interval(ALIVE)))
}

/// Somebody who hears events as long as it may.
struct Listener {
    heard: Receiver<Arc<Event>>,
    events: Arc<Events>,
    /// When it is looked whether the key is good still, though nothing happens.
    looked: Interval,
    who: Administrator,
    admin: Admin,
    _place: OwnedSemaphorePermit,
}

impl Listener {
    /// The next message; `None` when there is no more to hear, or not for this one.
    async fn next(&mut self) -> Option<Message> {
        loop {
            let next = tokio::select! {
                next = self.heard.recv() => Some(next),
                _ = self.looked.tick() => None,
                () = self.events.ended() => return None,
            };
            if !self.who.is_still_one(&self.admin) {
                return None;
            }
            if let Some(next) = next {
                return message(next);
            }
        }
    }
}

fn message(next: Result<Arc<Event>, RecvError>) -> Option<Message> {
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
    Some(message.unwrap_or_default())
}

fn full() -> Refused {
    let message =
        format!("{MAX_LISTENERS} clients listen to events already, which is the most there may be");
    Refused::new(StatusCode::SERVICE_UNAVAILABLE, "full", message)
        .mend("close another listener, or send events to a webhook")
}
