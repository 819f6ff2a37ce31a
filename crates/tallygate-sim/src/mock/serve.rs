//! One request: where it goes, and what every kind of it gets.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::{Request, Response, request};
use http_body::Body as _;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use serde_json::{Value, json};

use super::body::{Cut, MockBody};
use super::desk::Desk;
use super::order::{Order, api_key};
use super::refusal::Problem;
use super::route::{Route, dialect_of};
use super::shared::Shared;

/// How long a request's body may take to arrive.
const BODY_TIMEOUT: Duration = Duration::from_secs(60);
/// How much room is made for a body before it is there.
const FIRST_ROOM: usize = 1 << 20;

/// An answer, or the connection is to be closed.
pub(crate) type Answer = Result<Response<MockBody>, Cut>;

/// Answers one request.
pub(crate) async fn serve(shared: Arc<Shared>, request: Request<Incoming>) -> Answer {
    let request_id = format!("req_{:020x}", shared.number());
    let (parts, body) = request.into_parts();
    let path = parts.uri.path();
    let desk = Desk {
        dialect: dialect_of(path),
        request_id,
    };
    let body = match tokio::time::timeout(BODY_TIMEOUT, read(&shared, &parts, body)).await {
        Ok(Ok(body)) => body,
        Ok(Err(problem)) => return Ok(desk.stray(&shared, &problem)),
        Err(_) => return Ok(desk.stray(&shared, &Problem::BrokenBody)),
    };
    shared.keep(&parts, &body);
    match Route::of(&parts.method, path) {
        Route::Call(endpoint, path_model) => {
            let order = Order {
                shared: &shared,
                desk: &desk,
                parts: &parts,
                endpoint,
                path_model,
            };
            order.answer(&body).await
        }
        Route::Models => Ok(models(&shared, &desk, &parts, None)),
        Route::Model(id) => Ok(models(&shared, &desk, &parts, Some(id))),
        Route::Books => Ok(desk.page(books(&shared))),
        Route::Unknown => Ok(desk.stray(&shared, &Problem::UnknownPath)),
        Route::WrongMethod => Ok(desk.stray(&shared, &Problem::WrongMethod)),
    }
}

/// The body, if it arrives whole and within the bound.
async fn read(
    shared: &Shared,
    parts: &request::Parts,
    mut body: Incoming,
) -> Result<Bytes, Problem> {
    let most = shared.options.max_body;
    let announced = usize::try_from(body.size_hint().lower()).unwrap_or(usize::MAX);
    if announced > most {
        return Err(Problem::TooLarge);
    }
    if parts.method != http::Method::POST {
        return Ok(Bytes::new());
    }
    let mut whole = BytesMut::with_capacity(announced.min(FIRST_ROOM));
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|_| Problem::BrokenBody)?;
        let data = frame.into_data().unwrap_or_default();
        if whole.len() + data.len() > most {
            return Err(Problem::TooLarge);
        }
        whole.extend_from_slice(&data);
    }
    Ok(whole.freeze())
}

fn books(shared: &Shared) -> String {
    let books = shared.ledger.lock().books();
    serde_json::to_string(&books).unwrap_or_default()
}

/// The list of models, or one of them.
fn models(
    shared: &Shared,
    desk: &Desk,
    parts: &request::Parts,
    only: Option<&str>,
) -> Response<MockBody> {
    if !shared
        .options
        .keys
        .knows(api_key(&parts.headers).unwrap_or_default())
    {
        return desk.stray(shared, &Problem::UnknownKey);
    }
    let known = &shared.options.models;
    if only.is_some_and(|id| !known.iter().any(|model| model == id)) {
        return desk.stray(shared, &Problem::UnknownPath);
    }
    shared.ledger.lock().unlimited();
    let list = || known.iter().map(|id| model(id)).collect::<Vec<_>>();
    let page = only.map_or_else(|| json!({ "object": "list", "data": list() }), model);
    desk.page(page.to_string())
}

fn model(id: &str) -> Value {
    json!({ "id": id, "object": "model", "created": 1_700_000_000, "owned_by": "mock" })
}
