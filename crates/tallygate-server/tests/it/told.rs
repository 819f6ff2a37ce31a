//! What the metrics tell of calls that went through.

use serde_json::json;
use tallygate_sim::ApiCall;

use crate::world::World;

const LIMITS: &str = "\
models: { gpt-4o: { upstream: openai } }
limits: [{ name: all, per: [user], requests: 3, tokens: 100_000, every: 8000h }]";

#[tokio::test]
async fn calls_denials_and_settlements_are_counted() {
    let world = World::new(LIMITS).await;
    let call = ApiCall::chat("gpt-4o", "Hello world")
        .max_tokens(100)
        .output(50);
    world.call(&call).await;
    world.call(&call.clone().streamed()).await;
    world
        .call(&call.clone().header("x-mock-status", "500"))
        .await;
    world
        .call(&call.clone().streamed().header("x-mock-cut-after", "5"))
        .await;
    assert_eq!(world.call(&call).await.status, 429);
    world.settled().await;
    let body = json!({ "demand": { "tokens": 9 }, "subject": { "user": "alice" } });
    world.post("/tallygate/v1/reserve", body.to_string()).await;
    let told = world.metrics();
    for line in [
        r#"tallygate_decisions_total{door="gateway",decision="admit",reason="room"} 4"#,
        r#"tallygate_decisions_total{door="gateway",decision="deny",reason="limit"} 1"#,
        r#"tallygate_decisions_total{door="decision",decision="admit",reason="room"} 1"#,
        r#"tallygate_limit_decisions_total{limit="all",metric="requests",decision="deny"} 1"#,
        r#"tallygate_reservations_ended_total{outcome="settled"} 3"#,
        r#"tallygate_reservations_ended_total{outcome="cancelled"} 1"#,
        r#"tallygate_reservations_open 1"#,
        r#"tallygate_settled_total{metric="tokens"} 132"#,
        r#"gen_ai_client_token_usage_sum{gen_ai_operation_name="chat",gen_ai_provider_name="openai",gen_ai_request_model="gpt-4o",gen_ai_token_type="output"} 50.0"#,
        r#"gen_ai_server_request_duration_seconds_count{gen_ai_operation_name="chat",gen_ai_provider_name="openai",gen_ai_request_model="gpt-4o",error_type="500"} 1"#,
        r#"error_type="broken_off"} 1"#,
        r#"gen_ai_server_time_to_first_token_seconds_count{"#,
        r#"tallygate_estimate_ratios_count{model="gpt-4o",kind="input",method="framed"} 2"#,
        r#"tallygate_stage_seconds_count{stage="identify"} 5"#,
        r#"tallygate_stage_seconds_count{stage="admit"} 4"#,
        r#"tallygate_stage_seconds_count{stage="settle"} 4"#,
    ] {
        assert!(told.contains(line), "{line} is missing in\n{told}");
    }
    assert!(!told.contains("alice"));
}
