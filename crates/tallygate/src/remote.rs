//! The admin API of a running server, as commands ask it.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use bytes::Bytes;
use clap::Args;
use http::header::{AUTHORIZATION, CONTENT_TYPE};
use http::{HeaderValue, Method, Request, StatusCode, Uri};
use http_body_util::{BodyExt, Full, Limited};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use serde_json::Value;
use tokio::time::timeout;

use crate::exit::{Exit, Failure};
use crate::settings::Settings;

/// The variable that holds the key. There is no option for it: command lines end up in histories and lists of processes.
pub(crate) const KEY_VARIABLE: &str = "TALLYGATE_ADMIN_KEY";

/// Where a server listens whose configuration does not say.
const USUAL: &str = "http://127.0.0.1:8788";

/// The longest that an answer may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// The largest answer that is read, in bytes.
const MAX_ANSWER: usize = 256 << 20;

/// Which server is asked.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct Whom {
    /// The admin listener of a running server; that of --config, or http://127.0.0.1:8788, unless given. Its key, where keys are
    /// configured, is in TALLYGATE_ADMIN_KEY
    #[arg(long, value_name = "URL")]
    pub(crate) admin: Option<String>,

    /// The configuration of the server whose admin listener is asked
    #[arg(short, long, value_name = "FILE", conflicts_with = "admin")]
    pub(crate) config: Option<PathBuf>,
}

impl Whom {
    /// The way there. Nothing is asked yet.
    pub(crate) fn open(&self) -> Result<Remote, Failure> {
        let base = match (&self.admin, &self.config) {
            (Some(url), _) => url.clone(),
            (None, Some(file)) => configured(file)?,
            (None, None) => USUAL.to_owned(),
        };
        let key = std::env::var(KEY_VARIABLE).ok();
        Remote::new(&base, key.filter(|key| !key.is_empty()))
    }
}

fn configured(file: &std::path::Path) -> Result<String, Failure> {
    let config = Settings::read(file)?.config()?;
    match config.admin() {
        Some(addr) => Ok(format!("http://{}", reachable(addr))),
        None => Err(Failure::new(
            Exit::Config,
            format!("{} has no admin listener", file.display()),
        )
        .mend("write `admin: 127.0.0.1:8788`, and start the server anew")),
    }
}

/// Who listens everywhere listens here.
fn reachable(addr: SocketAddr) -> SocketAddr {
    let ip = match addr.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, addr.port())
}

/// The admin API of one server.
pub(crate) struct Remote {
    client: Client<HttpsConnector<HttpConnector>, Full<Bytes>>,
    base: String,
    key: Option<HeaderValue>,
}

impl Remote {
    fn new(base: &str, key: Option<String>) -> Result<Self, Failure> {
        let base = base.trim_end_matches('/').to_owned();
        let parsed = base.parse::<Uri>().ok();
        let scheme = parsed.as_ref().and_then(Uri::scheme_str);
        if !matches!(scheme, Some("http" | "https")) {
            return Err(
                Failure::new(Exit::Usage, format!("{base} is no address of a server"))
                    .mend("write it as http://127.0.0.1:8788"),
            );
        }
        let key = match key {
            Some(key) => Some(credential(&key)?),
            None => None,
        };
        let connector = HttpsConnectorBuilder::new()
            .with_provider_and_webpki_roots(rustls::crypto::ring::default_provider())
            .map_err(|error| Failure::new(Exit::Failed, format!("TLS cannot be used: {error}")))?
            .https_or_http()
            .enable_http1()
            .build();
        let client = Client::builder(TokioExecutor::new()).build(connector);
        Ok(Self { client, base, key })
    }

    /// What is at `path`, with its query.
    pub(crate) async fn get(&self, path: &str) -> Result<Value, Failure> {
        self.ask(Method::GET, path, None).await
    }

