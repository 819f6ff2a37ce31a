//! How a connection to a server is made: TCP, TLS, login, database.
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use redis::aio::{AsyncStream, MultiplexedConnection, PubSub};
use redis::{AsyncConnectionConfig, Cmd, RedisConnectionInfo};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout_at};
use tokio_rustls::TlsConnector;

use super::said::{Said, told};
use super::wire::{Fault, Order, Wire};
use crate::redis::options::{Login, Node, RedisOptions, Tls};

/// Connects to any server of one URL: they all take the same login.
pub(super) struct Dialer {
    login: Option<Login>,
    db: u32,
    tls: Option<TlsConnector>,
    patience: Duration,
}

type Stream = Pin<Box<dyn AsyncStream + Send + Sync>>;

impl Dialer {
    /// # Errors
    /// When the file of authorities cannot be used.
    pub(super) fn new(options: &RedisOptions) -> Result<Self, CaError> {
        Ok(Self {
            login: options.login.clone(),
            db: options.db,
            tls: options.tls.as_ref().map(connector).transpose()?,
            patience: options.connect_timeout,
        })
    }

    /// One for the sentinels of the URL: they have a login of their own, and no databases.
    pub(super) fn to_sentinels(&self, login: Option<Login>) -> Self {
        Self {
            login,
            db: 0,
            tls: self.tls.clone(),
            patience: self.patience,
        }
    }

    /// A connection for calls, ready to take them.
    pub(super) async fn wire(&self, node: &Node) -> Result<Wire, DialError> {
        let by = Instant::now() + self.patience;
        let stream = self.stream(node, by).await?;
        let ready = timeout_at(by, async {
            // A call's deadline is its caller's.
            let config = AsyncConnectionConfig::new().set_response_timeout(None);
            let info = RedisConnectionInfo::default().set_skip_set_lib_name();
            let (connection, driver) =
                MultiplexedConnection::new_with_config(&info, stream, config)
                    .await
                    .map_err(|error| DialError::Broken(told(&error)))?;
            let wire = Wire::new(connection, driver);
            self.introduce(&wire).await?;
            Ok(wire)
        });
        ready.await.unwrap_or_else(|_| Err(self.silent()))
    }

    /// A connection for messages.
    pub(super) async fn pubsub(&self, node: &Node) -> Result<PubSub, DialError> {
        let by = Instant::now() + self.patience;
        let stream = self.stream(node, by).await?;
        match timeout_at(by, PubSub::new(&self.info(), stream)).await {
            Ok(ready) => ready.map_err(|error| DialError::Broken(told(&error))),
            Err(_) => Err(self.silent()),
        }
    }

    async fn stream(&self, node: &Node, by: Instant) -> Result<Stream, DialError> {
        let dialed = timeout_at(by, TcpStream::connect((node.host.as_str(), node.port)));
        let dialed = dialed.await.map_err(|_| self.silent())?;
        let stream = dialed.map_err(DialError::Connect)?;
        // Calls are small and waited for; without this a peer's delayed acknowledgement costs 40 ms.
        stream.set_nodelay(true).map_err(DialError::Connect)?;
        let Some(tls) = &self.tls else {
            return Ok(Box::pin(stream));
        };
        let name = ServerName::try_from(node.host.clone())
            .map_err(|_| DialError::Tls("the host is no name a certificate can have".to_owned()))?;
        // A server that speaks no TLS may wait for the end of what it takes for a command.
        let encrypted = timeout_at(by, tls.connect(name, stream)).await;
        let encrypted = encrypted.map_err(|_| DialError::Tls(self.silent().to_string()))?;
        let encrypted = encrypted.map_err(|error| DialError::Tls(error.to_string()))?;
        Ok(Box::pin(encrypted))
    }

    fn silent(&self) -> DialError {
        DialError::Silent(self.patience)
    }

    /// Logs in, chooses the database, and gives the connection a name in `CLIENT LIST`.
    async fn introduce(&self, wire: &Wire) -> Result<(), DialError> {
        if let Some(login) = &self.login {
            self.say(wire, auth(login), DialError::Login).await?;
        }
        if self.db != 0 {
            let mut select = redis::cmd("SELECT");
            select.arg(self.db);
            self.say(wire, select, DialError::Database).await?;
        }
        let mut name = redis::cmd("CLIENT");
        name.arg("SETNAME").arg("tallygate");
        match wire.ask(&Order::Plain(name)).await {
            // A convenience: a user may lack the right to it.
            Err(Fault::Said(Said::Refused(reason))) if reason.starts_with("NOPERM") => Ok(()),
            Err(Fault::Said(Said::Refused(reason))) if reason.contains("unknown") => Ok(()),
            Err(Fault::Said(Said::NotHere(reason))) => Err(DialError::Login(reason)),
            other => other.map(drop).map_err(DialError::from),
        }
    }

    async fn say(
        &self,
        wire: &Wire,
        command: Cmd,
        refused: fn(String) -> DialError,
    ) -> Result<(), DialError> {
        match wire.ask(&Order::Plain(command)).await {
            Err(Fault::Said(Said::Refused(reason) | Said::NotHere(reason))) => Err(refused(reason)),
            other => other.map(drop).map_err(DialError::from),
        }
    }

    fn info(&self) -> RedisConnectionInfo {
        let info = RedisConnectionInfo::default()
            .set_skip_set_lib_name()
            .set_db(i64::from(self.db));
        let Some(login) = &self.login else {
            return info;
        };
        let info = info.set_password(&login.password);
        match &login.user {
            Some(user) => info.set_username(user),
            None => info,
        }
    }
}

fn auth(login: &Login) -> Cmd {
    let mut command = redis::cmd("AUTH");
    if let Some(user) = &login.user {
        command.arg(user);
    }
    command.arg(&login.password);
    command
}

fn connector(tls: &Tls) -> Result<TlsConnector, CaError> {
    let roots = match &tls.ca {
        None => webpki_roots::TLS_SERVER_ROOTS.iter().cloned().collect(),
        Some(path) => authorities(path).map_err(|reason| CaError {
            path: path.display().to_string(),
            reason,
        })?,
    };
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("invariant: ring has the suites of the default versions")
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(TlsConnector::from(Arc::new(config)))
}

fn authorities(path: &std::path::Path) -> Result<RootCertStore, String> {
    let mut roots = RootCertStore::empty();
    let certificates = CertificateDer::pem_file_iter(path).map_err(|error| error.to_string())?;
    for certificate in certificates {
        let certificate = certificate.map_err(|error| error.to_string())?;
        roots.add(certificate).map_err(|error| error.to_string())?;
    }
    if roots.is_empty() {
        return Err("it holds no certificate".to_owned());
    }
    Ok(roots)
}

/// A file of authorities that cannot be used.
#[derive(Debug)]
pub(super) struct CaError {
    pub(super) path: String,
    pub(super) reason: String,
}

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub(super) enum DialError {
    #[error("{0}")]
    Connect(io::Error),
    #[error("TLS failed: {0}")]
    Tls(String),
    #[error("no answer within {0:?}")]
    Silent(Duration),
    #[error("{0}")]
    Broken(String),
    #[error("what answers is no Redis")]
    Foreign,
    #[error("{0}")]
    Login(String),
    #[error("{0}")]
    Database(String),
    /// It answers, but takes nobody in just now.
    #[error("{0}")]
    Said(String),
}

impl From<Fault> for DialError {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::Broken(reason) => Self::Broken(reason),
            Fault::Foreign => Self::Foreign,
            Fault::Said(said) => Self::Said(said.to_string()),
        }
    }
}
