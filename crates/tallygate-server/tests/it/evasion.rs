//! Ways round the limits, and to the provider's key, that are closed.

use http::{Method, Request};
use http_body_util::Full;
use serde_json::{Value, json};
use tallygate_core::Metric;
use tallygate_sim::{ApiCall, Client, Reply};

use crate::admin_api;
use crate::calls::echo;
use crate::http::ask_with;
use crate::usage::report;
use crate::world::{LIMITS, World, config, within};

const KEYS: &str = "
keys: [{ id: a, hash: \"sha256:2bb80d537b1da3e38bd30361aa855686bde0eacd7162fef6a25fe97bf527a25b\" }]"; // of "secret"

const REQUESTS: &str = "limits: [{ name: all, requests: 1000, every: 8000h }]";

const CHAT: &str =
    r#"{"model": "gpt-4o", "messages": [{"role": "user", "content": "Hi"}], "max_tokens": 30}"#;

/// Sends a body by `method` to `path`.
async fn send(client: &Client, method: Method, path: &str) -> Reply {
    let request = client
        .request(method, path, CHAT.to_owned().into())
        .expect("a request");
    let opened = within(client.send(request)).await.expect("an answer");
    within(opened.read()).await.expect("a body")
}

#[tokio::test]
async fn a_disguised_path_reaches_no_provider() {
    let world = World::new(LIMITS).await;
    for path in [
        "/v1//chat/completions",
        "/v1/chat/completions/",
        "/v1/%63hat/completions",
        "/v1/x/../chat/completions",
        "/v1/../../other/account",
        "/v1beta/models/gemini-2.5-flash%3AgenerateContent",
        "/v1beta/models/x%2Fgemini-2.5-pro:generateContent",
        "/v1beta/models/x/gemini-2.5-pro:generateContent",
        "/v1beta/models/;gemini-2.5-pro:generateContent",
        "/v1beta/models/gemini-2.5-pro:GenerateContent",
        "/v1/engines/gpt-4o/completions",
    ] {
        let reply = send(&world.client, Method::POST, path).await;
        assert_eq!(reply.status, 404, "{path}");
        if path != "/v1/../../other/account" {
            let message = reply.json()["error"]["message"].to_string();
            assert!(message.contains("write it so"), "{path}: {message}");
        }
    }
    assert!(world.mock.received().is_empty());
    assert_eq!(world.used(Metric::REQUESTS, &[]).await, 0);
}

#[tokio::test]
async fn only_methods_of_an_api_are_handed_on() {
    let world = World::new(LIMITS).await;
    for method in ["TRACE", "PURGE", "get"] {
        let mut request = Request::new(Full::default());
        *request.method_mut() = method.parse().expect("a method");
        *request.uri_mut() = format!("{}/v1/models", world.base).parse().expect("a path");
        let opened = within(world.client.send(request)).await.expect("an answer");
        let reply = within(opened.read()).await.expect("a body");
        assert_eq!(reply.status, 405, "{method}");
    }
    let client = world
        .client
        .clone()
        .with_header("x-http-method-override", "POST");
    send(&client, Method::GET, "/v1/chat/completions").await;
    let received = world.mock.received();
    assert_eq!(received.len(), 1, "{received:?}");
    assert!(!received[0].headers.contains_key("x-http-method-override"));
}

#[tokio::test]
async fn a_key_in_the_query_goes_to_no_provider() {
    let world = World::new(&format!("{LIMITS}{KEYS}")).await;
    for (method, path) in [
        (Method::GET, "/v1/models?key=secret&limit=2"),
        (Method::GET, "/v1/models?limit=2&key=secret"),
        (Method::POST, "/v1/chat/completions?limit=2&key=secret"),
    ] {
        send(&world.client, method, path).await;
    }
    let received = world.mock.received();
    assert_eq!(received.len(), 3);
    for request in received {
        assert!(request.path.ends_with("?limit=2"), "{}", request.path);
    }
}

#[tokio::test]
async fn a_callers_own_key_in_the_query_passes_where_there_is_no_other() {
    let world = World::new(LIMITS).await;
    let upstream = format!(
        "upstreams: {{ gemini: {{ dialect: gemini, base_url: \"http://{}\" }} }}",
        world.mock.addr()
    );
    let keyless = World::with_config(crate::world::config(&upstream, REQUESTS)).await;
    let path = "/v1beta/models?key=theirs";
    send(&keyless.client, Method::GET, path).await;
    let received = world.mock.received();
    assert_eq!(received.len(), 1);
    assert_eq!(received[0].path, path);
}

#[tokio::test]
async fn a_compressed_body_is_refused_for_what_it_is() {
    let world = World::new(LIMITS).await;
    let client = world.client.clone().with_header("content-encoding", "gzip");
    let reply = within(client.call(&ApiCall::chat("gpt-4o", "Hi")))
        .await
        .expect("an answer");
    assert_eq!(reply.status, 400);
    let message = reply.json()["error"]["message"].to_string();
    assert!(message.contains("content-encoding"), "{message}");
    assert!(world.mock.received().is_empty());
}

#[tokio::test]
async fn a_models_name_has_no_control_characters() {
    let world = World::new(LIMITS).await;
    let reply = world.call(&ApiCall::chat("gpt-4o\u{1b}[31m", "Hi")).await;
    assert_eq!(
        (reply.status, reply.json()["error"]["param"].as_str()),
        (400, Some("model"))
    );
    assert!(world.mock.received().is_empty());
}

/// The keys of a free user, who has one model, of one who has all of them up to a budget, and of one whom nothing bounds.
const TIERS: &str = "
models: { gpt-4o-mini: { upstream: openai, output_estimate: max_tokens } }
tiers:
  free: { models: [gpt-4o-mini], limits: [{ name: free-day, per: [user], requests: 100, every: day }] }
  paid: { limits: [{ name: spend, when: { model: gpt-4o-mini }, per: [tenant], cost: 1.00, every: month }] }
  open: { limits: [{ name: watched, cost: 1.00, every: month, mode: shadow }] }
keys:
  - { id: a, hash: \"sha256:2bb80d537b1da3e38bd30361aa855686bde0eacd7162fef6a25fe97bf527a25b\", subject: { tier: free } }
  - { id: b, hash: \"sha256:268ad70eb5bc4737a2ae28162cbca30118cc94520e49ef1ac5f72c85d3f2caa9\", subject: { tier: paid } }
  - { id: c, hash: \"sha256:2348f998744212575d85959674f9607ab26f67708a917157472832386337c904\", role: [call, admin], subject: { tier: open } }
"; // of "secret", "paid" and "open"

/// Paths of calls that generate what nobody here can count.
const UNREAD: [&str; 6] = [
    "/v1/batches",
    "/v1/messages/batches",
    "/v1/images/generations",
    "/v1/audio/speech",
    "/v1/threads/runs",
    "/v1beta/models/gemini-2.5-pro:batchGenerateContent",
];

#[tokio::test]
async fn what_nobody_can_size_does_not_escape_a_budget_or_a_tier() {
    let world = World::new(TIERS).await;
    let (free, paid) = (
        world.client.clone().with_key("secret"),
        world.client.clone().with_key("paid"),
    );
    for path in UNREAD {
        for (client, why) in [(&free, "the tier `free`"), (&paid, "the limit `spend`")] {
            let reply = send(client, Method::POST, path).await;
            assert_eq!(reply.status, 403, "{path}");
            let message = reply.json()["error"]["message"].to_string();
            let mend = "`passthrough: allow`";
            assert!(message.contains(why) && message.contains(mend), "{message}");
        }
    }
    assert!(world.mock.received().is_empty());
    // What generates nothing passes, and so does everything for whom nothing is counted.
    for (client, method, path) in [
        (&free, Method::GET, "/v1/batches"),
        (&free, Method::POST, "/v1/files"),
        (&paid, Method::DELETE, "/v1/responses/resp_1"),
        (&paid, Method::POST, "/v1/responses/resp_1/cancel"),
        (
            &world.client.clone().with_key("open"),
            Method::POST,
            "/v1/batches",
        ),
    ] {
        send(client, method, path).await;
        assert_eq!(world.mock.received().last().expect("one").path, path);
    }
    let report = administer(&world, "/api/usage?by=outcome,limit").await;
    let rows = report["rows"].as_array().expect("rows").iter();
    let denied = |limit| {
        let key = json!({ "outcome": "denied", "limit": limit });
        rows.clone().find(|row| row["key"] == key).expect("a row")["calls"].clone()
    };
    assert_eq!((denied(""), denied("spend")), (6.into(), 6.into()));
    let counted = "door=\"gateway\",decision=\"deny\",reason=\"unsized_call\"} 12";
    let metrics = world.metrics();
    assert!(metrics.contains(counted), "{metrics}");
}

/// What the admin listener says to the key `open`.
async fn administer(world: &World, path: &str) -> Value {
    let headers = ["host: 127.0.0.1", "authorization: Bearer open"];
    let answer = ask_with(world.admin_addr(), &format!("GET {path}"), &headers).await;
    assert_eq!(answer.status, 200, "{}", answer.body);
    serde_json::from_str(&answer.body).expect("JSON")
}

/// To each caller `explain` gives the reason that the gateway gives, whatever call is asked about.
#[tokio::test]
async fn explain_tells_whose_calls_that_nobody_can_size_are_refused() {
    let world = World::new(TIERS).await;
    for (key, tier, why) in [
        (
            "secret",
            "free",
            Some("the tier `free` has some models only"),
        ),
        ("paid", "paid", Some("the limit `spend` counts cost")),
        ("open", "open", None),
    ] {
        for call in ["", "&model=gpt-4o", "&endpoint=embeddings&downgraded=yes"] {
            let told = administer(&world, &format!("/api/explain?tier={tier}{call}")).await;
            let at = |name: &str| json!({ "upstream": name, "passthrough": "guarded", "refused_because": why });
            let all = [at("openai"), at("anthropic"), at("gemini")];
            assert_eq!(told["unsized_calls"], json!(all), "{tier}{call}");
        }
        let client = world.client.clone().with_key(key);
        let answer = send(&client, Method::POST, "/v1/batches").await;
        let said = answer.json()["error"]["message"].to_string();
        let refused = why.is_some_and(|why| said.contains(why));
        assert_eq!(
            (answer.status == 403, refused),
            (why.is_some(), why.is_some()),
            "{said}"
        );
    }
}

#[tokio::test]
async fn a_tuned_model_and_openais_calls_at_google_are_sized() {
    let world = World::new(TIERS).await;
    let free = world.client.clone().with_key("secret");
    let body = r#"{"contents": [{"role": "user", "parts": [{"text": "Hi"}]}]}"#;
    let request = |path| free.request(Method::POST, path, body.to_owned().into());
    let tuned = request("/v1beta/tunedModels/x:generateContent").expect("a request");
    let opened = within(free.send(tuned)).await.expect("an answer");
    assert_eq!(within(opened.read()).await.expect("a body").status, 403);
    let reply = send(&free, Method::POST, "/v1beta/openai/chat/completions").await;
    assert_eq!(reply.status, 403, "gpt-4o is not in the tier");
    assert!(world.mock.received().is_empty());
    let json = ("content-type", "application/json");
    let paid = world
        .client
        .clone()
        .with_key("paid")
        .with_header(json.0, json.1);
    let reply = send(&paid, Method::POST, "/v1beta/openai/chat/completions").await;
    assert_eq!(reply.status, 200);
    let received = world.mock.received();
    assert_eq!(received.last().expect("one").path, "/v1/chat/completions");
}

#[tokio::test]
async fn an_operator_may_let_all_of_it_pass_and_the_ledger_tells() {
    let upstreams = format!(
        "upstreams: {{ a: {{ dialect: openai, base_url: \"http://{}/v1\", passthrough: allow }} }}",
        echo().await
    );
    let settings = "limits: [{ name: day, tokens: 10, every: day }]";
    let config = config(&upstreams, settings);
    let warned = config.warnings().render();
    assert!(warned.contains("beside the limit `day`"), "{warned}");
    let world = World::with_config(config).await;
    for (method, path) in [
        (Method::POST, "/v1/images/generations"),
        (Method::POST, "/v1/files"),
        (Method::GET, "/v1/models"),
    ] {
        assert_eq!(send(&world.client, method, path).await.status, 200);
    }
    let told = admin_api::ask(&world, None, Method::GET, ("/api/explain", Value::Null)).await;
    assert_eq!(
        told.json()["unsized_calls"],
        json!([{ "upstream": "a", "passthrough": "allow", "refused_because": null }])
    );
    let report = report(&world, "by=outcome").await;
    assert_eq!(report["totals"]["calls"], 3);
    assert_eq!(report["totals"]["unpriced_calls"], 1);
}

#[tokio::test]
async fn a_passing_call_is_recorded_as_the_provider_answered_it() {
    let upstreams = format!(
        "upstreams: {{ a: {{ dialect: openai, base_url: \"http://{}/v1\" }} }}",
        echo().await
    );
    let world = World::with_config(config(&upstreams, REQUESTS)).await;
    for (status, charged) in [("404", 1), ("503", 1), ("429", 1)] {
        let client = world.client.clone().with_header("x-status", status);
        send(&client, Method::GET, "/v1/models").await;
        world.settled().await;
        assert_eq!(world.used(Metric::REQUESTS, &[]).await, charged, "{status}");
    }
    let report = report(&world, "by=outcome").await;
    let rows = report["rows"].as_array().expect("rows").iter();
    let found: Vec<_> = rows
        .map(|row| (&row["key"]["outcome"], &row["calls"]))
        .collect();
    assert_eq!(
        found,
        [
            (&"failed".into(), &2.into()),
            (&"refused".into(), &1.into())
        ]
    );
}
