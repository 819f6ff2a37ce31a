//! The ledger of usage: what is recorded of each call, and what is told of it.
mod books;
mod busy;
mod nodes;
mod wide;

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use tallygate_server::Config;
use tallygate_server::config::Ledger;
use tallygate_sim::ApiCall;
use tallygate_store::{MemoryOptions, MemoryStore, Store};

use crate::http::{Answer, ask_with};
use crate::world::World;

/// The answer to `GET /api/usage` with this query.
pub(crate) async fn usage(world: &World, query: &str) -> Answer {
    let line = format!("GET /api/usage?{query}");
    ask_with(world.admin_addr(), &line, &["host: 127.0.0.1"]).await
}

/// The same, as JSON.
pub(crate) async fn report(world: &World, query: &str) -> Value {
    let answer = usage(world, query).await;
    assert_eq!(answer.status, 200, "{}", answer.body);
    serde_json::from_str(&answer.body).expect("JSON")
}

/// The row whose key is this.
fn row<'r>(report: &'r Value, key: &Value) -> &'r Value {
    let rows = report["rows"].as_array().expect("rows").iter();
    let mut found = rows.filter(|row| row["key"] == *key);
    found
        .next()
        .unwrap_or_else(|| panic!("no {key} in {report}"))
}

const LIMITS: &str = "\
models: { gpt-4o: { upstream: openai, output_estimate: max_tokens } }
limits: [{ name: all, requests: 100, tokens: 5_000, every: 8000h }]";

fn chat() -> ApiCall {
    ApiCall::chat("gpt-4o", "Hello world")
        .max_tokens(100)
        .output(50)
}

#[tokio::test]
async fn each_end_of_a_call_is_a_record() {
    let world = World::new(LIMITS).await;
    assert_eq!(world.call(&chat()).await.status, 200);
    assert_eq!(world.call(&chat().streamed()).await.status, 200);
    assert_eq!(
        world
            .call(&chat().header("x-mock-status", "500"))
            .await
            .status,
        500
    );
    assert_eq!(
        world
            .call(&chat().header("x-mock-status", "400"))
            .await
            .status,
        400
    );
    assert_eq!(world.call(&chat().max_tokens(4_950)).await.status, 429);
    assert_eq!(world.call(&chat().max_tokens(6_000)).await.status, 429);
    let report = report(&world, "by=outcome,model,upstream,limit,method").await;
    let key = |outcome: &str, limit: &str| json!({ "outcome": outcome, "model": "gpt-4o", "upstream": "openai", "limit": limit, "method": "exact" });
    let settled = row(&report, &key("settled", ""));
    assert_eq!(settled["calls"], 2);
    assert_eq!(settled["input_tokens"], 2 * 9);
    assert_eq!(settled["output_tokens"], 2 * 50);
    assert_eq!(
        settled["savings"]["refunded_tokens"],
        2 * 50,
        "held 109, used 59"
    );
    let failed = row(&report, &key("failed", ""));
    assert_eq!(
        (&failed["tokens"], &failed["savings"]["refunded_tokens"]),
        (&json!(0), &json!(109))
    );
    assert_eq!(row(&report, &key("refused", ""))["tokens"], 0);
    let denied = row(&report, &key("denied", "all"));
    assert_eq!(denied["savings"]["refused_tokens"], 4_959);
    assert_eq!(
        row(&report, &key("never", "all"))["savings"]["refused_tokens"],
        0,
        "nobody could have had it"
    );
    assert_eq!(report["totals"]["calls"], 6);
    assert_eq!(report["totals"]["unpriced_calls"], 0);
    // 9 tokens at $2.50 and 50 at $10.00 a million, each call rounded up.
    assert_eq!(settled["cost"], 2 * 523);
    // Held at 100 tokens of output.
    assert_eq!(settled["savings"]["refunded_cost"], 2 * (1_023 - 523));
    assert_eq!(
        report["totals"]["cost"],
        2 * 523,
        "9 × 2.50 and 50 × 10.00 dollars a million, rounded up"
    );
    assert_eq!(report["rows"].as_array().map(Vec::len), Some(5));
}

