//! A mock provider, a server in front of it, and a client of the server.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::Method;
use tallygate_core::{Amounts, Decision, Metric, ReservationId, Standing};
use tallygate_server::{Config, Listeners, RunError, Server, ServerHandle};
use tallygate_sim::{ApiCall, Client, Mock, MockOptions, Reply};
use tallygate_store::usage::Shelf;
use tallygate_store::{MemoryOptions, MemoryStore, Reserve, SettledBy, Store, WaitsFor};
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

/// Longer than anything here takes; reached only by a test that fails.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// Limits that nobody here reaches, refilled so slowly that nothing is; what gpt-4o may write is what is held for it.
pub(crate) const LIMITS: &str = "\
models: { gpt-4o: { upstream: openai, output_estimate: max_tokens } }
limits: [{ name: all, requests: 1000, tokens: 100_000, every: 8000h }]";

/// All three parts, running.
pub(crate) struct World {
    pub(crate) mock: Mock,
    pub(crate) client: Client,
    pub(crate) admin: Client,
    pub(crate) server: ServerHandle,
    pub(crate) base: String,
    pub(crate) admin_base: String,
    stop: oneshot::Sender<()>,
    running: JoinHandle<Result<(), RunError>>,
}

impl World {
    /// A world whose server has upstreams of all dialects at the mock, and `settings` besides.
    pub(crate) async fn new(settings: &str) -> Self {
        Self::with_mock(settings, MockOptions::default()).await
    }

    /// As [`Self::new`], with a mock of this kind.
    pub(crate) async fn with_mock(settings: &str, options: MockOptions) -> Self {
        let options = MockOptions {
            keep_received: 1_000,
            ..options
        };
        let mock = Mock::start(([127, 0, 0, 1], 0).into(), options)
            .await
            .expect("a world to test in");
        let server = Server::open(config(&upstreams(&mock), settings))
            .await
            .expect("a world to test in");
        Self::run(mock, server).await
    }

    /// A world with this configuration, whose mock nobody calls.
    pub(crate) async fn with_config(config: Config) -> Self {
        let mock = Mock::start(([127, 0, 0, 1], 0).into(), MockOptions::default()).await;
        let server = Server::open(config).await.expect("a server");
        Self::run(mock.expect("a mock"), server).await
    }

    /// A world whose server counts in what `make` gives for its configuration.
    pub(crate) async fn with_store(
        settings: &str,
        make: impl FnOnce(&Config) -> Arc<dyn Store>,
    ) -> Self {
        let mock = Mock::start(([127, 0, 0, 1], 0).into(), MockOptions::default()).await;
        let mock = mock.expect("a mock");
        let config = config(&upstreams(&mock), settings);
        let store = make(&config);
        let server = Server::with_store(config, store).expect("a server");
        Self::run(mock, server).await
    }

    /// A world whose server keeps its ledger on `shelf`.
    pub(crate) async fn with_shelf(settings: &str, shelf: Arc<dyn Shelf>) -> Self {
        let mock = Mock::start(([127, 0, 0, 1], 0).into(), MockOptions::default()).await;
        let mock = mock.expect("a mock");
        let config = config(&upstreams(&mock), settings);
        let store = MemoryStore::new(config.policy(), MemoryOptions::default());
        let server = Server::with_shelf(config, store, shelf).expect("a server");
        Self::run(mock, server).await
    }

    /// A world of this server, whose mock nobody calls.
    pub(crate) async fn of(server: Server) -> Self {
        let mock = Mock::start(([127, 0, 0, 1], 0).into(), MockOptions::default()).await;
        Self::run(mock.expect("a mock"), server).await
    }

    /// A world whose admin listener is open to other machines.
    pub(crate) async fn exposed(settings: &str) -> Self {
        let mock = Mock::start(([127, 0, 0, 1], 0).into(), MockOptions::default()).await;
        let mock = mock.expect("a mock");
        let server = Server::open(config(&upstreams(&mock), settings)).await;
        let admin = TcpListener::bind("0.0.0.0:0").await.expect("a port");
        let port = admin.local_addr().expect("an address").port();
        let admin = (admin, format!("http://127.0.0.1:{port}"));
        Self::run_on(mock, server.expect("a server"), admin).await
    }

    async fn run(mock: Mock, server: Server) -> Self {
        let admin = listener().await;
        Self::run_on(mock, server, admin).await
    }

    async fn run_on(
        mock: Mock,
        server: Server,
        (admin, admin_base): (TcpListener, String),
    ) -> Self {
        let (data, base) = listener().await;
        let (stop, stopped) = oneshot::channel();
        let handle = server.handle();
        let shutdown = async {
            let _ = stopped.await;
        };
        let listeners = Listeners {
            data,
            admin: Some(admin),
        };
        let running = tokio::spawn(server.run(listeners, shutdown));
        Self {
            mock,
            client: Client::new(&base),
            admin: Client::new(&admin_base),
            server: handle,
            base,
            admin_base,
            stop,
            running,
        }
    }

    /// Where the admin listener is.
    pub(crate) fn admin_addr(&self) -> SocketAddr {
        let addr = self.admin_base.trim_start_matches("http://");
        addr.parse().expect("an address")
    }

