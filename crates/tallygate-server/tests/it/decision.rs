//! The decision API, as its reference has it.

use serde_json::{Value, json};
use tallygate_core::Metric;

use crate::world::{World, config};

const LIMITS: &str = "\
models: { gpt-4o: { upstream: openai, match: [\"gpt-4o*\"] } }
limits:
  - { name: user-minute, per: [user], requests: 100, tokens: 1_000, every: 8000h }
  - { name: slots, per: [user], concurrency: 2 }
tiers: { free: { models: [gpt-4o] } }";

async fn world() -> World {
    World::new(LIMITS).await
}

async fn ask(world: &World, operation: &str, body: Value) -> (u16, Value) {
    let reply = world
        .post(&format!("/tallygate/v1/{operation}"), body.to_string())
        .await;
    assert_eq!(reply.header("content-type"), Some("application/json"));
    (reply.status, reply.json())
}

fn reserve(input: u64, output: u64) -> Value {
    json!({ "subject": { "user": "alice" }, "model": "gpt-4o-2024-08-06",
            "demand": { "input_tokens": input, "output_tokens": output } })
}

#[tokio::test]
async fn reserve_settle_and_a_repeat() {
    let world = world().await;
    let (status, admitted) = ask(&world, "reserve", reserve(300, 200)).await;
    assert_eq!(status, 200, "{admitted}");
    assert_eq!(admitted["decision"], "admit");
    assert_eq!(admitted["model"], "gpt-4o-2024-08-06");
    assert_eq!(admitted["waited_ms"], 0);
    assert!(admitted["expires_at"].as_str().unwrap().ends_with('Z'));
    assert_eq!(
        admitted["reserved"],
        json!({ "requests": 1, "input_tokens": 300, "output_tokens": 200, "tokens": 500, "cost": 2_750, "concurrency": 1 })
    );
    let tokens = &admitted["limits"][1];
    assert_eq!(
        (&tokens["name"], &tokens["metric"]),
        (&json!("user-minute"), &json!("tokens"))
    );
    assert_eq!(
        (&tokens["limit"], &tokens["remaining"]),
        (&json!(1_000), &json!(500))
    );
    let settle = json!({ "reservation": admitted["reservation"],
        "usage": { "input_tokens": 290, "output_tokens": 100, "cached_input_tokens": 5, "reasoning_tokens": 0 } });
    let (status, settled) = ask(&world, "settle", settle.clone()).await;
    assert_eq!((status, &settled["outcome"]), (200, &json!("settled")));
    assert_eq!(settled["charged"]["tokens"], 390);
    assert_eq!(settled["returned"]["tokens"], 110);
    assert_eq!(settled["debt"], json!({}));
    assert_eq!(ask(&world, "settle", settle).await, (200, settled.clone()));
    let cancel = json!({ "reservation": admitted["reservation"] });
    let (status, standing) = ask(&world, "cancel", cancel).await;
    assert_eq!((status, standing), (409, settled));
    assert_eq!(world.used(Metric::TOKENS, &[("user", "alice")]).await, 390);
}

#[tokio::test]
async fn cancel_gives_all_back() {
    let world = world().await;
    let (_, admitted) = ask(&world, "reserve", reserve(300, 200)).await;
    let (status, receipt) = ask(
        &world,
        "cancel",
        json!({ "reservation": admitted["reservation"] }),
    )
    .await;
    assert_eq!((status, &receipt["outcome"]), (200, &json!("cancelled")));
    assert_eq!(receipt["charged"], json!({}));
    assert_eq!(receipt["returned"]["tokens"], 500);
    assert_eq!(world.used(Metric::TOKENS, &[("user", "alice")]).await, 0);
}

