//! A small load client: sends calls, measures them, and reads answers for itself.
//!
//! It shares no code with the readers of the gateway, so that tests can hold one against the other.

mod answer;
mod call;

use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, header};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper_util::client::legacy::Client as Pool;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;

pub use answer::{Answer, Event, Told, events};
pub use call::ApiCall;

/// Largest answer the client takes, in bytes; what is beyond is dropped and the reply marked broken.
pub const MAX_ANSWER: usize = 256 << 20;

/// Talks to one server, keeping its connections. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Client {
    pool: Pool<HttpConnector, Full<Bytes>>,
    base: String,
    headers: HeaderMap,
}

/// Why there is no reply.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ClientError {
    /// The address, a header or the path is not valid.
    #[error("malformed request: {0}")]
    Malformed(#[from] http::Error),
    /// No connection, or it closed before the head of an answer.
    #[error("no answer: {0}")]
    NoAnswer(#[from] hyper_util::client::legacy::Error),
}

impl Client {
    /// A client of the server at `base`, as in `http://127.0.0.1:8787`.
    pub fn new(base: impl Into<String>) -> Self {
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        let pool = Pool::builder(TokioExecutor::new()).build(connector);
        let base = base.into().trim_end_matches('/').to_owned();
        Self {
            pool,
            base,
            headers: HeaderMap::new(),
        }
    }

    /// Sends `key` with every call, where each dialect wants it.
    #[must_use]
    pub fn with_key(self, key: &str) -> Self {
        self.with_header("authorization", &format!("Bearer {key}"))
            .with_header("x-api-key", key)
            .with_header("x-goog-api-key", key)
    }

    /// Sends this header with every call. A name or value that HTTP does not allow is left out.
    #[must_use]
    pub fn with_header(mut self, name: &str, value: &str) -> Self {
        if let (Ok(name), Ok(value)) = (HeaderName::try_from(name), HeaderValue::try_from(value)) {
            self.headers.insert(name, value);
        }
        self
    }

    /// Sends a call and reads the whole answer.
    ///
    /// # Errors
    /// [`ClientError`]; an answer that breaks off after its head is a [`Reply`] marked broken.
    pub async fn call(&self, call: &ApiCall) -> Result<Reply, ClientError> {
        self.open(call).await?.read().await
    }

    /// Sends a call and returns as soon as the head of the answer is there.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn open(&self, call: &ApiCall) -> Result<Opened, ClientError> {
        let mut request = self.request(Method::POST, &call.path(), Bytes::from(call.body()))?;
        request.headers_mut().insert(
            header::CONTENT_TYPE,
            HeaderValue::from_static("application/json"),
        );
        for (name, value) in call.headers() {
            request.headers_mut().insert(name, value);
        }
        self.send(request).await
    }

    /// Gets a page.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn get(&self, path: &str) -> Result<Reply, ClientError> {
        let request = self.request(Method::GET, path, Bytes::new())?;
        self.send(request).await?.read().await
    }

    /// A request to this server with the client's headers, for [`Client::send`].
    ///
    /// # Errors
    /// [`ClientError::Malformed`].
    pub fn request(
        &self,
        method: Method,
        path: &str,
        body: Bytes,
    ) -> Result<Request<Full<Bytes>>, ClientError> {
        let uri = format!("{}{path}", self.base);
        let mut request = Request::builder()
            .method(method)
            .uri(uri)
            .body(Full::new(body))?;
        request.headers_mut().extend(self.headers.clone());
        Ok(request)
    }

    /// Sends a request as it is.
    ///
    /// # Errors
    /// [`ClientError::NoAnswer`].
    pub async fn send(&self, request: Request<Full<Bytes>>) -> Result<Opened, ClientError> {
        let started = Instant::now();
        let (parts, body) = self.pool.request(request).await?.into_parts();
        let (status, headers) = (parts.status.as_u16(), parts.headers);
        Ok(Opened {
            status,
            headers,
            body,
            started,
            head: started.elapsed(),
            first_byte: None,
        })
    }
}

/// An answer whose body is still to come. Dropped, the connection closes.
#[derive(Debug)]
pub struct Opened {
    /// Its status.
    pub status: u16,
    /// Its headers.
    pub headers: HeaderMap,
    body: Incoming,
    started: Instant,
    head: Duration,
    first_byte: Option<Duration>,
}

/// The body broke off.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the answer broke off")]
pub struct BrokenOff;

impl Opened {
    /// The next bytes of the body; `None` at its end.
    ///
    /// # Errors
    /// [`BrokenOff`].
    pub async fn chunk(&mut self) -> Result<Option<Bytes>, BrokenOff> {
        loop {
            match self.body.frame().await {
                None => return Ok(None),
                Some(Err(_)) => return Err(BrokenOff),
                Some(Ok(frame)) => {
                    let Ok(data) = frame.into_data() else {
                        continue;
                    };
                    self.first_byte
                        .get_or_insert_with(|| self.started.elapsed());
                    return Ok(Some(data));
                }
            }
        }
    }

    /// The whole reply.
    ///
    /// # Errors
    /// None at present: a body that breaks off is a reply marked broken.
    pub async fn read(mut self) -> Result<Reply, ClientError> {
        let mut body = BytesMut::new();
        let broken = loop {
            match self.chunk().await {
                Ok(Some(data)) if body.len() + data.len() <= MAX_ANSWER => {
                    body.extend_from_slice(&data)
                }
                Ok(None) => break false,
                _ => break true,
            }
        };
        let total = self.started.elapsed();
        Ok(Reply {
            status: self.status,
            headers: self.headers,
            body: body.freeze(),
            broken,
            head: self.head,
            first_byte: self.first_byte.unwrap_or(total),
            total,
        })
    }
}

/// An answer with its body.
#[derive(Debug, Clone)]
pub struct Reply {
    /// Its status.
    pub status: u16,
    /// Its headers.
    pub headers: HeaderMap,
    /// Its body, as much as came.
    pub body: Bytes,
    /// The body broke off.
    pub broken: bool,
    /// From sending to the head.
    pub head: Duration,
    /// From sending to the first byte of the body.
    pub first_byte: Duration,
    /// From sending to the end.
    pub total: Duration,
}

impl Reply {
    /// A header as text.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// The body as JSON; null if it is not.
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }

    /// What the answer says, streamed or not.
    pub fn answer(&self) -> Answer {
        let streamed = self
            .header("content-type")
            .is_some_and(|kind| kind.starts_with("text/event-stream"));
        if streamed {
            Answer::of_events(&events(&self.body))
        } else {
            Answer::of_body(&self.json())
        }
    }

    /// When the server asks to be called again: `retry-after-ms`, else `retry-after`.
    pub fn retry_after(&self) -> Option<Duration> {
        let number = |name| self.header(name)?.parse::<u64>().ok();
        let millis = number("retry-after-ms").map(Duration::from_millis);
        millis.or_else(|| number("retry-after").map(Duration::from_secs))
    }
}