#[tokio::test]
async fn callers_are_told_apart_by_their_labels() {
    let world = World::new(&format!("{LIMITS}\nidentify: {{ trust_headers: true }}")).await;
    for (tenant, user) in [("acme", "alice"), ("acme", "bob"), ("globex", "alice")] {
        let call = chat()
            .header("x-tallygate-tenant", tenant)
            .header("x-tallygate-user", user);
        assert_eq!(world.call(&call).await.status, 200);
    }
    let by_tenant = report(&world, "by=tenant").await;
    assert_eq!(row(&by_tenant, &json!({ "tenant": "acme" }))["calls"], 2);
    let alice = report(
        &world,
        "by=tenant,user&user=alice&tenant=acme&tenant=globex",
    )
    .await;
    assert_eq!(alice["totals"]["calls"], 2);
    assert_eq!(
        row(&alice, &json!({ "tenant": "globex", "user": "alice" }))["tokens"],
        59
    );
    let nobody = report(&world, "by=team&to=2020-01-01").await;
    assert_eq!(nobody["rows"], json!([]));
}

#[tokio::test]
async fn what_a_cheaper_model_saved_is_told() {
    let settings = "\
models:
  gpt-4o: { upstream: openai, output_estimate: max_tokens }
  gpt-4o-mini: { upstream: openai, output_estimate: max_tokens }
  house: { upstream: openai, output_estimate: max_tokens }
tiers:
  pro: { limits: [{ name: pro-day, tokens: 60, every: day }], downgrade: [gpt-4o-mini] }
identify: { trust_headers: true }";
    let world = World::new(settings).await;
    let reply = world.call(&chat().header("x-tallygate-tier", "pro")).await;
    assert_eq!(reply.header("x-tallygate-model"), Some("gpt-4o-mini"));
    let ask = json!({ "subject": { "tier": "pro" }, "model": "gpt-4o", "demand": { "input_tokens": 1_000, "output_tokens": 100 } });
    let held = post(&world, "reserve", &ask).await;
    assert_eq!(held["decision"], "downgrade");
    let usage = json!({ "input_tokens": 1_000, "output_tokens": 100 });
    post(
        &world,
        "settle",
        &json!({ "reservation": held["reservation"], "usage": usage }),
    )
    .await;
    assert_eq!(
        world
            .call(&chat().with("model", "house".into()))
            .await
            .status,
        200
    );
    let report = report(&world, "by=asked,model").await;
    let down = row(
        &report,
        &json!({ "asked": "gpt-4o", "model": "gpt-4o-mini" }),
    );
    assert_eq!(
        (&down["calls"], &down["downgraded"]),
        (&json!(2), &json!(2))
    );
    // $0.15 and $0.60 a million instead of $2.50 and $10.00: 32 for 523, and 210 for 3,500 micro-dollars.
    assert_eq!(down["cost"], 32 + 210);
    assert_eq!(
        down["savings"]["downgraded_cost"],
        (523 - 32) + (3_500 - 210)
    );
    let unpriced = row(&report, &json!({ "asked": "house", "model": "house" }));
    assert_eq!(
        (&unpriced["cost"], &unpriced["unpriced_calls"]),
        (&json!(0), &json!(1))
    );
}

#[tokio::test]
async fn a_passing_request_is_a_call_without_tokens() {
    let world = World::new(LIMITS).await;
    let reply = world
        .client
        .send(
            world
                .client
                .request(http::Method::GET, "/v1/models", "".into())
                .expect("a request"),
        )
        .await;
    drop(reply.expect("an answer").read().await);
    let report = report(&world, "by=outcome,upstream").await;
    let passed = row(
        &report,
        &json!({ "outcome": "settled", "upstream": "openai" }),
    );
    assert_eq!(
        (&passed["calls"], &passed["tokens"]),
        (&json!(1), &json!(0))
    );
}

async fn post(world: &World, operation: &str, body: &Value) -> Value {
    let reply = world
        .post(&format!("/tallygate/v1/{operation}"), body.to_string())
        .await;
    reply.json()
}

