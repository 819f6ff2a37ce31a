//! Three gateways, the provider behind them, and the store that they share.

use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use serde_json::Value;
use tallygate_sim::Client;
use tallygate_sim::servers::{Engine, Server};

use super::callers::MODEL;
use super::case::{Case, Choice};
use super::held;
use crate::command::{run, tallygate};
use crate::folder::Folder;
use crate::running::Running;

pub(super) const GATEWAYS: usize = 3;

/// Calls of one model that all gateways together may let pass.
pub(super) const LIMIT: u64 = 600;

/// Tokens of which there are always enough: they are counted.
const TOKENS: u64 = 10_000_000;

/// As many calls at once as nobody makes.
const SLOTS: u64 = 1000;

/// How long something may take to come about.
const PATIENCE: Duration = Duration::from_secs(60);

pub(super) struct Fleet {
    pub(super) server: Server,
    pub(super) gateways: Vec<Gateway>,
    file: PathBuf,
    // Kept to the end.
    _mock: Running,
    _folder: Folder,
}

pub(super) struct Gateway {
    running: Running,
    url: String,
    admin: String,
}

/// What the store says is counted of a model.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Counted {
    pub(super) calls: u64,
    pub(super) tokens: u64,
    /// Calls that hold a slot.
    pub(super) slots: u64,
}

impl Fleet {
    /// On a server of its own that has written what it answered.
    pub(super) async fn start(case: Case) -> Self {
        let durable = ["appendonly yes", "appendfsync always"];
        let server = Server::start(Engine::Redis, &durable).expect("a server");
        let folder = Folder::new(&format!("outage-{case}"));
        let mut mock = Running::start(&mut tallygate(&["mock", "--listen", "127.0.0.1:0"]));
        let upstream = mock.said("mock listening on ");
        let file = folder.path().join("tallygate.yaml");
        let text = configuration(&server.url(), &upstream, case.choice);
        fs::write(&file, text).expect("a file");
        let started: Vec<Running> = (0..GATEWAYS)
            .map(|_| Running::start(tallygate(&["serve", "--config"]).arg(&file)))
            .collect();
        Self {
            server,
            gateways: started.into_iter().map(Gateway::listening).collect(),
            file,
            _mock: mock,
            _folder: folder,
        }
    }

    /// Waits until every gateway has shares of both limits of calls, if it ever will.
    pub(super) async fn has_shares(&self, choice: Choice) {
        if choice != Choice::Share {
            return;
        }
        for gateway in &self.gateways {
            until("shares", async || {
                gateway.metric("tallygate_store_leased_counters").await >= 2
            })
            .await;
        }
    }

    /// Waits until every gateway reaches the store.
    pub(super) async fn is_up(&self) {
        for gateway in &self.gateways {
            until("the store", async || {
                gateway.metric("tallygate_store_up").await == 1
            })
            .await;
        }
    }

    /// Waits until every gateway has delivered what it kept; none of it came too late or was lost.
    pub(super) async fn has_delivered(&self) {
        for gateway in &self.gateways {
            until("delivery", async || {
                gateway.metric("tallygate_store_kept").await == 0
            })
            .await;
            for wrong in ["overtaken", "lost"] {
                let name = format!("tallygate_store_{wrong}_total");
                assert_eq!(gateway.metric(&name).await, 0, "{name}");
            }
        }
    }

    /// One number of each gateway.
    pub(super) async fn metrics(&self, name: &str) -> Vec<u64> {
        let mut numbers = Vec::new();
        for gateway in &self.gateways {
            numbers.push(gateway.metric(name).await);
        }
        numbers
    }

    /// Lets the gateways come to an end, and asks the store what it has counted.
    pub(super) fn end(self) -> [Counted; 2] {
        for gateway in &self.gateways {
            gateway.running.signal("TERM");
        }
        for gateway in self.gateways {
            assert_eq!(gateway.running.ended().0.code(), Some(0));
        }
        let file = self.file.display().to_string();
        [MODEL, held::MODEL].map(|model| counted(&file, model))
    }
}

impl Gateway {
    fn listening(mut running: Running) -> Self {
        Self {
            url: running.said("gateway listening on "),
            admin: running.said("admin listening on "),
            running,
        }
    }

    pub(super) fn client(&self) -> Client {
        Client::new(&self.url)
    }

    /// Asks the decision API.
    pub(super) async fn decide(&self, what: &str, body: &Value) -> (u16, Value) {
        let client = self.client();
        let path = format!("/tallygate/v1/{what}");
        let post = "POST".parse().expect("a method");
        let request = client.request(post, &path, body.to_string().into());
        let opened = client.send(request.expect("a request")).await;
        let reply = opened.expect("an answer").read().await.expect("the rest");
        (reply.status, reply.json())
    }

    pub(super) async fn metric(&self, name: &str) -> u64 {
        let page = Client::new(&self.admin).get("/metrics").await;
        let page = page.expect("an answer");
        let page = String::from_utf8_lossy(&page.body);
        let mut lines = page.lines();
        let value = lines.find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        let value = value.unwrap_or_else(|| panic!("no {name} in {page}"));
        value.trim().parse().expect("a number")
    }
}

/// Asks until it holds; panics after a while.
pub(super) async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let began = Instant::now();
    while !holds().await {
        assert!(began.elapsed() < PATIENCE, "no {what}");
        tokio::time::sleep(Duration::from_millis(50)).await; // tidy: sleeps because the other side is a process
    }
}

fn counted(file: &str, model: &str) -> Counted {
    let told = run(&[
        "explain",
        "--config",
        file,
        "--model",
        model,
        "--json",
        "--connect",
    ]);
    let told = told.json();
    let limits = told["limits"].as_array().expect("limits");
    let taken = |name: &str, amount: u64| {
        let limit = limits.iter().find(|one| one["name"] == name);
        limit.map_or(0, |limit| {
            let number = |what: &str| limit[what].as_u64().expect("a number");
            amount - number("remaining") + number("debt")
        })
    };
    Counted {
        calls: taken("calls", LIMIT),
        tokens: taken("counted", TOKENS),
        slots: taken("slots", SLOTS),
    }
}

/// Each model has counters of its own. Where a limit of slots applies each call is decided in the store, so that counters can
/// be compared to the last token; without one, which has no share, gateways lease.
fn configuration(store: &str, upstream: &str, choice: Choice) -> String {
    let exact = match choice {
        Choice::Share => held::MODEL,
        Choice::Closed | Choice::Open => "*",
    };
    let store_down = choice.word();
    format!(
        "listen: 127.0.0.1:0
admin: 127.0.0.1:0
store: \"{store}?timeout=1s&connect_timeout=20s\"
store_down: {store_down}
upstreams: {{ openai: {{ dialect: openai, base_url: \"{upstream}/v1\", api_key: k }} }}
limits:
  - {{ name: calls, per: [model], requests: {LIMIT}, every: month }}
  - {{ name: counted, per: [model], tokens: {TOKENS}, every: month }}
  - {{ name: slots, per: [model], when: {{ model: \"{exact}\" }}, concurrency: {SLOTS} }}
"
    )
}