#[tokio::test]
async fn a_denial_names_who_and_when_and_never_says_so() {
    let world = world().await;
    ask(&world, "reserve", reserve(600, 200)).await;
    let (status, denied) = ask(&world, "reserve", reserve(200, 100)).await;
    assert_eq!((status, &denied["decision"]), (429, &json!("deny")));
    assert_eq!(denied["blocked_by"][0]["name"], "user-minute");
    assert_eq!(denied["blocked_by"][0]["remaining"], 200);
    let wait = denied["retry_after_ms"].as_u64().unwrap();
    assert!((1..=100 * 8_000 * 3_600).contains(&wait), "{wait}");
    assert!(denied["retry_at"].is_string());
    let (status, never) = ask(&world, "reserve", reserve(900, 200)).await;
    assert_eq!((status, &never["decision"]), (422, &json!("never")));
    assert_eq!(never["blocked_by"][0]["limit"], 1_000);
    assert_eq!(never["largest_admissible"], json!({ "tokens": 1_000 }));
}

#[tokio::test]
async fn extend_adds_to_the_hold_or_denies() {
    let world = world().await;
    let (_, admitted) = ask(&world, "reserve", reserve(300, 200)).await;
    let more = |tokens: u64| json!({ "reservation": admitted["reservation"], "ttl_ms": 60_000, "demand": { "output_tokens": tokens } });
    let (status, extended) = ask(&world, "extend", more(300)).await;
    assert_eq!(status, 200, "{extended}");
    assert_eq!(extended["reserved"]["tokens"], 800);
    let (status, denied) = ask(&world, "extend", more(201)).await;
    assert_eq!((status, &denied["decision"]), (429, &json!("deny")));
    let (status, _) = ask(
        &world,
        "extend",
        json!({ "reservation": admitted["reservation"] }),
    )
    .await;
    assert_eq!(status, 400);
    let longest = |ttl: u64| json!({ "reservation": admitted["reservation"], "ttl_ms": ttl });
    assert_eq!(ask(&world, "extend", longest(86_400_000)).await.0, 200);
    // The bounds are those of a reserve, and told in the same words.
    for ttl in [0, 86_400_001, 31_622_400_001] {
        let (status, extend) = ask(&world, "extend", longest(ttl)).await;
        let mut body = reserve(1, 1);
        body["ttl_ms"] = ttl.into();
        let (_, reserve) = ask(&world, "reserve", body).await;
        assert_eq!((status, &extend), (400, &reserve));
        assert!(
            extend.to_string().contains("from 1 to 86400000"),
            "{extend}"
        );
    }
}

#[tokio::test]
async fn an_idempotency_key_asks_once() {
    let world = world().await;
    let mut body = reserve(300, 200);
    body["idempotency_key"] = "job-17".into();
    let (_, first) = ask(&world, "reserve", body.clone()).await;
    let (status, second) = ask(&world, "reserve", body).await;
    assert_eq!(
        (status, &second["reservation"]),
        (200, &first["reservation"])
    );
    assert_eq!(second["replayed"], true);
    assert_eq!(world.used(Metric::TOKENS, &[("user", "alice")]).await, 500);
}

#[tokio::test]
async fn a_request_is_sized_as_the_gateway_would() {
    let world = world().await;
    let request = json!({ "model": "gpt-4o", "max_tokens": 40, "messages": [{ "role": "user", "content": "Hello world" }] });
    let (status, admitted) = ask(
        &world,
        "reserve",
        json!({ "subject": { "user": "bob" }, "request": request }),
    )
    .await;
    assert_eq!(status, 200, "{admitted}");
    assert_eq!(admitted["model"], "gpt-4o");
    assert_eq!(
        (
            &admitted["reserved"]["input_tokens"],
            &admitted["reserved"]["output_tokens"]
        ),
        (&json!(9), &json!(40))
    );
    let (_, counted) = ask(&world, "count", json!({ "request": request })).await;
    assert_eq!(counted, json!({ "input_tokens": 9, "method": "framed" }));
    let (_, estimated) = ask(&world, "estimate", json!({ "request": request })).await;
    assert_eq!(
        (
            &estimated["output_tokens"],
            &estimated["output_method"],
            &estimated["total"]
        ),
        (&json!(40), &json!("max_tokens"), &json!(49))
    );
    let (_, counted) = ask(
        &world,
        "count",
        json!({ "model": "gpt-4o", "text": "Hello world" }),
    )
    .await;
    assert_eq!(counted, json!({ "input_tokens": 2, "method": "exact" }));
    let response =
        json!({ "usage": { "prompt_tokens": 9, "completion_tokens": 7, "total_tokens": 16 } });
    let settle = json!({ "reservation": admitted["reservation"], "response": response });
    let (status, settled) = ask(&world, "settle", settle).await;
    assert_eq!((status, &settled["charged"]["tokens"]), (200, &json!(16)));
}

