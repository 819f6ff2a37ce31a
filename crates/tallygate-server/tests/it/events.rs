//! What is told of a quota: to listeners of the admin API, and to webhooks. Nobody who calls waits for either.

use bytes::Bytes;
use http::Method;
use serde_json::{Value, json};
use tallygate_sim::ApiCall;
use tallygate_sim::client::Opened;
use tallygate_sim::servers::{Engine, Server};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use crate::world::{World, patient, within};

const DAY: &str = "limits: [{ name: day, per: [user], requests: 10, every: day }]";

/// Asks for `requests` of ann's day.
async fn spend(world: &World, requests: u64) -> u16 {
    let body = json!({ "subject": { "user": "ann" }, "demand": { "requests": requests } });
    let reply = world.post("/tallygate/v1/reserve", body.to_string());
    reply.await.status
}

async fn listening(world: &World) -> Opened {
    let request = world
        .admin
        .request(Method::GET, "/api/events", Bytes::new());
    let opened = world.admin.send(request.expect("a request"));
    let opened = within(opened).await.expect("an answer");
    assert_eq!(opened.status, 200);
    opened
}

/// The fields of the next message.
async fn message(opened: &mut Opened) -> (String, Value) {
    let text = within(next(opened)).await;
    let field = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name));
        line.unwrap_or_default().trim().to_owned()
    };
    let data = serde_json::from_str(&field("data:")).expect("JSON");
    (field("event:"), data)
}

/// The next message as it comes. What only shows that the connection stands is none.
async fn next(opened: &mut Opened) -> String {
    let mut text = String::new();
    while !text.ends_with("\n\n") {
        let piece = opened.chunk().await.expect("a stream");
        text.push_str(&String::from_utf8_lossy(&piece.expect("no end")));
        while let Some((_, rest)) = text.split_once("\n\n").filter(|_| text.starts_with(':')) {
            text = rest.to_owned();
        }
    }
    text
}

#[tokio::test]
async fn listeners_hear_what_happens() {
    let world = World::new(DAY).await;
    let mut listener = listening(&world).await;
    assert_eq!(spend(&world, 8).await, 200);
    let (kind, event) = message(&mut listener).await;
    assert_eq!(
        (kind.as_str(), &event["data"]["percent"]),
        ("limit.threshold", &json!(80))
    );
    assert_eq!(spend(&world, 3).await, 429);
    let (kind, event) = message(&mut listener).await;
    assert_eq!(
        (kind.as_str(), &event["data"]["limit"]),
        ("limit.denied", &json!("day"))
    );
    assert_eq!(event["data"]["subject"], json!({ "user": "ann" }));
}

#[tokio::test]
async fn a_call_that_can_never_fit_is_a_denial_too() {
    let world = World::new(DAY).await;
    let mut listener = listening(&world).await;
    assert_eq!(spend(&world, 11).await, 422);
    let (kind, event) = message(&mut listener).await;
    let said = (kind.as_str(), &event["data"]["limit"]);
    assert_eq!(said, ("limit.denied", &json!("day")));
    assert_eq!(event["data"]["used"], 0);
}

const TOKENS: &str = "\
models: { gpt-4o: { upstream: openai, output_estimate: 1 } }
limits: [{ name: day, tokens: 4_000, every: day, alerts: [50] }]";

/// What a call uses above its hold is told of when it is settled, and not only once another one asks.
#[tokio::test]
async fn an_overrun_is_told_of_when_it_is_settled() {
    let redis = Server::start(Engine::Redis, &[]).expect("redis-server starts");
    let elsewhere = format!("store: \"{}\"\n{TOKENS}", patient(&redis.url()));
    for settings in [TOKENS, &elsewhere] {
        let world = World::new(settings).await;
        let mut listener = listening(&world).await;
        let call = ApiCall::chat("gpt-4o", "Hello world").output(2_500);
        assert_eq!(world.call(&call).await.status, 200);
        let (kind, event) = message(&mut listener).await;
        assert_eq!(kind, "limit.threshold");
        assert_eq!(event["data"]["used"], 9 + 2_500);
    }
}

