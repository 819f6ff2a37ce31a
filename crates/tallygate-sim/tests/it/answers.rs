//! Answers: their texts, counts and endings, in each dialect.

use tallygate_sim::{ApiCall, MockOptions, client};
use tallygate_tokens::{Counter, Endpoint};

use crate::support::Bench;

const TEXTUAL: [(Endpoint, &str); 5] = [
    (Endpoint::ChatCompletions, "gpt-4o"),
    (Endpoint::Responses, "gpt-4o-mini"),
    (Endpoint::Completions, "gpt-3.5-turbo-instruct"),
    (Endpoint::Messages, "claude-sonnet-4-5"),
    (Endpoint::GenerateContent, "gemini-2.5-flash"),
];

#[tokio::test]
async fn the_count_of_a_text_is_what_its_usage_says() {
    let bench = Bench::new().await;
    let counter = Counter::new([0, 0], 0);
    for (endpoint, model) in TEXTUAL {
        for tokens in [0, 1, 2, 17, 213] {
            let call = ApiCall::new(endpoint, model, "Name a colour.")
                .max_tokens(500)
                .output(tokens);
            let answer = bench.call(&call).await.answer();
            let told = answer.usage.unwrap();
            assert_eq!(
                told.output,
                counter.output(model, answer.text()),
                "{model} {tokens}"
            );
            assert!(told.output <= tokens, "{model} {tokens}");
            if model.starts_with("gpt") {
                assert_eq!(told.output, tokens, "{model}");
            }
            assert!(answer.complete);
        }
    }
}

#[tokio::test]
async fn a_stream_says_what_the_whole_answer_says() {
    let bench = Bench::new().await;
    for (endpoint, model) in TEXTUAL {
        let call = ApiCall::new(endpoint, model, "Tell me a story.")
            .max_tokens(300)
            .output(41);
        let whole = bench.call(&call).await.answer();
        let streamed = match endpoint {
            Endpoint::GenerateContent => {
                ApiCall::new(Endpoint::StreamGenerateContent, model, "Tell me a story.")
                    .max_tokens(300)
                    .output(41)
            }
            Endpoint::ChatCompletions | Endpoint::Completions => call.streamed_with_usage(),
            _ => call.streamed(),
        };
        let reply = bench.call(&streamed).await;
        assert_eq!(reply.answer(), whole, "{model}");
    }
}

#[tokio::test]
async fn usage_comes_in_a_chat_stream_only_when_asked_for() {
    let bench = Bench::new().await;
    let call = ApiCall::chat("gpt-4o", "Hi").output(3);
    let silent = bench.call(&call.clone().streamed()).await;
    assert_eq!(silent.answer().usage, None);
    assert!(!String::from_utf8_lossy(&silent.body).contains("usage"));
    let reply = bench.call(&call.streamed_with_usage()).await;
    let events = client::events(&reply.body);
    let last = &events[events.len() - 2].data;
    assert!(last.contains(r#""choices":[],"usage":{"#), "{last}");
    assert_eq!(events[events.len() - 1].data, "[DONE]");
}

#[tokio::test]
async fn the_same_prompt_has_the_same_answer_and_another_seed_another() {
    let (one, two) = (Bench::new().await, Bench::new().await);
    let other = Bench::with(MockOptions {
        seed: 9,
        ..MockOptions::default()
    })
    .await;
    let call = ApiCall::chat("gpt-4o", "Tell me a story.");
    let answer = one.call(&call).await.answer();
    assert_eq!(
        answer,
        two.call(&call.clone().with("user", "someone".into()))
            .await
            .answer()
    );
    assert_ne!(answer, other.call(&call).await.answer());
    assert_ne!(
        answer,
        one.call(&ApiCall::chat("gpt-4o", "Tell me a tale."))
            .await
            .answer()
    );
}

#[tokio::test]
async fn max_tokens_cuts_a_text_off_and_says_so() {
    let bench = Bench::new().await;
    let words = [
        ("length", "stop"),
        ("incomplete", "completed"),
        ("length", "stop"),
        ("max_tokens", "end_turn"),
        ("MAX_TOKENS", "STOP"),
    ];
    for ((endpoint, model), (cut, done)) in TEXTUAL.into_iter().zip(words) {
        let call = ApiCall::new(endpoint, model, "Go on.").max_tokens(10);
        assert_eq!(
            bench
                .call(&call.clone().output(11))
                .await
                .answer()
                .finish
                .as_deref(),
            Some(cut)
        );
        assert_eq!(
            bench
                .call(&call.output(10))
                .await
                .answer()
                .finish
                .as_deref(),
            Some(done)
        );
    }
}

#[tokio::test]
async fn blanks_between_the_parts_of_a_prompt_do_not_matter() {
    let bench = Bench::new().await;
    let told = |body: &'static str| {
        let mut request = bench
            .client
            .request(http::Method::POST, "/v1/chat/completions", body.into())
            .unwrap();
        request.headers_mut().insert(
            "content-type",
            http::HeaderValue::from_static("application/json"),
        );
        let client = bench.client.clone();
        async move {
            client
                .send(request)
                .await
                .unwrap()
                .read()
                .await
                .unwrap()
                .answer()
                .texts
        }
    };
    let dense = told(r#"{"model":"gpt-4o","messages":[{"role":"user","content":"a \" b"}]}"#).await;
    let loose = told("{\"model\": \"gpt-4o\", \"messages\": [ {\"role\": \"user\",\n \"content\": \"a \\\" b\"}]}").await;
    let other = told(r#"{"model":"gpt-4o","messages":[{"role":"user","content":"a \"b"}]}"#).await;
    assert_eq!(dense, loose);
    assert_ne!(dense, other);
}

#[tokio::test]
async fn a_response_that_goes_on_counts_what_came_before() {
    let bench = Bench::new().await;
    let call = |prompt| ApiCall::new(Endpoint::Responses, "gpt-4o", prompt).output(12);
    let first = bench.call(&call("Name a sea.")).await.answer();
    let alone = bench
        .call(&call("And another."))
        .await
        .answer()
        .usage
        .unwrap();
    let going_on = |id: &str| call("And another.").with("previous_response_id", id.into());
    let next = bench
        .call(&going_on(&first.id.unwrap()))
        .await
        .answer()
        .usage
        .unwrap();
    let before = first.usage.unwrap();
    assert_eq!(next.input, alone.input + before.input + before.output);
    assert_eq!(bench.call(&going_on("resp_unknown")).await.status, 400);
}
