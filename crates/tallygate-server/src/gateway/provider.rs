//! The way to a provider account: where its paths are, and the connections to it.

use std::sync::Arc;
use std::time::Duration;

use http::header::HeaderValue;
use http::uri::PathAndQuery;
use http::{Request, Response, Uri};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::connect::HttpConnector;
use tallygate_tokens::Dialect;
use tokio::time::timeout;
use tower::Service;

use super::link::{Link, LinkBody, LinkError};
use super::payload::Payload;
use super::pool::Pool;
use crate::config::Upstream;

/// The way to one upstream: its address and the connections to it. Cheap to share.
pub(crate) struct Provider {
    upstream: Arc<Upstream>,
    base: Base,
    connector: HttpsConnector<HttpConnector>,
    connect_time: Duration,
    pool: Arc<Pool>,
}

/// How an upstream's paths begin.
struct Base {
    host: HeaderValue,
    /// The path of the base address, without a slash at its end.
    prefix: String,
    /// The beginning of a caller's path that `prefix` stands for.
    replaced: &'static str,
}

/// Why an upstream gave no answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SendError {
    /// No connection came about: the call was not sent.
    #[error("connecting to the upstream: {0}")]
    Connect(Box<dyn std::error::Error + Send + Sync>),
    /// No connection came about in time: the call was not sent.
    #[error("connecting to the upstream took longer than {0:?}")]
    ConnectTimeout(Duration),
    /// The connection broke after the call was sent; whether it was served is unknown.
    #[error("the upstream broke off: {0}")]
    Broken(hyper::Error),
}

impl Provider {
    /// The way to `upstream`, without connections yet.
    pub(crate) fn new(upstream: Arc<Upstream>, connect_time: Duration) -> Self {
        Self {
            base: Base::new(&upstream),
            upstream,
            connector: connector(),
            connect_time,
            pool: Pool::new(),
        }
    }

    /// The account it leads to.
    pub(crate) fn upstream(&self) -> &Arc<Upstream> {
        &self.upstream
    }

    /// Whether it is the way to `upstream`, spoken to as it is now.
    pub(crate) fn leads_to(&self, upstream: &Upstream, connect_time: Duration) -> bool {
        let same = |a: &Upstream, b: &Upstream| {
            (a.dialect(), a.base(), a.credential()) == (b.dialect(), b.base(), b.credential())
        };
        connect_time == self.connect_time && same(&self.upstream, upstream)
    }

    /// The `host` header of a request to it.
    pub(super) fn host(&self) -> HeaderValue {
        self.base.host.clone()
    }

    /// The address that a caller's `uri` has at this upstream, in origin form.
    pub(crate) fn locate(&self, uri: &Uri) -> Uri {
        let asked = uri.path_and_query().map_or("/", PathAndQuery::as_str);
        if uri.authority().is_none() && self.base.is_transparent() {
            return uri.clone();
        }
        let rest = asked.strip_prefix(self.base.replaced).unwrap_or(asked);
        // Both halves were parsed as paths before, so that joined they are one.
        Uri::try_from(format!("{}{rest}", self.base.prefix)).unwrap_or_else(|_| uri.clone())
    }

    /// Sends `request` over a kept connection or a new one and waits for the head of the answer.
    ///
    /// # Errors
    /// [`SendError`], which says whether the provider may have seen the call.
    ///
    /// # Cancel safety
    /// Dropping the future closes the connection it uses.
    pub(super) async fn send(
        &self,
        mut request: Request<Payload>,
    ) -> Result<Response<LinkBody>, SendError> {
        while let Some(link) = self.pool.take().await {
            match link.exchange(request, &self.pool).await {
                Ok(response) => return Ok(response),
                Err(LinkError::Unsent(unsent)) => request = *unsent,
                Err(LinkError::Broken(error)) => return Err(SendError::Broken(error)),
            }
        }
        match self.connect().await?.exchange(request, &self.pool).await {
            Ok(response) => Ok(response),
            Err(LinkError::Broken(error)) => Err(SendError::Broken(error)),
            Err(LinkError::Unsent(_)) => {
                Err(SendError::Connect("the connection closed at once".into()))
            }
        }
    }

    async fn connect(&self) -> Result<Box<Link>, SendError> {
        let connecting = async {
            let transport = self
                .connector
                .clone()
                .call(self.upstream.base().clone())
                .await
                .map_err(SendError::Connect)?;
            Link::open(transport)
                .await
                .map_err(|e| SendError::Connect(e.into()))
        };
        match timeout(self.connect_time, connecting).await {
            Ok(link) => Ok(Box::new(link?)),
            Err(_) => Err(SendError::ConnectTimeout(self.connect_time)),
        }
    }
}

impl Base {
    fn new(upstream: &Upstream) -> Self {
        let authority = upstream
            .base()
            .authority()
            .map_or("", |authority| authority.as_str());
        let prefix = upstream.base().path().trim_end_matches('/').to_owned();
        Self {
            // The authority of a parsed address has no character that a header refuses.
            host: HeaderValue::from_str(authority).unwrap_or(HeaderValue::from_static("")),
            replaced: replaced_by(&prefix, upstream.dialect()),
            prefix,
        }
    }

    /// Whether a caller's path is the provider's path.
    fn is_transparent(&self) -> bool {
        self.prefix == self.replaced
    }
}

/// What of a caller's path a base address stands for. OpenAI's SDKs take a base address that ends in the version;
/// the others' take one without it, though with it is a common mistake that is met halfway.
fn replaced_by(prefix: &str, dialect: Dialect) -> &'static str {
    match dialect {
        Dialect::OpenAi if !prefix.is_empty() => "/v1",
        Dialect::Anthropic if prefix.ends_with("/v1") => "/v1",
        Dialect::Gemini if prefix.ends_with("/v1beta") => "/v1beta",
        Dialect::OpenAi | Dialect::Anthropic | Dialect::Gemini => "",
    }
}

/// Connections over TCP, with TLS where the address asks for it.
pub(crate) fn connector() -> HttpsConnector<HttpConnector> {
    let mut tcp = HttpConnector::new();
    tcp.enforce_http(false);
    tcp.set_nodelay(true);
    HttpsConnectorBuilder::new()
        .with_provider_and_webpki_roots(rustls::crypto::ring::default_provider())
        .expect("invariant: ring offers the protocol versions that rustls is built with")
        .https_or_http()
        .enable_http1()
        .wrap_connector(tcp)
}

#[cfg(test)]
#[path = "provider_tests.rs"]
mod tests;