#[tokio::test]
async fn a_lower_bound_returns_nothing() {
    let world = world().await;
    let (_, admitted) = ask(&world, "reserve", reserve(300, 200)).await;
    let settle = json!({ "reservation": admitted["reservation"], "exact": false,
        "usage": { "input_tokens": 300, "output_tokens": 20 } });
    let (_, settled) = ask(&world, "settle", settle).await;
    assert_eq!(settled["charged"]["tokens"], 500);
    assert!(settled["returned"].get("tokens").is_none(), "{settled}");
}

#[tokio::test]
async fn a_shared_slot_is_denied_and_freed_by_settling() {
    let world = world().await;
    let (_, first) = ask(&world, "reserve", reserve(1, 1)).await;
    ask(&world, "reserve", reserve(1, 1)).await;
    let (status, denied) = ask(&world, "reserve", reserve(1, 1)).await;
    assert_eq!(
        (status, &denied["blocked_by"][0]["name"]),
        (429, &json!("slots"))
    );
    ask(
        &world,
        "cancel",
        json!({ "reservation": first["reservation"] }),
    )
    .await;
    assert_eq!(ask(&world, "reserve", reserve(1, 1)).await.0, 200);
}

#[tokio::test]
async fn limits_are_peeked_at() {
    let world = world().await;
    ask(&world, "reserve", reserve(300, 200)).await;
    for _ in 0..2 {
        let reply = world
            .client
            .get("/tallygate/v1/limits?user=alice&model=gpt-4o-mini")
            .await
            .unwrap();
        let limits = reply.json()["limits"].clone();
        assert_eq!(limits[1]["remaining"], 500, "{limits}");
        assert_eq!(limits[1]["window"], "8000h", "{limits}");
        assert_eq!(
            limits[2],
            json!({ "name": "slots", "metric": "concurrency", "limit": 2, "remaining": 1,
            "reset_ms": limits[2]["reset_ms"], "window": limits[2]["window"] })
        );
    }
}

