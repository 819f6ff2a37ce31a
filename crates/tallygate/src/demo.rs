//! `tallygate demo`: a provider, the gateway, three users and live traffic, on this machine alone.

mod stage;
mod table;
mod traffic;
mod verdict;
mod witness;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::Args;
use serde_json::json;
use tallygate_server::{Listeners, Server};
use tallygate_sim::Mock;
use tallygate_store::{MemoryOptions, MemoryStore};
use tokio::net::TcpListener;
use tokio::sync::oneshot;

use crate::exit::{Exit, Failure};
use crate::screen::Screen;
use crate::signals::Signals;
use stage::Stage;
use table::Table;
use traffic::Traffic;
use verdict::Verdict;
use witness::Witness;

#[derive(Debug, Args)]
pub(crate) struct DemoArgs {
    /// End after so many seconds; at Ctrl-C unless given
    #[arg(long, value_name = "N")]
    seconds: Option<u64>,

    /// Where the gateway listens; port 0 takes a free one
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:0")]
    listen: SocketAddr,

    /// What prompts and answers follow from
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

pub(crate) async fn run(args: &DemoArgs, screen: &Screen) -> Result<(), Failure> {
    let signals = Signals::new()?;
    let mock = Mock::start(LOOPBACK, stage::provider(args.seed))
        .await
        .map_err(|error| refused(LOOPBACK, &error))?;
    let stage = Stage::new(mock.addr(), args.listen)?;
    let gateway = Gateway::start(&stage).await?;
    screen.answer(&json!({ "event": "listening", "gateway": gateway.url, "mock": format!("http://{}", mock.addr()) }), &greeting(&gateway, &stage));

    let started = Instant::now();
    let traffic = Traffic::start(&gateway.url, &stage.keys, args.seed);
    let mut table = Table::new(*screen, Arc::clone(&gateway.witness), &traffic);
    tokio::select! {
        () = signals.stop() => {}
        () = end_after(args.seconds) => {}
        () = table.keep(started) => {}
    }
    let (tallies, witness) = (
        traffic.tallies.each_ref().map(Arc::clone),
        Arc::clone(&gateway.witness),
    );
    traffic.stop().await;
    gateway.stop().await?;
    let seen = tallies.map(|tally| tally.read());
    let verdict = Verdict::new(&mock.books(), seen, witness.waited()).after(started.elapsed());
    mock.stop().await;
    screen.answer(&verdict.json(), &verdict.text());
    verdict.outcome()
}

async fn end_after(seconds: Option<u64>) {
    match seconds {
        Some(seconds) => tokio::time::sleep(Duration::from_secs(seconds)).await,
        None => std::future::pending().await,
    }
}

fn greeting(gateway: &Gateway, stage: &Stage) -> String {
    let [alice, bob, carol] = &stage.keys;
    let url = &gateway.url;
    format!(
        "A mock provider, the gateway in front of it, and three users at work. No key, no network, no costs.

gateway listening on {url}

Join in, as one of them:
  curl -i {url}/v1/chat/completions -H 'authorization: Bearer {alice}' \\
    -H 'content-type: application/json' -d '{{\"model\":\"gpt-4o-mini\",\"messages\":[{{\"role\":\"user\",\"content\":\"Hello world\"}}]}}'
  curl '{url}/tallygate/v1/limits?user=bob&tier=pro&model=gpt-4o' -H 'authorization: Bearer {bob}'
  curl -N {url}/v1/messages -H 'x-api-key: {carol}' -H 'anthropic-version: 2023-06-01' \\
    -H 'content-type: application/json' -d '{{\"model\":\"claude-sonnet-4-5\",\"max_tokens\":50,\"stream\":true,\"messages\":[{{\"role\":\"user\",\"content\":\"Hello world\"}}]}}'

Ctrl-C ends it.
"
    )
}

/// The gateway of the demo, running beside it.
struct Gateway {
    url: String,
    witness: Arc<Witness>,
    stop: oneshot::Sender<()>,
    running: tokio::task::JoinHandle<Result<(), tallygate_server::RunError>>,
}

impl Gateway {
    async fn start(stage: &Stage) -> Result<Self, Failure> {
        let config = stage.settings.config()?;
        let addr = config.listen();
        let data = TcpListener::bind(addr)
            .await
            .map_err(|error| refused(addr, &error))?;
        let url = data
            .local_addr()
            .map(|addr| format!("http://{addr}"))
            .map_err(|error| refused(addr, &error))?;
        let witness = Witness::new(MemoryStore::new(config.policy(), MemoryOptions::default()));
        let server = Server::with_store(config, Arc::clone(&witness) as _)
            .map_err(|error| Failure::new(Exit::Failed, error))?;
        let (stop, stopped) = oneshot::channel::<()>();
        let shutdown = async move { drop(stopped.await) };
        let running = tokio::spawn(server.run(Listeners { data, admin: None }, shutdown));
        Ok(Self {
            url,
            witness,
            stop,
            running,
        })
    }

    async fn stop(self) -> Result<(), Failure> {
        drop(self.stop);
        let ended = self
            .running
            .await
            .map_err(|error| Failure::new(Exit::Failed, error))?;
        ended.map_err(|error| Failure::new(Exit::Failed, error))
    }
}

fn refused(addr: SocketAddr, error: &std::io::Error) -> Failure {
    Failure::new(
        Exit::Listen,
        format!("{addr} cannot be listened on: {error}"),
    )
    .mend("choose another address with --listen, or port 0 for a free one")
}

const LOOPBACK: SocketAddr =
    SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 0);
