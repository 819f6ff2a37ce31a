//! Counts of plain text: against the reference implementation, and against themselves.

use std::time::Duration;

use proptest::prelude::*;
use serde_json::{Value, json};
use tallygate_tokens::{Call, Counter, Endpoint};

fn counter(entries: usize) -> Counter {
    Counter::new([5, 6], entries)
}

/// Counts by OpenAI's own tiktoken 0.14 (Python), with its published vocabularies.
#[test]
fn counts_are_those_of_the_reference() {
    let golden = include_str!("../data/tiktoken.jsonl");
    let counter = counter(0);
    for line in golden.lines() {
        let case: Value = serde_json::from_str(line).expect("valid JSON");
        let times = case["times"].as_u64().unwrap_or(1);
        let text = case["text"]
            .as_str()
            .expect("a text")
            .repeat(times as usize);
        for (model, key) in [("gpt-4", "cl100k"), ("gpt-4o", "o200k")] {
            let tokens = counter.text(model, &text).tokens;
            assert_eq!(Some(tokens), case[key].as_u64(), "{key} {line}");
        }
    }
}

/// Time in a debug build is no measure of speed, but four times the text must not take sixteen
/// times as long: it does for no-break spaces in the crate underneath.
#[test]
fn adversarial_texts_take_linear_time() {
    const SIZE: usize = 1 << 16;
    let counter = counter(0);
    for unit in [
        "a",
        "=",
        " ",
        "\n",
        "\u{A0}1",
        "x\u{A0}\u{A0}",
        "漢",
        "😀",
        "!\n\u{A0}",
    ] {
        let whole = unit.repeat(SIZE / unit.len());
        let quarter = unit.repeat(SIZE / unit.len() / 4);
        let time = |text: &str| least_time(|| counter.text("gpt-4o", text).tokens);
        let (quarter, whole) = (time(&quarter), time(&whole));
        let limit = quarter * 8 + Duration::from_millis(30);
        assert!(
            whole < limit,
            "{unit:?}: {quarter:?} for a quarter, {whole:?} for all"
        );
    }
}

/// The least time of a few tries, against disturbance by other work.
fn least_time(mut work: impl FnMut() -> u64) -> Duration {
    let tries = (0..3).map(|_| {
        let start = thread_time();
        std::hint::black_box(work());
        thread_time().saturating_sub(start)
    });
    tries.min().unwrap_or_default()
}

/// The processor time of this thread where the system tells it, else the time of day.
fn thread_time() -> Duration {
    static START: std::sync::OnceLock<std::time::Instant> = std::sync::OnceLock::new();
    let told = std::fs::read_to_string("/proc/thread-self/schedstat").ok();
    let nanoseconds = told.and_then(|line| line.split(' ').next()?.parse().ok());
    nanoseconds.map_or_else(
        || START.get_or_init(std::time::Instant::now).elapsed(),
        Duration::from_nanos,
    )
}

#[test]
fn a_limit_is_found_out_early() {
    let counter = counter(0);
    let text = "The quick brown fox jumps over the lazy dog. ".repeat(20_000);
    let short = least_time(|| u64::from(counter.text_upto("gpt-4o", &text, 1_000).is_none()));
    assert!(short < Duration::from_millis(50), "{short:?}");
    assert_eq!(counter.text_upto("gpt-4o", &text, 1_000), None);
}

#[test]
fn scaled_limits_agree_with_scaled_counts() {
    let counter = counter(0);
    for model in [
        "claude-sonnet-4-5",
        "claude-opus-4-8",
        "gemini-2.5-pro",
        "unheard-of",
        "gpt-4o",
    ] {
        for words in 0..60 {
            let text = "word ".repeat(words);
            let tokens = counter.text(model, &text).tokens;
            assert_eq!(
                counter.text_upto(model, &text, tokens),
                Some(tokens),
                "{model} {words}"
            );
            if let Some(less) = tokens.checked_sub(1) {
                assert_eq!(
                    counter.text_upto(model, &text, less),
                    None,
                    "{model} {words}"
                );
            }
        }
    }
}

