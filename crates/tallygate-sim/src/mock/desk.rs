//! How answers to one request look: their dialect, their id, their errors.

use http::{HeaderMap, HeaderName, HeaderValue, Response, header};
use tallygate_tokens::Dialect;

use super::body::MockBody;
use super::refusal::Problem;
use super::shared::Shared;

/// What all answers to one request have in common.
pub(crate) struct Desk {
    pub(crate) dialect: Dialect,
    pub(crate) request_id: String,
}

impl Desk {
    /// A page of JSON.
    pub(crate) fn page(&self, body: String) -> Response<MockBody> {
        self.signed(MockBody::Whole(Some(body.into())))
    }

    /// An answer with the headers that every answer has.
    pub(crate) fn signed(&self, body: MockBody) -> Response<MockBody> {
        let mut response = Response::new(body);
        self.sign(response.headers_mut());
        response
    }

    /// The answer to a problem.
    pub(crate) fn problem(&self, problem: &Problem) -> Response<MockBody> {
        let mut response = self.page(problem.body(self.dialect, &self.request_id));
        *response.status_mut() = problem.status();
        problem.headers(self.dialect, response.headers_mut());
        response
    }

    /// The answer to a problem of a call that belongs to no account.
    pub(crate) fn stray(&self, shared: &Shared, problem: &Problem) -> Response<MockBody> {
        shared.ledger.lock().stray();
        self.problem(problem)
    }

    fn sign(&self, headers: &mut HeaderMap) {
        let name = match self.dialect {
            Dialect::Anthropic => "request-id",
            Dialect::OpenAi | Dialect::Gemini => "x-request-id",
        };
        let json = HeaderValue::from_static("application/json");
        headers.insert(header::CONTENT_TYPE, json);
        if let Ok(id) = HeaderValue::try_from(&self.request_id) {
            headers.insert(HeaderName::from_static(name), id);
        }
    }
}
