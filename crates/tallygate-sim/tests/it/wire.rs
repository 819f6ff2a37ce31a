//! The wire, byte for byte: one snapshot an endpoint and form.

use serde_json::json;
use tallygate_sim::{ApiCall, Charging, MockLimit, MockMetric, MockOptions, Reply};
use tallygate_tokens::Endpoint;

use crate::support::Bench;

const CALLS: [(&str, Endpoint, &str); 5] = [
    ("chat", Endpoint::ChatCompletions, "gpt-4o"),
    ("responses", Endpoint::Responses, "gpt-4o"),
    (
        "completions",
        Endpoint::Completions,
        "gpt-3.5-turbo-instruct",
    ),
    ("messages", Endpoint::Messages, "claude-sonnet-4-5"),
    ("gemini", Endpoint::GenerateContent, "gemini-2.5-flash"),
];

/// Numbers that follow from the counting of input, which is not the subject here.
const COUNTED: [&str; 9] = [
    "\"prompt_tokens\":",
    "\"input_tokens\":",
    "\"total_tokens\":",
    "\"promptTokenCount\":",
    "\"totalTokenCount\":",
    "remaining-tokens: ",
    "reset-tokens: ",
    "ratelimit-tokens-remaining: ",
    "input-tokens-remaining: ",
];

/// Status, headers and body, without what the transport adds and without counts of input.
fn written(reply: &Reply) -> String {
    let transport = ["date", "content-length", "transfer-encoding"];
    let headers = reply
        .headers
        .iter()
        .filter(|(name, _)| !transport.contains(&name.as_str()));
    let mut headers: Vec<String> = headers
        .map(|(name, value)| format!("{name}: {}", value.to_str().unwrap()))
        .collect();
    headers.sort();
    let body = String::from_utf8_lossy(&reply.body);
    let text = format!("{}\n{}\n\n{body}", reply.status, headers.join("\n"));
    COUNTED.iter().fold(text, |text, name| masked(&text, name))
}

fn masked(text: &str, name: &str) -> String {
    let mut parts = text.split(name);
    let first = parts.next().unwrap().to_owned();
    parts.fold(first, |out, part| {
        let rest = part.trim_start_matches(|c: char| c.is_ascii_digit() || "msh.".contains(c));
        out + name + "#" + rest
    })
}

fn limited() -> MockOptions {
    let limit = |metric| MockLimit::per_minute(metric, 20_000).charging(Charging::TrueUsage);
    let metrics = [
        MockMetric::Requests,
        MockMetric::Tokens,
        MockMetric::InputTokens,
        MockMetric::OutputTokens,
    ];
    MockOptions {
        limits: metrics.map(limit).to_vec(),
        ..MockOptions::default()
    }
}

#[tokio::test]
async fn whole_answers() {
    for (name, endpoint, model) in CALLS {
        let bench = Bench::with(limited()).await;
        let call = ApiCall::new(endpoint, model, "Hello world")
            .max_tokens(8)
            .output(6);
        insta::assert_snapshot!(format!("{name}_whole"), written(&bench.call(&call).await));
    }
}

#[tokio::test]
async fn streams() {
    for (name, endpoint, model) in CALLS {
        let bench = Bench::with(limited()).await;
        let call = match endpoint {
            Endpoint::GenerateContent => {
                ApiCall::new(Endpoint::StreamGenerateContent, model, "Hello world")
            }
            Endpoint::ChatCompletions => {
                ApiCall::new(endpoint, model, "Hello world").streamed_with_usage()
            }
            _ => ApiCall::new(endpoint, model, "Hello world").streamed(),
        };
        let reply = bench.call(&call.max_tokens(8).output(4)).await;
        insta::assert_snapshot!(format!("{name}_stream"), written(&reply));
    }
}

#[tokio::test]
async fn refusals() {
    for (name, endpoint, model) in CALLS {
        let limits = vec![MockLimit::per_minute(MockMetric::Requests, 1)];
        let bench = Bench::with(MockOptions {
            limits,
            ..MockOptions::default()
        })
        .await;
        let call = ApiCall::new(endpoint, model, "Hello world")
            .max_tokens(8)
            .output(6);
        bench.call(&call).await;
        insta::assert_snapshot!(format!("{name}_refused"), written(&bench.call(&call).await));
    }
}

#[tokio::test]
async fn embeddings_and_counts() {
    let bench = Bench::new().await;
    let call = ApiCall::new(
        Endpoint::Embeddings,
        "text-embedding-3-small",
        "Hello world",
    )
    .with("dimensions", json!(4));
    insta::assert_snapshot!("embeddings", written(&bench.call(&call).await));
    let call = call
        .with("encoding_format", json!("base64"))
        .with("input", json!(["Hello", "world"]));
    insta::assert_snapshot!("embeddings_base64", written(&bench.call(&call).await));
    let call = ApiCall::new(Endpoint::CountTokens, "claude-sonnet-4-5", "Hello world");
    insta::assert_snapshot!("count_tokens", written(&bench.call(&call).await));
}

#[tokio::test]
async fn several_choices() {
    let bench = Bench::new().await;
    let call = ApiCall::chat("gpt-4o", "Hello world")
        .with("n", json!(2))
        .output(3);
    insta::assert_snapshot!("chat_choices_whole", written(&bench.call(&call).await));
    insta::assert_snapshot!(
        "chat_choices_stream",
        written(&bench.call(&call.streamed()).await)
    );
}

#[tokio::test]
async fn gemini_without_events_is_one_array() {
    let bench = Bench::new().await;
    let call = ApiCall::new(
        Endpoint::StreamGenerateContent,
        "gemini-2.5-flash",
        "Hello world",
    )
    .output(3);
    let path = call.path().replace("?alt=sse", "");
    let mut request = bench
        .client
        .request(http::Method::POST, &path, call.body().into())
        .unwrap();
    request
        .headers_mut()
        .insert("content-type", "application/json".parse().unwrap());
    request
        .headers_mut()
        .insert("x-mock-output-tokens", "3".parse().unwrap());
    let reply = bench
        .client
        .send(request)
        .await
        .unwrap()
        .read()
        .await
        .unwrap();
    assert_eq!(reply.json().as_array().unwrap().len(), 3);
    insta::assert_snapshot!("gemini_array", written(&reply));
}