/// A stream that outgrows its hold asks for more: that is told of while it goes on.
#[tokio::test]
async fn an_extension_is_told_of_while_the_call_goes_on() {
    let world = World::new(TOKENS).await;
    let mut listener = listening(&world).await;
    let call = ApiCall::chat("gpt-4o", "Hello world").output(3_500);
    let call = call.streamed().header("x-mock-stall-after", "2600");
    let stream = within(world.client.open(&call)).await.expect("an answer");
    let heard = async {
        let mut stream = stream;
        while stream.chunk().await.is_ok() {}
    };
    tokio::select! {
        () = heard => panic!("it stalls"),
        (kind, event) = message(&mut listener) => {
            assert_eq!((kind.as_str(), &event["data"]["percent"]), ("limit.threshold", &json!(50)));
        }
    }
    assert_eq!(world.server.store().stats().reservations, 1);
}

/// A caller that leaves a stream which has outgrown its hold is charged for what passed, and that is told of then.
#[tokio::test]
async fn what_passed_before_a_caller_left_is_told_of() {
    let world = World::new(
        "\
models: { gpt-4o: { upstream: openai, output_estimate: 1 } }
limits:
  - { name: tight, tokens: 100, every: 8000h }
  - { name: day, tokens: 4_000, every: day, alerts: [50] }",
    )
    .await;
    let mut listener = listening(&world).await;
    let call = ApiCall::chat("gpt-4o", "Hello world").output(3_500);
    let call = call.streamed().header("x-mock-stall-after", "2600");
    let mut stream = within(world.client.open(&call)).await.expect("an answer");
    let mut passed = 0;
    while passed < 2_300 {
        let piece = within(stream.chunk()).await.expect("a stream");
        let piece = piece.expect("it stalls before its end");
        passed += piece.windows(5).filter(|five| five == b"data:").count();
    }
    drop(stream);
    let (kind, event) = message(&mut listener).await;
    assert_eq!(
        (kind.as_str(), &event["data"]["percent"]),
        ("limit.threshold", &json!(50))
    );
    assert_eq!(world.server.store().stats().reservations, 0);
}

/// Reserves 9 tokens of the day, and does something with them that takes it past half.
async fn grow(world: &World, path: &str, words: Value) {
    let body = json!({ "subject": { "user": "ann" }, "demand": { "tokens": 9 } });
    let made = world.post("/tallygate/v1/reserve", body.to_string()).await;
    let mut body = words;
    body["reservation"] = made.json()["reservation"].clone();
    let reply = world.post(path, body.to_string()).await;
    assert_eq!(reply.status, 200);
}

/// What a reservation of the decision API uses above its hold is told of when it is settled, and what it is extended by at once.
#[tokio::test]
async fn a_reservation_that_grows_or_overruns_is_told_of_then() {
    const HALF: &str =
        "limits: [{ name: day, per: [user], tokens: 4_000, every: day, alerts: [50] }]";
    let redis = Server::start(Engine::Redis, &[]).expect("redis-server starts");
    for ledger in ["", "ledger: off\n"] {
        for (number, (path, words)) in [
            (
                "/tallygate/v1/settle",
                json!({ "usage": { "tokens": 2_500 } }),
            ),
            (
                "/tallygate/v1/extend",
                json!({ "demand": { "tokens": 2_500 } }),
            ),
        ]
        .into_iter()
        .enumerate()
        {
            let prefix = format!("{number}{}", ledger.len());
            let elsewhere = format!("store: \"{}?prefix={prefix}\"\n{ledger}{HALF}", redis.url());
            for settings in [&format!("{ledger}{HALF}"), &elsewhere] {
                let world = World::new(settings).await;
                let mut listener = listening(&world).await;
                grow(&world, path, words.clone()).await;
                let (kind, event) = message(&mut listener).await;
                assert_eq!(kind, "limit.threshold");
                assert_eq!(event["data"]["subject"], json!({ "user": "ann" }));
            }
        }
    }
}

/// What a stream asks for on its way and is denied is a denial like any other.
#[tokio::test]
async fn a_denied_extension_is_told_of() {
    let settings = TOKENS.replace("alerts: [50]", "alerts: []");
    let world = World::new(&settings).await;
    let mut listener = listening(&world).await;
    let call = ApiCall::chat("gpt-4o", "Hello world").output(6_000);
    assert_eq!(world.call(&call.streamed()).await.status, 200);
    let (kind, event) = message(&mut listener).await;
    let said = (kind.as_str(), &event["data"]["limit"]);
    assert_eq!(said, ("limit.denied", &json!("day")));
}