#[tokio::test]
async fn each_end_of_a_reservation_is_a_record_of_whoever_reserved() {
    let world = World::new(LIMITS).await;
    let ask = json!({
        "subject": { "tenant": "acme", "user": "alice" }, "model": "gpt-4o",
        "demand": { "input_tokens": 100, "output_tokens": 200 }, "ttl_ms": 60_000,
    });
    let settled = post(&world, "reserve", &ask).await["reservation"].clone();
    let cancelled = post(&world, "reserve", &ask).await["reservation"].clone();
    let usage = json!({ "input_tokens": 90, "output_tokens": 20, "cached_input_tokens": 64, "reasoning_tokens": 7 });
    // A repeated end is no second record.
    for _ in 0..2 {
        post(
            &world,
            "settle",
            &json!({ "reservation": settled, "usage": usage }),
        )
        .await;
        post(&world, "cancel", &json!({ "reservation": cancelled })).await;
    }
    let mut large = ask.clone();
    large["demand"] = json!({ "tokens": 4_950 });
    assert_eq!(post(&world, "reserve", &large).await["decision"], "deny");
    let report = report(&world, "by=tenant,user,model,upstream,outcome").await;
    let key = |outcome| json!({ "tenant": "acme", "user": "alice", "model": "gpt-4o", "upstream": "openai", "outcome": outcome });
    let row_of = |outcome| row(&report, &key(outcome));
    assert_eq!(row_of("settled")["calls"], 1);
    assert_eq!(row_of("settled")["tokens"], 110);
    assert_eq!(row_of("settled")["cached_input_tokens"], 64);
    assert_eq!(row_of("settled")["reasoning_tokens"], 7);
    assert_eq!(row_of("settled")["savings"]["refunded_tokens"], 190);
    assert_eq!(row_of("cancelled")["savings"]["refunded_tokens"], 300);
    assert_eq!(row_of("denied")["savings"]["refused_tokens"], 4_950);
    assert_eq!(report["totals"]["calls"], 3);
}

#[tokio::test]
async fn what_nobody_ends_is_recorded_at_its_deadline() {
    let world = World::new(LIMITS).await;
    let ask =
        json!({ "subject": { "user": "alice" }, "demand": { "input_tokens": 30 }, "ttl_ms": 1 });
    post(&world, "reserve", &ask).await;
    let wanted = json!({ "user": "alice", "outcome": "expired", "method": "kept" });
    let expired = crate::world::within(async {
        loop {
            let report = report(&world, "by=user,outcome,method").await;
            if report["totals"]["calls"] == 1 {
                return report;
            }
        }
    });
    assert_eq!(row(&expired.await, &wanted)["input_tokens"], 30);
}

#[tokio::test]
async fn an_end_of_a_reservation_made_elsewhere_is_a_record_of_whoever_ends_it() {
    let world = World::new(LIMITS).await;
    let id = world.hold(&[("user", "alice")]).await.to_string();
    let body = json!({ "reservation": id, "usage": { "tokens": 40 } });
    post(&world, "settle", &body).await;
    post(&world, "settle", &body).await;
    let report = report(&world, "by=user,model").await;
    let unknown = row(&report, &json!({ "user": "", "model": "" }));
    assert_eq!(
        (&unknown["calls"], &unknown["input_tokens"]),
        (&json!(1), &json!(40))
    );
}