/// Operation, body, and the path of what is wrong with it.
const WRONG: [(&str, &str, &str); 19] = [
    (
        "reserve",
        r#"{"demand": {"tokens": 1}, "modle": "x"}"#,
        "modle",
    ),
    ("reserve", r#"{"demand": {"toknes": 1}}"#, "demand.toknes"),
    ("reserve", r#"{"demand": {"tokens": -1}}"#, "demand.tokens"),
    (
        "reserve",
        r#"{"demand": {"tokens": 9007199254740993}}"#,
        "demand.tokens",
    ),
    (
        "reserve",
        r#"{"demand": {"tokens": 5, "input_tokens": 4}}"#,
        "demand.tokens",
    ),
    (
        "reserve",
        r#"{"demand": {}, "subject": {"user": 7}}"#,
        "subject.user",
    ),
    (
        "reserve",
        r#"{"demand": {}, "subject": {"model": "x"}}"#,
        "subject.model",
    ),
    ("reserve", r#"{"demand": {}, "ttl_ms": 0}"#, "ttl_ms"),
    ("reserve", r#"{"demand": {}, "request": {}}"#, "request"),
    ("reserve", "{}", "demand"),
    (
        "reserve",
        r#"{"request": {"model": "gpt-4o", "messages": 7}}"#,
        "request.messages",
    ),
    (
        "settle",
        r#"{"reservation": "?", "usage": {}}"#,
        "reservation",
    ),
    (
        "settle",
        r#"{"reservation": "00000000000000000000000000"}"#,
        "usage",
    ),
    (
        "settle",
        r#"{"reservation": "00000000000000000000000000", "response": {"id": 1}}"#,
        "response",
    ),
    (
        "settle",
        r#"{"reservation": "00000000000000000000000000", "usage": {"outputs": 1}}"#,
        "usage.outputs",
    ),
    (
        "cancel",
        r#"{"reservation": "00000000000000000000000000", "why": ""}"#,
        "why",
    ),
    ("count", r#"{"model": "gpt-4o"}"#, "text"),
    ("count", r#"{"text": "x"}"#, "model"),
    (
        "estimate",
        r#"{"model": "a", "request": {"model": "b", "messages": []}}"#,
        "model",
    ),
];

#[tokio::test]
async fn what_is_wrong_is_named_by_its_path() {
    let world = world().await;
    for (operation, body, field) in WRONG {
        let reply = world
            .post(&format!("/tallygate/v1/{operation}"), body.to_owned())
            .await;
        let told = reply.json();
        assert_eq!(
            (reply.status, &told["error"]["field"]),
            (400, &json!(field)),
            "{operation} {body}: {told}"
        );
    }
    let reply = world
        .post("/tallygate/v1/reserve", "{\n  \"demand\": }".to_owned())
        .await;
    assert_eq!(reply.status, 400);
    let told = reply.json();
    assert!(
        told["error"]["message"]
            .as_str()
            .unwrap()
            .contains("line 2 column 13"),
        "{told}"
    );
}

#[tokio::test]
async fn unknown_reservations_paths_methods_and_models() {
    let world = world().await;
    let id = "0".repeat(26);
    assert_eq!(
        ask(&world, "settle", json!({ "reservation": id, "usage": {} }))
            .await
            .0,
        404
    );
    assert_eq!(
        ask(&world, "cancel", json!({ "reservation": id })).await.0,
        404
    );
    assert_eq!(ask(&world, "nothing", json!({})).await.0, 404);
    assert_eq!(ask(&world, "limits", json!({})).await.0, 405);
    assert_eq!(
        world
            .client
            .get("/tallygate/v1/reserve")
            .await
            .unwrap()
            .status,
        405
    );
    let body = json!({ "subject": { "tier": "free" }, "model": "o3", "demand": {} });
    assert_eq!(ask(&world, "reserve", body).await.0, 403);
    let long = json!({ "model": "m".repeat(257), "demand": {} });
    assert_eq!(ask(&world, "reserve", long).await.0, 400);
}

#[tokio::test]
async fn a_bound_key_speaks_for_itself_alone() {
    let hash = "sha256:2bb80d537b1da3e38bd30361aa855686bde0eacd7162fef6a25fe97bf527a25b"; // of "secret"
    let caller = "sha256:50d858e0985ecc7f60418aaf0cc5ab587f42c2570a884095a9e8ccacd0f6545c"; // of "example"
    let keys = format!(
        "{LIMITS}\nkeys:\n  - {{ id: acme, hash: \"{hash}\", subject: {{ tenant: acme }}, role: decide }}\n  - {{ id: calls, hash: \"{caller}\" }}"
    );
    let world = World::with_config(config(
        "upstreams: { openai: { dialect: openai, base_url: \"http://127.0.0.1:1/v1\" } }",
        &keys,
    ))
    .await;
    assert_eq!(ask(&world, "reserve", json!({ "demand": {} })).await.0, 401);
    let bound = world.keyed("secret");
    assert_eq!(ask(&bound, "reserve", json!({ "demand": {} })).await.0, 200);
    assert_eq!(
        ask(
            &bound,
            "reserve",
            json!({ "demand": {}, "subject": { "tenant": "acme" } })
        )
        .await
        .0,
        200
    );
    let (status, told) = ask(
        &bound,
        "reserve",
        json!({ "demand": {}, "subject": { "tenant": "other" } }),
    )
    .await;
    assert_eq!(
        (status, &told["error"]["field"]),
        (400, &json!("subject.tenant"))
    );
    let calls = bound.keyed("example");
    assert_eq!(ask(&calls, "reserve", json!({ "demand": {} })).await.0, 403);
}

/// A settlement that names the tokens only says nothing of what else was reserved.
#[tokio::test]
async fn a_settlement_leaves_alone_the_metrics_it_does_not_name() {
    let world = world().await;
    let demand = json!({ "requests": 7, "input_tokens": 10, "output_tokens": 90 });
    let body = json!({ "subject": { "user": "carol" }, "model": "gpt-4o", "demand": demand });
    let (_, admitted) = ask(&world, "reserve", body).await;
    let usage = json!({ "input_tokens": 10, "output_tokens": 20 });
    let settle = json!({ "reservation": admitted["reservation"], "usage": usage });
    let (status, settled) = ask(&world, "settle", settle).await;
    assert_eq!(status, 200, "{settled}");
    assert_eq!(settled["charged"]["requests"], 7);
    assert_eq!(settled["charged"]["tokens"], 30);
    assert_eq!(settled["returned"]["tokens"], 70);
    assert!(settled["returned"].get("requests").is_none(), "{settled}");
    let carol = [("user", "carol")];
    assert_eq!(world.used(Metric::REQUESTS, &carol).await, 7);
    assert_eq!(world.used(Metric::TOKENS, &carol).await, 30);
}

/// Labels end up in reports, in logs and at terminals; so do the messages that refuse them.
#[tokio::test]
async fn no_label_moves_a_cursor_or_turns_a_text() {
    let world = world().await;
    for sly in ["\u{1b}[2J", "a\nb", "\u{9b}2J", "a\u{202e}b"] {
        let value = json!({ "subject": { "user": sly }, "demand": { "tokens": 1 } });
        let (status, told) = ask(&world, "reserve", value).await;
        assert_eq!(
            (status, &told["error"]["field"]),
            (400, &json!("subject.user"))
        );
        let name = json!({ "subject": { sly: "x" }, "demand": { "tokens": 1 } });
        let reply = world.post("/tallygate/v1/reserve", name.to_string()).await;
        assert_eq!(reply.status, 400);
        let text = String::from_utf8_lossy(&reply.body).into_owned();
        assert!(
            !text.contains(['\u{1b}', '\n', '\u{9b}', '\u{202e}']),
            "{text:?}"
        );
        let model = json!({ "model": sly, "demand": { "tokens": 1 } });
        assert_eq!(ask(&world, "reserve", model).await.0, 400);
    }
    assert_eq!(world.used(Metric::REQUESTS, &[("user", "a\nb")]).await, 0);
}

#[tokio::test]
async fn a_part_of_a_usage_is_no_larger_than_its_whole() {
    let world = World::new(LIMITS).await;
    let asked = json!({ "demand": { "input_tokens": 100, "output_tokens": 100 } });
    let (_, admitted) = ask(&world, "reserve", asked).await;
    let settle = |usage: Value| json!({ "reservation": admitted["reservation"], "usage": usage });
    for (usage, field) in [
        (
            json!({ "input_tokens": 100, "cached_input_tokens": 5_000 }),
            "cached_input_tokens",
        ),
        (
            json!({ "input_tokens": 100, "cached_input_tokens": 60, "cache_write_tokens": 41 }),
            "cache_write_tokens",
        ),
        (
            json!({ "output_tokens": 7, "reasoning_tokens": 8 }),
            "reasoning_tokens",
        ),
        (
            json!({ "tokens": 7, "reasoning_tokens": 8 }),
            "reasoning_tokens",
        ),
    ] {
        let (status, refused) = ask(&world, "settle", settle(usage)).await;
        let path = format!("usage.{field}");
        let told = refused.to_string();
        assert!(status == 400 && told.contains(&path), "{status} {told}");
    }
    let all = json!({ "input_tokens": 100, "cached_input_tokens": 60, "cache_write_tokens": 40,
        "output_tokens": 8, "reasoning_tokens": 8 });
    assert_eq!(ask(&world, "settle", settle(all)).await.0, 200);
}
