//! What the admin API answers when it does not do what it was asked.

use axum::extract::rejection::BytesRejection;
use axum::response::{IntoResponse, Response};
use http::header::CONTENT_TYPE;
use http::{StatusCode, Uri};
use serde_json::{Map, Value, json};
use tallygate_core::text::printable_json;
use tallygate_store::registry::{ChangeError, Refusal, RegistryError};

use crate::decision::FieldError;
use crate::identify::Rejection;

/// A request that was not carried out: why, and what to do about it. It never repeats a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Refused {
    status: StatusCode,
    kind: &'static str,
    message: String,
    field: Option<String>,
    mend: Option<String>,
}

impl Refused {
    /// With this status, for the reason of this word, saying this.
    pub(crate) fn new(status: StatusCode, kind: &'static str, message: impl Into<String>) -> Self {
        Self {
            status,
            kind,
            message: message.into(),
            field: None,
            mend: None,
        }
    }

    /// What was sent is not what is taken here.
    pub(crate) fn invalid(message: impl Into<String>, field: Option<&str>) -> Self {
        Self {
            field: field.map(str::to_owned),
            ..Self::new(StatusCode::BAD_REQUEST, "invalid", message)
        }
    }

    /// The same, saying what to do.
    pub(crate) fn mend(mut self, mend: impl Into<String>) -> Self {
        self.mend = Some(mend.into());
        self
    }

    /// The word for metrics and logs.
    pub(crate) fn kind(&self) -> &'static str {
        self.kind
    }

    /// A defect of this server.
    pub(super) fn internal() -> Self {
        Self::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            "internal",
            "an internal error",
        )
    }

    /// A key without the role.
    pub(super) fn role() -> Self {
        let message = "the api key does not have the role `admin`";
        Self::new(StatusCode::FORBIDDEN, "forbidden", message)
            .mend("show a key with the role `admin`")
    }

    /// A listener that other machines reach, and no key to tell them apart by.
    pub(super) fn closed() -> Self {
        let message = "the admin listener is open to other machines and there is no key";
        Self::new(StatusCode::FORBIDDEN, "forbidden", message).mend(
            "add a key with the role `admin` to the configuration, or let `admin` be on 127.0.0.1",
        )
    }

    /// A request that is addressed to another name.
    pub(super) fn host() -> Self {
        let message = "the header `host` does not name this machine, and there is no key to go by";
        Self::new(StatusCode::FORBIDDEN, "forbidden", message)
            .mend("ask for 127.0.0.1 or localhost, or create a key with the role `admin`")
    }

    /// A request from another site's page.
    pub(super) fn origin() -> Self {
        let message = "the request comes from another site's page, and there is no key to go by";
        Self::new(StatusCode::FORBIDDEN, "forbidden", message)
            .mend("create a key with the role `admin`, and show it")
    }

    fn body(&self) -> Value {
        let mut told = Map::new();
        told.insert("type".to_owned(), self.kind.into());
        told.insert("message".to_owned(), self.message.as_str().into());
        for (name, text) in [("field", &self.field), ("mend", &self.mend)] {
            if let Some(text) = text {
                told.insert(name.to_owned(), text.as_str().into());
            }
        }
        json!({ "error": told })
    }
}

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        let body = printable_json(&self.body().to_string()).into_owned();
        (self.status, [(CONTENT_TYPE, "application/json")], body).into_response()
    }
}

impl From<Rejection> for Refused {
    fn from(rejection: Rejection) -> Self {
        Self::new(StatusCode::UNAUTHORIZED, "rejected", rejection.to_string()).mend(SHOW_KEY)
    }
}

impl From<RegistryError> for Refused {
    fn from(error: RegistryError) -> Self {
        Self::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "registry_down",
            error.to_string(),
        )
    }
}

impl From<ChangeError> for Refused {
    fn from(error: ChangeError) -> Self {
        match error {
            ChangeError::Refused(refusal) => refusal.into(),
            ChangeError::Registry(error) => error.into(),
            _ => Self::internal(),
        }
    }
}

impl From<Refusal> for Refused {
    fn from(refusal: Refusal) -> Self {
        let message = refusal.to_string();
        let conflict =
            |kind, mend: &str| Self::new(StatusCode::CONFLICT, kind, &*message).mend(mend);
        match refusal {
            Refusal::Taken(_) => conflict("taken", "choose another id; ids are not used again"),
            Refusal::SameKey(_) => conflict("taken", "make a new key"),
            Refusal::Ended { .. } => conflict("ended", "create another key"),
            Refusal::Full(..) => conflict("full", "revoke what is not needed any more"),
            Refusal::NoKey(_) | Refusal::NoOverride(_) => {
                Self::new(StatusCode::NOT_FOUND, "unknown", message)
            }
            Refusal::First(_) => conflict(
                "no_admin",
                "from then on nobody is let in without a key: create one with the role `admin` and without an end first",
            ),
            Refusal::LastAdmin(_) => conflict(
                "no_admin",
                "create another one without an end first, or rotate this one",
            ),
            Refusal::NoAdmin(_) | Refusal::Closed => {
                Self::new(StatusCode::UNAUTHORIZED, "rejected", message).mend(SHOW_KEY)
            }
            Refusal::Reserved(_) => Self::invalid(message, Some("id")).mend("choose another id"),
            _ => Self::invalid(message, None),
        }
    }
}

impl From<FieldError> for Refused {
    fn from(error: FieldError) -> Self {
        Self::invalid(error.to_string(), error.path())
    }
}

/// A body that is too large, or did not come whole.
impl From<BytesRejection> for Refused {
    fn from(rejection: BytesRejection) -> Self {
        Self::new(rejection.status(), "invalid", rejection.body_text())
    }
}

const SHOW_KEY: &str = "show a key with the role `admin`: `Authorization: Bearer …`, or TALLYGATE_ADMIN_KEY on the command line";

/// What is answered to a path that nothing is served at.
pub(super) async fn no_path(uri: Uri) -> Refused {
    let message = format!("nothing is served at {}", uri.path());
    Refused::new(StatusCode::NOT_FOUND, "no_path", message).mend("see /openapi.json for what is")
}