/// So is what a reservation of the decision API asks for on its way, whether it could ever fit or not.
#[tokio::test]
async fn a_denied_extension_of_a_reservation_is_told_of() {
    let redis = Server::start(Engine::Redis, &[]).expect("redis-server starts");
    let day = "limits: [{ name: day, per: [user], tokens: 4_000, every: day, alerts: [] }]";
    for (more, status) in [(3_500, 429), (5_000, 422)] {
        let elsewhere = format!("store: \"{}?prefix={more}\"\n{day}", redis.url());
        for settings in [day, &elsewhere] {
            let world = World::new(settings).await;
            let mut listener = listening(&world).await;
            let ask = json!({ "subject": { "user": "ann" }, "demand": { "tokens": 900 } });
            let made = world.post("/tallygate/v1/reserve", ask.to_string()).await;
            let held = made.json()["reservation"].clone();
            let made = world.post("/tallygate/v1/reserve", ask.to_string()).await;
            assert_eq!(made.status, 200, "{}", made.json());
            let ask = json!({ "reservation": held, "demand": { "tokens": more } });
            let reply = world.post("/tallygate/v1/extend", ask.to_string()).await;
            assert_eq!(reply.status, status, "{}", reply.json());
            let (kind, event) = message(&mut listener).await;
            let said = (kind.as_str(), &event["data"]["limit"]);
            assert_eq!(said, ("limit.denied", &json!("day")));
            assert_eq!(event["data"]["subject"], json!({ "user": "ann" }));
        }
    }
}

const INSTEAD: &str = "
models: { gpt-4o-mini: { upstream: openai, output_estimate: max_tokens } }
tiers: { free: { models: [gpt-4o-mini], downgrade: [gpt-4o-mini] } }
identify: { trust_headers: true }";

/// A model in place of one that the tier lacks is a downgrade; whoever asks for many is told of once.
#[tokio::test]
async fn a_model_in_place_of_another_is_told_of_once_for_a_tier() {
    let world = World::new(INSTEAD).await;
    let mut listener = listening(&world).await;
    for model in ["gpt-4o", "o3"] {
        let call = ApiCall::chat(model, "Hi").header("x-tallygate-tier", "free");
        assert_eq!(world.call(&call).await.status, 200);
    }
    let call = ApiCall::chat("gpt-4o", "Hi").header("x-tallygate-tier", "gone");
    assert_eq!(world.call(&call).await.status, 403);
    let (kind, event) = message(&mut listener).await;
    assert_eq!(kind, "call.downgraded");
    let data = &event["data"];
    let told = [&data["tier"], &data["asked"], &data["model"]];
    assert_eq!(told, ["free", "other", "gpt-4o-mini"]);
    let (_mock, running) = world.stop();
    within(running).await.expect("a task").expect("an end");
    while let Ok(Some(more)) = within(listener.chunk()).await {
        assert!(!more.starts_with(b"event: call"), "told twice");
    }
}

#[tokio::test]
async fn an_end_waits_for_no_listener() {
    let world = World::new(DAY).await;
    let mut listener = listening(&world).await;
    let (_mock, running) = world.stop();
    within(running).await.expect("a task").expect("an end");
    while let Ok(Some(_)) = within(listener.chunk()).await {}
}

#[tokio::test]
async fn a_webhook_is_told_and_one_that_hangs_holds_up_nobody() {
    let hook = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let silent = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let at = |listener: &TcpListener| listener.local_addr().expect("an address").port();
    let world = World::new(&format!(
        "{DAY}\nwebhooks: [{{ url: \"http://127.0.0.1:{}/hook\", secret: \"a secret for the test\" }}, {{ url: \"http://127.0.0.1:{}/\" }}]",
        at(&hook),
        at(&silent),
    ))
    .await;
    assert_eq!(spend(&world, 10).await, 200);
    assert_eq!(spend(&world, 1).await, 429);
    let (mut stream, _) = within(hook.accept()).await.expect("a call");
    let mut text = String::new();
    while !text.contains("\"limit.threshold\"") || !text.ends_with('}') {
        let mut piece = [0; 4096];
        let length = within(stream.read(&mut piece)).await.expect("a request");
        assert_ne!(length, 0, "it broke off: {text}");
        text.push_str(&String::from_utf8_lossy(&piece[..length]));
    }
    assert!(text.starts_with("POST /hook HTTP/1.1\r\n"), "{text}");
    assert!(text.contains("webhook-signature: v1,"), "{text}");
    assert!(text.contains("\"percent\":95"), "{text}");
    let answer = b"HTTP/1.1 204 No Content\r\n\r\n";
    stream.write_all(answer).await.expect("a receiver");
    within(async {
        while !world
            .metrics()
            .contains("tallygate_webhook_events_total{outcome=\"delivered\"} 1")
        {
            tokio::task::yield_now().await;
        }
    })
    .await;
}