/// Whoever is told of an end that another node, or the process before it, was told of first, records nothing of it.
#[tokio::test]
async fn an_end_that_is_repeated_elsewhere_is_recorded_once() {
    let mut store: Option<Arc<dyn Store>> = None;
    let here = World::with_store(LIMITS, |config| {
        let made = MemoryStore::new(config.policy(), MemoryOptions::default());
        store.insert(made).clone()
    });
    let here = here.await;
    let store = store.expect("it was made");
    let there = World::with_store(LIMITS, |_| Arc::clone(&store)).await;
    let ask = json!({ "subject": { "user": "alice" }, "demand": { "input_tokens": 30 } });
    let usage = json!({ "tokens": 20 });
    for (first, then) in [(&here, &there), (&there, &here)] {
        let id = post(&here, "reserve", &ask).await["reservation"].clone();
        let settle = json!({ "reservation": id, "usage": usage });
        let told = post(first, "settle", &settle).await;
        for world in [then, first, then] {
            assert_eq!(post(world, "settle", &settle).await, told);
        }
        let id = post(&here, "reserve", &ask).await["reservation"].clone();
        for world in [first, then, first] {
            post(world, "cancel", &json!({ "reservation": id })).await;
        }
    }
    for world in [&here, &there] {
        let report = report(world, "by=outcome").await;
        for outcome in ["settled", "cancelled"] {
            let calls = &row(&report, &json!({ "outcome": outcome }))["calls"];
            assert_eq!(*calls, 1, "{report}");
        }
        let charged = "tallygate_settled_total{metric=\"tokens\"} 20";
        assert!(world.metrics().contains(charged), "{}", world.metrics());
    }
}

#[tokio::test]
async fn a_report_is_json_or_csv() {
    let world = World::new(LIMITS).await;
    world.call(&chat()).await;
    let csv = usage(&world, "by=model&format=csv").await;
    assert!(csv.head.contains("content-type: text/csv"), "{}", csv.head);
    let lines: Vec<&str> = csv.body.lines().collect();
    assert!(lines[0].starts_with("model,calls,admitted,denied,downgraded,input_tokens"));
    assert!(lines[1].starts_with("gpt-4o,1,1,0,0,9,"), "{}", lines[1]);
    let told = report(&world, "from=1h&timezone=Europe/Berlin").await;
    assert_eq!(told["timezone"], "Europe/Berlin");
    assert_eq!(told["to"], Value::Null);
    let formulas = told["formulas"].as_object().expect("formulas").keys();
    let savings = told["totals"]["savings"]
        .as_object()
        .expect("savings")
        .keys();
    assert!(formulas.eq(savings));
}

#[tokio::test]
async fn a_wrong_question_is_told_with_its_parameter() {
    let world = World::new(LIMITS).await;
    for (query, field) in [
        ("from=yesterday", "from"),
        ("to=2026-13-01", "to"),
        ("timezone=Mars/Base", "timezone"),
        ("day=2026-11-22", "day"),
        ("by=a,b,c,d,e,f,g,h,i", "by"),
        ("by=user&by=model", "by"),
        ("from=2d&from=1d", "from"),
        ("outcome=settled&outcome=setled", "outcome"),
        ("format=xml", "format"),
    ] {
        let answer = usage(&world, query).await;
        assert_eq!(answer.status, 400, "{query}");
        let told: Value = serde_json::from_str(&answer.body).expect("JSON");
        assert_eq!(told["error"]["field"], field, "{query}: {told}");
    }
}

#[tokio::test]
async fn without_a_ledger_nothing_is_recorded() {
    let world = World::new(&format!("{LIMITS}\nledger: off")).await;
    world.call(&chat()).await;
    let answer = usage(&world, "").await;
    assert_eq!(answer.status, 404);
    assert!(answer.body.contains("ledger: off"), "{}", answer.body);
}

fn kept(ledger: &str) -> Result<Ledger, String> {
    let text = format!("ledger: {ledger}");
    let config = Config::parse(&text, "test.yaml", &|_| None);
    config
        .map(|config| config.ledger())
        .map_err(|errors| errors.render())
}

#[test]
fn what_is_kept_is_said_in_days_or_hours() {
    let hours = |hours: u64| Ok(Ledger::Kept(Duration::from_secs(hours * 3_600)));
    assert_eq!(kept("{}"), hours(90 * 24));
    assert_eq!(kept("{ keep: 400d }"), hours(400 * 24));
    assert_eq!(kept("{ keep: 36h }"), hours(36));
    assert_eq!(kept("off"), Ok(Ledger::Off));
    for wrong in [
        "on",
        "{ keep: 59m }",
        "{ keep: 3661d }",
        "{ keep: -1d }",
        "{ keep: d }",
        "{ for: 1d }",
    ] {
        assert!(kept(wrong).is_err(), "{wrong}");
    }
}