#[test]
fn an_answer_without_usage_is_counted() {
    let counter = counter(0);
    for (endpoint, body, texts) in [
        (
            Endpoint::ChatCompletions,
            json!({"choices": [{"message": {"content": "Hello world", "tool_calls":
                [{"function": {"name": "f", "arguments": "{}"}}]}}, {"message": {"content": null}}]}),
            &["Hello world", "f", "{}"][..],
        ),
        (
            Endpoint::Completions,
            json!({"choices": [{"text": "Hello world"}]}),
            &["Hello world"],
        ),
        (
            Endpoint::Responses,
            json!({"output": [{"type": "message", "content": [{"type": "output_text", "text": "Hi there"}]},
                {"type": "function_call", "name": "f", "arguments": "{}"}]}),
            &["Hi there", "f", "{}"],
        ),
        (
            Endpoint::Messages,
            json!({"content": [{"type": "text", "text": "Hi"}, {"type": "tool_use", "name": "f", "input": {"a": 1}}]}),
            &["Hi", "f", "{\"a\":1}"],
        ),
        (
            Endpoint::GenerateContent,
            json!({"candidates": [{"content": {"parts": [{"text": "Hi"}, {"functionCall": {"name": "f", "args": {}}}]}}]}),
            &["Hi", "f", "{}"],
        ),
    ] {
        let expected: u64 = texts
            .iter()
            .map(|text| counter.output("gpt-4o", text))
            .sum();
        let counted = counter.output_of_body(endpoint, "gpt-4o", body.to_string().as_bytes());
        assert_eq!(counted, Some(expected), "{body}");
    }
    assert_eq!(
        counter.output_of_body(Endpoint::Messages, "gpt-4o", b"<html>"),
        None
    );
}

/// Texts of words, runs and odd characters.
fn text() -> impl Strategy<Value = String> {
    let run = (
        prop::sample::select(vec![
            "a", "=", " ", "\n", "漢", "é", "\u{A0}", "Ab", "\r\n", "9",
        ]),
        1_usize..700,
    )
        .prop_map(|(unit, times)| unit.repeat(times));
    let part = prop_oneof![
        4 => "[a-zA-Z]{1,9} ",
        2 => "\\PC{0,8}",
        1 => "[ \\t\\r\\n.,!?'/0-9-]{0,9}",
        1 => run,
    ];
    prop::collection::vec(part, 0..30).prop_map(|parts| parts.concat())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn limits_and_bounds_agree_with_counts(text in text(), limit in 0_u64..3_000) {
        let counter = counter(0);
        for model in ["gpt-4", "gpt-4o", "claude-opus-4-7"] {
            let tokens = counter.text(model, &text).tokens;
            let expected = (tokens <= limit).then_some(tokens);
            prop_assert_eq!(counter.text_upto(model, &text, limit), expected);
            let body = json!({"model": model, "input": text}).to_string();
            let call = Call::parse(Endpoint::Embeddings, None, body.as_bytes()).expect("valid");
            let (low, high) = counter.bounds(&call);
            prop_assert_eq!(counter.input(&call).tokens, tokens);
            prop_assert!((low..=high).contains(&tokens), "{} not in {}..{}", tokens, low, high);
        }
    }

    #[test]
    fn what_is_remembered_is_what_was_counted(texts in prop::collection::vec(text(), 1..6)) {
        let (without, with) = (counter(0), counter(64));
        let messages: Vec<_> = texts.iter().map(|text| json!({"role": "user", "content": text})).collect();
        for model in ["gpt-4", "gpt-4o"] {
            for end in 1..=messages.len() {
                let body = json!({"model": model, "messages": messages[..end]}).to_string();
                let call = Call::parse(Endpoint::ChatCompletions, None, body.as_bytes()).expect("valid");
                prop_assert_eq!(with.input(&call), without.input(&call));
                prop_assert_eq!(with.input(&call), without.input(&call));
            }
        }
    }
}
