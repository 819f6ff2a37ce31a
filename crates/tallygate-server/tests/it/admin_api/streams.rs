//! Streams that are open when their caller's key is revoked.

use bytes::Bytes;
use http::Method;
use serde_json::{Value, json};
use tallygate_core::Metric;
use tallygate_sim::client::{Opened, events};
use tallygate_sim::{ApiCall, Client};
use tallygate_tokens::Endpoint;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::{administered, ask, made};
use crate::world::{World, config, within};

const LIMITS: &str = "limits: [{ name: all, tokens: 100_000, every: 8000h }]";

/// A stream that has begun and stays open, cut down to what came of it once its key is revoked.
async fn revoked_inside(settings: &str, endpoint: Endpoint, model: &str) -> (World, String) {
    let (world, root) = administered(settings).await;
    let key = made(&world, Some(&root), json!({ "id": "alice" })).await;
    let world = world.keyed(&key);
    let call = ApiCall::new(endpoint, model, "Hello world")
        .output(400)
        .max_tokens(500)
        .streamed()
        .header("x-mock-token-us", "2000");
    let mut opened = within(world.client.open(&call)).await.expect("an answer");
    let mut seen = Vec::new();
    while events(&seen).len() < 10 {
        seen.extend(within(opened.chunk()).await.expect("whole").expect("more"));
    }
    revoke(&world, &root).await;
    while let Some(more) = within(opened.chunk()).await.expect("it does not break off") {
        seen.extend(more);
    }
    world.settled().await;
    (world, String::from_utf8_lossy(&seen).into_owned())
}

async fn revoke(world: &World, root: &str) {
    let alice = ("/api/keys/alice", Value::Null);
    let revoked = ask(world, Some(root), Method::DELETE, alice).await;
    assert_eq!(revoked.status, 200);
}

#[tokio::test]
async fn an_open_stream_ends_with_its_key_where_the_configuration_says_so() {
    let settings = format!("{LIMITS}\nbounds: {{ revoked: cut }}");
    for (endpoint, model) in [
        (Endpoint::ChatCompletions, "gpt-4o"),
        (Endpoint::Responses, "gpt-4o"),
        (Endpoint::Messages, "claude-haiku-4-5"),
        (Endpoint::StreamGenerateContent, "gemini-2.5-flash"),
    ] {
        let (world, text) = revoked_inside(&settings, endpoint, model).await;
        assert!(
            text.contains("he api key was revoked"),
            "{endpoint:?}: {text}"
        );
        let used = world.used(Metric::TOKENS, &[]).await;
        assert!(
            (15..350).contains(&used),
            "{endpoint:?}: paid for what passed: {used}"
        );
    }
}

#[tokio::test]
async fn an_open_stream_outlives_its_key_otherwise() {
    let (world, text) = revoked_inside(LIMITS, Endpoint::ChatCompletions, "gpt-4o").await;
    assert!(
        text.contains("[DONE]") && !text.contains("revoked"),
        "{text}"
    );
    assert!(world.used(Metric::TOKENS, &[]).await >= 400);
}

/// A call that is handed on unread, and its provider, which answers when the test does.
struct Unread {
    world: World,
    root: String,
    provider: TcpStream,
    answer: tokio::task::JoinHandle<Opened>,
}

impl Unread {
    async fn new(settings: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a listener");
        let addr = listener.local_addr().expect("an address");
        let upstreams =
            format!("upstreams: {{ a: {{ dialect: openai, base_url: \"http://{addr}/v1\" }} }}");
        let world = World::with_config(config(&upstreams, settings)).await;
        let root = made(&world, None, json!({ "id": "root", "roles": ["admin"] })).await;
        let key = made(&world, Some(&root), json!({ "id": "alice" })).await;
        let client = Client::new(&world.base);
        let client = client.with_header("authorization", &format!("Bearer {key}"));
        let answer = tokio::spawn(async move {
            let request = client.request(Method::GET, "/v1/files/a/content", Bytes::new());
            let opened = client.send(request.expect("a request"));
            within(opened).await.expect("an answer")
        });
        let (mut provider, _) = within(listener.accept()).await.expect("a call");
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(within(provider.read_u8()).await.expect("a request"));
        }
        Self {
            world,
            root,
            provider,
            answer,
        }
    }

    async fn provides(&mut self, text: &str) {
        let written = self.provider.write_all(text.as_bytes());
        within(written).await.expect("it is read");
    }
}

const HEAD: &str = "HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\n";
const CUT: &str = "bounds: { revoked: cut }";

/// An answer that nobody reads on its way: one that has not begun is refused, one that has breaks off.
#[tokio::test]
async fn what_is_handed_on_unread_ends_with_its_key_too() {
    let mut unread = Unread::new(CUT).await;
    revoke(&unread.world, &unread.root).await;
    unread.provides(HEAD).await;
    unread.provides("all of it.").await;
    let refused = within(unread.answer).await.expect("no panic");
    assert_eq!(refused.status, 401);
    let refused = within(refused.read()).await.expect("a body").json();
    assert_eq!(refused["error"]["message"], "The api key was revoked.");

    let mut unread = Unread::new(CUT).await;
    unread.provides(HEAD).await;
    unread.provides("first").await;
    let mut opened = within(&mut unread.answer).await.expect("no panic");
    assert_eq!(
        within(opened.chunk()).await.expect("whole").expect("more"),
        "first"
    );
    revoke(&unread.world, &unread.root).await;
    unread.provides("other").await;
    assert!(within(opened.chunk()).await.is_err(), "it breaks off");
}

#[tokio::test]
async fn what_is_handed_on_unread_outlives_its_key_otherwise() {
    let mut unread = Unread::new("").await;
    revoke(&unread.world, &unread.root).await;
    unread.provides(HEAD).await;
    unread.provides("all of it.").await;
    let passed = within(unread.answer).await.expect("no panic");
    assert_eq!(passed.status, 200);
    assert_eq!(
        within(passed.read()).await.expect("a body").body,
        "all of it."
    );
}
