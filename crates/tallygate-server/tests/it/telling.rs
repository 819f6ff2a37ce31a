//! What a running server's metrics say of failures and of the decision API, and that its document holds.

use serde_json::{Value, json};
use tallygate_sim::ApiCall;
use tallygate_tokens::Endpoint;

use crate::world::World;

const LIMITS: &str = "\
models: { gpt-4o: { upstream: openai, output_estimate: max_tokens } }
limits: [{ name: all, requests: 2, tokens: 100_000, every: 8000h }]";

fn metrics(world: &World) -> String {
    world.metrics()
}

/// The value of the one series with this name and these labels.
fn value(text: &str, series: &str) -> Option<String> {
    let line = text.lines().find(|line| {
        line.strip_prefix(series)
            .is_some_and(|rest| rest.starts_with(' '))
    })?;
    line.rsplit(' ').next().map(str::to_owned)
}

fn chat() -> ApiCall {
    ApiCall::new(Endpoint::ChatCompletions, "gpt-4o", "Hello world")
        .output(30)
        .max_tokens(100)
}

#[tokio::test]
async fn an_upstream_that_is_not_there_is_told_apart() {
    let nowhere = "upstreams: { gone: { dialect: openai, base_url: 'http://127.0.0.1:1/v1' } }";
    let world = World::with_config(crate::world::config(nowhere, "")).await;
    let reply = world.call(&chat()).await;
    assert_eq!(reply.status, 502);
    world.settled().await;
    let text = metrics(&world);
    let series = r#"tallygate_upstream_responses_total{upstream="gone",status="unreachable"}"#;
    assert_eq!(value(&text, series).as_deref(), Some("1"), "{text}");
    let refused = r#"tallygate_refusals_total{door="gateway",reason="unreachable"}"#;
    assert_eq!(value(&text, refused).as_deref(), Some("1"), "{text}");
}

#[tokio::test]
async fn the_decision_api_is_counted_apart() {
    let world = World::new(LIMITS).await;
    let ask =
        json!({ "demand": { "input_tokens": 10, "output_tokens": 5 }, "idempotency_key": "once" })
            .to_string();
    let admitted: Value = world
        .post("/tallygate/v1/reserve", ask.clone())
        .await
        .json();
    world.post("/tallygate/v1/reserve", ask).await;
    let cancel = json!({ "reservation": admitted["reservation"] }).to_string();
    assert_eq!(world.post("/tallygate/v1/cancel", cancel).await.status, 200);
    assert_eq!(
        world
            .post("/tallygate/v1/reserve", "{}".to_owned())
            .await
            .status,
        400
    );
    let text = metrics(&world);
    for (series, wanted) in [
        (r#"tallygate_reserved_total{metric="tokens"}"#, "15"),
        (r#"tallygate_returned_total{metric="tokens"}"#, "15"),
        (
            r#"tallygate_reservations_ended_total{outcome="cancelled"}"#,
            "1",
        ),
        (
            r#"tallygate_refusals_total{door="decision",reason="invalid"}"#,
            "1",
        ),
    ] {
        assert_eq!(
            value(&text, series).as_deref(),
            Some(wanted),
            "{series} in\n{text}"
        );
    }
}

#[tokio::test]
async fn every_documented_decision_path_is_served_with_its_method_and_no_other() {
    let world = World::new(LIMITS).await;
    let document: Value = serde_json::from_str(tallygate_server::admin::OPENAPI).expect("JSON");
    let paths = document["paths"].as_object().expect("paths");
    let decisions = paths
        .iter()
        .filter(|(path, _)| path.starts_with("/tallygate/"));
    let mut asked = 0;
    for (path, methods) in decisions {
        let reply = world.post(path, "{}".to_owned()).await;
        let wanted = if methods.get("post").is_some() {
            400
        } else {
            405
        };
        assert_eq!(reply.status, wanted, "{path}");
        asked += 1;
    }
    assert_eq!(asked, 7, "the operations of the API's reference");
    assert_eq!(
        world
            .post("/tallygate/v1/other", "{}".to_owned())
            .await
            .status,
        404
    );
}