    /// A client of the mock itself.
    pub(crate) fn direct(&self) -> Client {
        Client::new(format!("http://{}", self.mock.addr())).with_key("direct")
    }

    /// A body without what differs between two answers to the same call.
    pub(crate) fn comparable(body: &[u8]) -> String {
        let text = String::from_utf8_lossy(body).into_owned();
        let mut out = String::new();
        for piece in text.split_inclusive([',', '}', '{']) {
            let differs = [
                "\"id\"",
                "\"created",
                "\"responseId\"",
                "\"item_id\"",
                "_at\"",
            ];
            if !differs.iter().any(|name| piece.contains(name)) {
                out.push_str(piece);
            }
        }
        out
    }

    /// Sends a call and reads its answer.
    pub(crate) async fn call(&self, call: &ApiCall) -> Reply {
        within(self.client.call(call))
            .await
            .expect("a world to test in")
    }

    /// Sends a body.
    pub(crate) async fn post(&self, path: &str, body: impl Into<Bytes>) -> Reply {
        let request = self
            .client
            .request(Method::POST, path, body.into())
            .expect("a request");
        let opened = within(self.client.send(request)).await.expect("an answer");
        within(opened.read()).await.expect("a body")
    }

    /// The same world with a client that shows `key`.
    pub(crate) fn keyed(mut self, key: &str) -> Self {
        self.client = Client::new(&self.base).with_key(key);
        self
    }

    /// What `/metrics` says now.
    pub(crate) fn metrics(&self) -> String {
        let store = self.server.store();
        self.server
            .observer()
            .render(store.stats(), &store.health())
    }

    /// Where every limit of a caller stands.
    pub(crate) async fn standings(&self, subject: &[(&str, &str)]) -> Vec<Standing> {
        self.server
            .store()
            .peek(subject)
            .await
            .expect("a world to test in")
    }

    /// How much of the metric is used, by the first limit of it that applies.
    pub(crate) async fn used(&self, metric: Metric, subject: &[(&str, &str)]) -> u64 {
        let standings = self.standings(subject).await;
        standings
            .iter()
            .find(|standing| standing.limit.metric == metric)
            .expect("a world to test in")
            .used
    }

    /// Takes one slot of what `subject` may have at once.
    pub(crate) async fn hold(&self, subject: &[(&str, &str)]) -> ReservationId {
        self.hold_of(subject, Amounts::call(0, 0)).await
    }

    /// Holds `demand` for `subject`.
    pub(crate) async fn hold_of(&self, subject: &[(&str, &str)], demand: Amounts) -> ReservationId {
        let ask = Reserve {
            subject,
            demand,
            ttl: Duration::from_secs(60),
            max_wait: Duration::ZERO,
            idempotency_key: None,
            waits_for: WaitsFor::Anything,
            settled_by: SettledBy::AnyNode,
        };
        match self.server.store().reserve(ask).await {
            Ok(Decision::Admit(admission)) => admission.id,
            other => panic!("{other:?}"),
        }
    }

    /// Waits until no reservation is open.
    pub(crate) async fn settled(&self) {
        self.until(|store| store.stats().reservations == 0).await;
    }

    /// Waits until `condition` holds of the store.
    pub(crate) async fn until(&self, condition: impl Fn(&Arc<dyn Store>) -> bool) {
        let holds = async {
            while !condition(self.server.store()) {
                tokio::task::yield_now().await;
            }
        };
        within(holds).await;
    }

    /// Begins the server's end.
    pub(crate) fn stop(self) -> (Mock, JoinHandle<Result<(), RunError>>) {
        let _ = self.stop.send(());
        (self.mock, self.running)
    }
}

/// The result of `future`, which must not take long.
pub(crate) async fn within<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future)
        .await
        .expect("it takes too long")
}

/// The URL of a store with patience for a machine that does much else.
pub(crate) fn patient(url: &str) -> String {
    format!("{url}?timeout=5s")
}

async fn listener() -> (TcpListener, String) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let base = format!("http://{}", listener.local_addr().expect("an address"));
    (listener, base)
}

/// The configuration with `upstreams` and `settings`.
pub(crate) fn config(upstreams: &str, settings: &str) -> Config {
    let store = match settings.starts_with("store:") {
        true => "",
        false => "store: memory\n",
    };
    let text = format!("admin: none\n{store}{upstreams}\n{settings}\n");
    Config::parse(&text, "test.yaml", &|_| None)
        .unwrap_or_else(|errors| panic!("{}\n{text}", errors.render()))
}

/// Upstreams of all dialects at the mock.
pub(crate) fn upstreams(mock: &Mock) -> String {
    let addr = mock.addr();
    format!(
        "upstreams:
  openai: {{ dialect: openai, base_url: \"http://{addr}/v1\", api_key: sk-openai }}
  anthropic: {{ dialect: anthropic, base_url: \"http://{addr}\", api_key: sk-anthropic }}
  gemini: {{ dialect: gemini, base_url: \"http://{addr}\", api_key: sk-gemini }}"
    )
}