    /// What comes of a request.
    pub(crate) async fn ask(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> Result<Value, Failure> {
        let bytes = self.exchange(method, path, body).await?;
        serde_json::from_slice(&bytes).map_err(|_| self.strange())
    }

    async fn exchange(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> Result<Bytes, Failure> {
        let request = self.request(method, path, body)?;
        let whole = async {
            let answer = self.client.request(request).await;
            let (head, body) = answer
                .map_err(|error| self.unreachable(&reason(&error)))?
                .into_parts();
            let read = Limited::new(body, MAX_ANSWER).collect().await;
            let read = read.map_err(|error| self.unreachable(&error.to_string()))?;
            Ok((head.status, read.to_bytes()))
        };
        let (status, bytes) = match timeout(PATIENCE, whole).await {
            Ok(answer) => answer?,
            Err(_) => return Err(self.unreachable(&format!("no answer within {PATIENCE:?}"))),
        };
        match status.is_success() {
            true => Ok(bytes),
            false => Err(self.refused(status, &bytes)),
        }
    }

    fn request(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> Result<Request<Full<Bytes>>, Failure> {
        let bytes = body.map(|body| Bytes::from(body.to_string()));
        let request = Request::builder()
            .method(method)
            .uri(format!("{}{path}", self.base));
        let request = request.header(CONTENT_TYPE, "application/json");
        let request = match &self.key {
            Some(key) => request.header(AUTHORIZATION, key),
            None => request,
        };
        request
            .body(Full::new(bytes.unwrap_or_default()))
            .map_err(|error| Failure::new(Exit::Usage, format!("{}{path}: {error}", self.base)))
    }

    fn unreachable(&self, why: &str) -> Failure {
        Failure::new(Exit::Unreachable, format!("{}: {why}", self.base)).mend(
            "name the admin listener of a running `tallygate serve`: --admin URL, or its configuration: --config FILE",
        )
    }

    fn strange(&self) -> Failure {
        Failure::new(
            Exit::Unreachable,
            format!("{} answers, but not as an admin listener does", self.base),
        )
        .mend("name the admin listener; the data listener has another port")
    }

    /// What a server said that did not do it, with the mend that it knows best.
    fn refused(&self, status: StatusCode, body: &[u8]) -> Failure {
        let told: Value = serde_json::from_slice(body).unwrap_or_default();
        let error = &told["error"];
        let Some(message) = error["message"].as_str() else {
            return self.strange();
        };
        // The data listener answers too, that it has no such path.
        if status == StatusCode::NOT_FOUND && error["type"] != "unknown" {
            return self.strange();
        }
        let failure = Failure::new(Exit::Unreachable, message);
        let here = match (status, &self.key) {
            (StatusCode::UNAUTHORIZED, None) => Some(format!(
                "the server asks for a key: export {KEY_VARIABLE}=… with one that has the role `admin`"
            )),
            (StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN, Some(_)) => Some(format!(
                "{KEY_VARIABLE} must hold a key with the role `admin`"
            )),
            _ => error["mend"].as_str().map(str::to_owned),
        };
        match here {
            Some(mend) => failure.mend(mend),
            None => failure,
        }
    }
}

fn credential(key: &str) -> Result<HeaderValue, Failure> {
    let value = HeaderValue::from_str(&format!("Bearer {key}"));
    let mut value =
        value.map_err(|_| Failure::new(Exit::Usage, format!("{KEY_VARIABLE} holds no key")))?;
    value.set_sensitive(true);
    Ok(value)
}

/// The innermost reason, which says what the system said.
fn reason(error: &dyn std::error::Error) -> String {
    let mut innermost = error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    innermost.to_string()
}

/// A text as a part of a path or query: everything but letters, digits and a few marks in percent form.
pub(crate) fn escaped(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    let escape = |byte: u8| match plain(byte) {
        true => char::from(byte).to_string(),
        false => format!("%{byte:02X}"),
    };
    text.bytes().map(escape).collect()
}
