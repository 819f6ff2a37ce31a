//! What a running server's metrics say of the calls it served and refused.

use serde_json::{Value, json};
use tallygate_sim::ApiCall;
use tallygate_tokens::Endpoint;

use crate::world::World;

const LIMITS: &str = "\
models: { gpt-4o: { upstream: openai, output_estimate: max_tokens } }
limits: [{ name: all, requests: 2, tokens: 100_000, every: 8000h }]";

fn metrics(world: &World) -> String {
    world.server.observer().render(world.server.store().stats())
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
    ApiCall::new(Endpoint::ChatCompletions, "gpt-4o", "a secret text")
        .output(30)
        .max_tokens(100)
}

#[tokio::test]
async fn calls_and_denials_are_counted() {
    let world = World::new(LIMITS).await;
    let whole = world.call(&chat()).await;
    let streamed = world.call(&chat().streamed()).await;
    assert_eq!((whole.status, streamed.status), (200, 200));
    assert_eq!(world.call(&chat()).await.status, 429);
    world.settled().await;
    let text = metrics(&world);
    let usage = whole.answer().usage.expect("usage");
    for (series, wanted) in [
        (
            r#"tallygate_decisions_total{door="gateway",decision="admit",reason="room"}"#,
            2,
        ),
        (
            r#"tallygate_decisions_total{door="gateway",decision="deny",reason="limit"}"#,
            1,
        ),
        (
            r#"tallygate_limit_decisions_total{limit="all",metric="requests",decision="deny"}"#,
            1,
        ),
        (r#"tallygate_reserved_total{metric="output_tokens"}"#, 200),
        (
            r#"tallygate_settled_total{metric="output_tokens"}"#,
            2 * usage.output,
        ),
        (
            r#"tallygate_returned_total{metric="output_tokens"}"#,
            200 - 2 * usage.output,
        ),
        (
            r#"tallygate_reservations_ended_total{outcome="settled"}"#,
            2,
        ),
        (
            r#"tallygate_upstream_responses_total{upstream="openai",status="200"}"#,
            2,
        ),
        (r#"tallygate_stage_seconds_count{stage="identify"}"#, 3),
        (r#"tallygate_stage_seconds_count{stage="size"}"#, 3),
        (r#"tallygate_stage_seconds_count{stage="admit"}"#, 3),
        (r#"tallygate_stage_seconds_count{stage="settle"}"#, 2),
        ("tallygate_reservations_open", 0),
    ] {
        assert_eq!(
            value(&text, series),
            Some(wanted.to_string()),
            "{series} in\n{text}"
        );
    }
    let labels = r#"{gen_ai_operation_name="chat",gen_ai_provider_name="openai",gen_ai_request_model="gpt-4o"}"#;
    let count = |name: &str| value(&text, &format!("{name}_count{labels}"));
    assert_eq!(
        count("gen_ai_server_request_duration_seconds").as_deref(),
        Some("2"),
        "{text}"
    );
    assert_eq!(
        count("gen_ai_server_time_to_first_token_seconds").as_deref(),
        Some("1"),
        "of the streamed one"
    );
    assert!(!text.contains("secret"), "{text}");
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
