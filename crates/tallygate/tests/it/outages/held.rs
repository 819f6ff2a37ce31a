//! What is under way when the store goes, and ends while it is away.

use serde_json::{Value, json};
use tallygate_sim::client::Opened;
use tallygate_sim::{ApiCall, Client};
use tokio::task::JoinHandle;

use super::callers::used;
use super::fleet::{Counted, Fleet, Gateway, until};

/// Whose counters nothing else is counted on.
pub(super) const MODEL: &str = "gpt-4o-mini";

/// Tokens that a reservation holds, and what was used of them.
const RESERVED: u64 = 100;
const USED: u64 = 40;

/// Ends that each gateway keeps: of its stream, of its two reservations, and of a neighbour's.
const KEPT: u64 = 4;

/// At each gateway one stream, and two reservations.
pub(super) struct Held {
    reservations: Vec<Reservations>,
    streams: Vec<JoinHandle<u64>>,
    /// What the streams used.
    tokens: u64,
}

struct Reservations {
    settled: Value,
    cancelled: Value,
}

impl Held {
    /// Takes the reservations.
    pub(super) async fn reserve(fleet: &Fleet) -> Self {
        let mut reservations = Vec::new();
        for gateway in &fleet.gateways {
            reservations.push(Reservations {
                settled: reservation(gateway).await,
                cancelled: reservation(gateway).await,
            });
        }
        Self {
            reservations,
            streams: Vec::new(),
            tokens: 0,
        }
    }

    /// Begins the streams, which take six seconds.
    pub(super) async fn stream(&mut self, fleet: &Fleet) {
        let clients = fleet.gateways.iter().map(Gateway::client);
        let opening: Vec<_> = clients.map(|one| tokio::spawn(open_stream(one))).collect();
        for opened in opening {
            let opened = opened.await.expect("a stream begins");
            let rest = async move { used(&opened.read().await.expect("the rest")) };
            self.streams.push(tokio::spawn(rest));
        }
    }

    /// Ends all while there is no store: every end is kept, where it came first and by a neighbour who was told too.
    pub(super) async fn end(&mut self, fleet: &Fleet) {
        for (number, of) in self.reservations.iter().enumerate() {
            let own = &fleet.gateways[number];
            let neighbour = &fleet.gateways[(number + 1) % fleet.gateways.len()];
            for gateway in [own, neighbour, own] {
                kept(gateway, "settle", &settlement(&of.settled)).await;
            }
            let (status, told) = own.decide("cancel", &naming(&of.settled)).await;
            assert_eq!((status, &told["to_be"]), (409, &json!("settled")), "{told}");
            kept(own, "cancel", &naming(&of.cancelled)).await;
        }
        for stream in self.streams.drain(..) {
            self.tokens += stream.await.expect("a stream ends");
        }
        for gateway in &fleet.gateways {
            until("kept ends", async || {
                gateway.metric("tallygate_store_kept").await >= KEPT
            })
            .await;
        }
    }

    /// What was kept stands everywhere, and is told as it was.
    pub(super) async fn stands(&self, fleet: &Fleet) {
        for (number, of) in self.reservations.iter().enumerate() {
            let stranger = &fleet.gateways[(number + 2) % fleet.gateways.len()];
            let (status, told) = stranger.decide("settle", &settlement(&of.settled)).await;
            assert_eq!(
                (status, &told["charged"]["tokens"]),
                (200, &json!(USED)),
                "{told}"
            );
            let (status, told) = stranger.decide("cancel", &naming(&of.cancelled)).await;
            assert_eq!(
                (status, &told["outcome"]),
                (200, &json!("cancelled")),
                "{told}"
            );
        }
    }

    /// What is to be counted in the end: all that was used, once.
    pub(super) fn counted(&self) -> Counted {
        let settled = self.reservations.len() as u64;
        Counted {
            calls: 2 * settled,
            tokens: self.tokens + settled * USED,
            slots: 0,
        }
    }
}

/// A call that streams for six seconds.
async fn open_stream(client: Client) -> Opened {
    let call = ApiCall::chat(MODEL, "Hello world").streamed_with_usage();
    let call = call.output(60).header("x-mock-token-us", "100000");
    let opened = client.open(&call).await.expect("an answer");
    assert_eq!(opened.status, 200);
    opened
}

async fn reservation(gateway: &Gateway) -> Value {
    let ask = json!({ "model": MODEL, "demand": { "input_tokens": RESERVED, "concurrency": 1 } });
    let (status, told) = gateway.decide("reserve", &ask).await;
    assert_eq!(status, 200, "{told}");
    told["reservation"].clone()
}

async fn kept(gateway: &Gateway, what: &str, body: &Value) {
    let (status, told) = gateway.decide(what, body).await;
    assert_eq!((status, &told["outcome"]), (202, &json!("kept")), "{told}");
}

fn settlement(id: &Value) -> Value {
    json!({ "reservation": id, "usage": { "input_tokens": USED } })
}

fn naming(id: &Value) -> Value {
    json!({ "reservation": id })
}
