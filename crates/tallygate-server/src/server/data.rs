//! What the data listener answers.

use std::net::SocketAddr;
use std::sync::Arc;

use http::{Request, Response};
use hyper::body::Incoming;

use super::connections::Service;
use crate::decision;
use crate::gateway::{self, AnswerBody, Destination};
use crate::observe::Door;
use crate::pipeline::{Pipeline, Refusal};
use crate::wire::{self, ApiError, Ask, Voice};

/// The gateway and the decision API behind one listener.
pub(super) struct DataService {
    pipeline: Arc<Pipeline>,
}

impl DataService {
    /// Answers by `pipeline`.
    pub(super) fn new(pipeline: Arc<Pipeline>) -> Self {
        Self { pipeline }
    }

    fn refuse(&self, voice: Voice, refusal: &mut Refusal) -> Response<AnswerBody> {
        let door = match voice {
            Voice::Dialect(_) => Door::Gateway,
            Voice::Decision => Door::Decision,
        };
        self.pipeline.observer().refused(door, &refusal.error);
        refusal.record(self.pipeline.recorder());
        let ask = Ask {
            voice,
            model: &refusal.model,
            demand: &refusal.demand,
            request_id: &self.pipeline.request_id(),
            now: self.pipeline.store().now(),
        };
        let mut answer = wire::error(&refusal.error, &ask).map(AnswerBody::whole);
        if let Some((served, asked)) = &refusal.served_by {
            gateway::tell_model(answer.headers_mut(), served, asked);
        }
        answer
    }
}

impl Service for DataService {
    type Body = AnswerBody;

    async fn answer(
        self: &Arc<Self>,
        request: Request<Incoming>,
        _: SocketAddr,
    ) -> Response<AnswerBody> {
        let destination = gateway::destination(&request);
        let voice = destination.voice();
        let answered = match destination {
            Destination::Sized(asked) => gateway::call(&self.pipeline, asked, request).await,
            Destination::Passing(dialect, yields) => {
                gateway::pass(&self.pipeline, (dialect, yields), request).await
            }
            Destination::Decision => decision::answer(&self.pipeline, request).await,
            Destination::Unknown(_, meant) => Err(nothing_at(request.uri().path(), meant).into()),
        };
        answered.unwrap_or_else(|mut refusal| self.refuse(voice, &mut refusal))
    }
}

fn nothing_at(path: &str, meant: Option<&'static str>) -> ApiError {
    let path = path.to_owned();
    match meant {
        None => ApiError::NoPath(path),
        Some(meant) => ApiError::Misspelt { path, meant },
    }
}
