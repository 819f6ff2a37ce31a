//! What is read from streamed answers, and that their bytes pass unchanged.

use tallygate_tokens::{Counter, Endpoint, MAX_EVENT, Seen, StreamOptions, StreamReader, Usage};

use crate::{corpus, corpus_files};

const KEEP: StreamOptions = StreamOptions {
    drop_usage_chunk: false,
};
const DROP: StreamOptions = StreamOptions {
    drop_usage_chunk: true,
};

fn pass<'a>(
    endpoint: Endpoint,
    options: StreamOptions,
    chunks: impl IntoIterator<Item = &'a [u8]>,
) -> (Seen, Vec<u8>) {
    let mut reader = StreamReader::new(endpoint, options);
    let mut out = Vec::new();
    for chunk in chunks {
        reader.push(chunk, &mut out);
    }
    (reader.finish(&mut out), out)
}

fn seen(endpoint: Endpoint, file: &str) -> Seen {
    let stream = corpus(file);
    let (seen, out) = pass(endpoint, KEEP, [&*stream]);
    assert_eq!(out, stream, "{file} passes unchanged");
    seen
}

fn count(model: &str, texts: &[&str]) -> u64 {
    let counter = Counter::new([0, 0], 0);
    texts.iter().map(|text| counter.output(model, text)).sum()
}

fn some_model(name: &str) -> Option<String> {
    Some(name.to_owned())
}

#[test]
fn a_chat_stream_tells_its_usage() {
    let seen = seen(Endpoint::ChatCompletions, "sse/chat.sse");
    let usage = Usage {
        input_tokens: 19,
        output_tokens: 6,
        cached_input_tokens: 4,
        ..Usage::default()
    };
    assert_eq!(seen.usage, Some(usage));
    assert!(seen.complete);
    assert_eq!(seen.error, None);
    assert_eq!(seen.response_model, some_model("gpt-4o-2024-08-06"));
    assert_eq!(
        seen.output_tokens_counted,
        count("gpt-4o", &["Hello wörld, 你好!"])
    );
}

#[test]
fn a_usage_chunk_nobody_asked_for_is_dropped_and_nothing_else() {
    for (file, line_end) in [
        ("sse/chat.sse", "\n"),
        ("sse/chat-azure.sse", "\n"),
        ("sse/chat-crlf.sse", "\r\n"),
        ("sse/chat-cr.sse", "\r"),
    ] {
        let stream = String::from_utf8(corpus(file)).unwrap();
        let blank = line_end.repeat(2);
        let expected: String = stream
            .split_inclusive(&blank)
            .filter(|event| !(event.contains("\"choices\":[]") && event.contains("\"usage\":{")))
            .collect();
        assert_ne!(expected, stream);
        for step in 1..stream.len() {
            let chunks = stream.as_bytes().chunks(step);
            let (seen, out) = pass(Endpoint::ChatCompletions, DROP, chunks);
            assert_eq!(
                String::from_utf8(out).unwrap(),
                expected,
                "{file} by {step}"
            );
            assert_eq!(seen.usage.map(|usage| usage.input_tokens), Some(19));
        }
    }
}

#[test]
fn usage_beside_content_is_not_dropped() {
    let stream = corpus("sse/chat-usage-in-last-choice.sse");
    let (seen, out) = pass(Endpoint::ChatCompletions, DROP, [&*stream]);
    assert_eq!(out, stream);
    assert_eq!(seen.usage.map(|usage| usage.output_tokens), Some(6));
}

#[test]
fn a_dropping_reader_holds_no_complete_event() {
    let stream = corpus("sse/chat.sse");
    let mut reader = StreamReader::new(Endpoint::ChatCompletions, DROP);
    let mut out = Vec::new();
    let first = stream.windows(2).position(|pair| pair == b"\n\n").unwrap() + 2;
    reader.push(&stream[..first + 9], &mut out);
    assert_eq!(out, stream[..first]);
}

#[test]
fn tool_calls_are_counted_each_for_itself() {
    let seen = seen(Endpoint::ChatCompletions, "sse/chat-tools.sse");
    let texts = [r#"get_weather{"city":"Paris"}"#, "get_time{}"];
    assert_eq!(seen.output_tokens_counted, count("gpt-4o", &texts));
    assert_eq!((seen.usage, seen.complete), (None, true));
}

#[test]
fn an_error_event_tells_its_type_only() {
    for (endpoint, file, kind) in [
        (
            Endpoint::ChatCompletions,
            "sse/chat-error.sse",
            "server_error",
        ),
        (
            Endpoint::Responses,
            "sse/responses-failed.sse",
            "server_error",
        ),
        (
            Endpoint::Responses,
            "sse/responses-error.sse",
            "rate_limit_exceeded",
        ),
        (
            Endpoint::Messages,
            "sse/messages-overloaded.sse",
            "overloaded_error",
        ),
        (
            Endpoint::StreamGenerateContent,
            "sse/gemini-error.json",
            "UNAVAILABLE",
        ),
        (
            Endpoint::ChatCompletions,
            "sse/object.json",
            "invalid_request_error",
        ),
    ] {
        assert_eq!(seen(endpoint, file).error.as_deref(), Some(kind), "{file}");
    }
    let prose = br#"data: {"error":{"type":"the prompt was: tell me"}}"#;
    let (seen, _) = pass(Endpoint::ChatCompletions, KEEP, [&prose[..]]);
    assert_eq!(seen.error.as_deref(), Some("error"));
}

#[test]
fn legacy_completions_stream_too() {
    let seen = seen(Endpoint::Completions, "sse/completions.sse");
    assert_eq!(seen.usage.map(|usage| usage.output_tokens), Some(2));
    assert_eq!(seen.output_tokens_counted, 2);
    let (_, out) = pass(
        Endpoint::Completions,
        DROP,
        [&*corpus("sse/completions.sse")],
    );
    assert!(!String::from_utf8(out).unwrap().contains("usage"));
}

#[test]
fn a_responses_stream_tells_usage_in_its_terminal_event() {
    let seen = seen(Endpoint::Responses, "sse/responses.sse");
    let usage = Usage {
        input_tokens: 37,
        output_tokens: 75,
        cached_input_tokens: 32,
        reasoning_tokens: 64,
        ..Usage::default()
    };
    assert_eq!(seen.usage, Some(usage));
    assert!(seen.complete);
    assert_eq!(seen.output_tokens_counted, count("gpt-5", &["Hi there!"]));
}

#[test]
fn a_terminal_event_of_megabytes_is_read() {
    let text = "word ".repeat(700_000);
    let stream = format!(
        "event: response.completed\ndata: {{\"type\":\"response.completed\",\"response\":\
         {{\"output\":\"{text}\",\"usage\":{{\"input_tokens\":1,\"output_tokens\":2}}}}}}\n\n"
    );
    assert!(stream.len() > 3 << 20 && stream.len() < MAX_EVENT);
    let (seen, out) = pass(Endpoint::Responses, KEEP, stream.as_bytes().chunks(16_384));
    assert_eq!(seen.usage.map(|usage| usage.output_tokens), Some(2));
    assert_eq!(out.len(), stream.len());
}

#[test]
fn an_event_too_large_passes_unread() {
    let large = format!("data: {}\n\n", "x".repeat(MAX_EVENT));
    let stream = [large.as_bytes(), &corpus("sse/chat.sse")].concat();
    for options in [KEEP, DROP] {
        let (seen, out) = pass(Endpoint::ChatCompletions, options, stream.chunks(100_000));
        assert_eq!(seen.oversized_events, 1);
        assert_eq!(seen.usage.map(|usage| usage.input_tokens), Some(19));
        assert!(out.starts_with(large.as_bytes()));
    }
}

#[test]
fn anthropic_usage_is_summed_and_its_output_cumulative() {
    let seen = seen(Endpoint::Messages, "sse/messages.sse");
    let usage = Usage {
        input_tokens: 1_125,
        output_tokens: 89,
        cached_input_tokens: 1_000,
        cache_write_tokens: 100,
        ..Usage::default()
    };
    assert_eq!(seen.usage, Some(usage));
    assert!(seen.complete);
    let texts = [
        "Let me see.",
        "Hello! How can I help?",
        r#"get_weather{"city": "Paris"}"#,
    ];
    let counted = count("claude-sonnet-4-5", &texts);
    assert!(seen.output_tokens_counted.abs_diff(counted) <= 2);
}

#[test]
fn a_stream_that_breaks_off_is_charged_what_passed() {
    let seen = seen(Endpoint::Messages, "sse/messages-cut.sse");
    assert!(!seen.complete);
    let usage = seen.usage.unwrap();
    assert_eq!(usage.input_tokens, 1_125);
    assert!(seen.output_tokens_counted > 5);
    assert_eq!(usage.output_tokens, seen.output_tokens_counted);
}

#[test]
fn gemini_streams_as_events_and_as_an_array() {
    let usage = Usage {
        input_tokens: 8,
        output_tokens: 45,
        cached_input_tokens: 3,
        reasoning_tokens: 40,
        ..Usage::default()
    };
    for file in ["sse/gemini.sse", "sse/gemini-array.json"] {
        let seen = seen(Endpoint::StreamGenerateContent, file);
        assert_eq!(seen.usage, Some(usage), "{file}");
        assert!(seen.complete);
        assert_eq!(seen.response_model, some_model("gemini-2.5-flash"));
        assert!((6..=8).contains(&seen.output_tokens_counted));
    }
}

#[test]
fn every_cut_gives_the_same_reading_and_the_same_bytes() {
    for (name, stream) in corpus_files("sse") {
        for endpoint in Endpoint::ALL {
            for options in [KEEP, DROP] {
                let whole = pass(endpoint, options, [&*stream]);
                for step in [1, 2, 3, 7, 64, 1_000] {
                    let cut = pass(endpoint, options, stream.chunks(step));
                    assert_eq!(cut, whole, "{name} as {endpoint:?} by {step}");
                }
                if !options.drop_usage_chunk {
                    assert_eq!(whole.1, stream);
                }
            }
        }
    }
}

#[test]
fn the_running_count_is_near_the_truth_and_exact_at_the_end() {
    let text = "The quick brown fox jumps over the lazy dog, again and again; ".repeat(200);
    let mut reader = StreamReader::new(Endpoint::ChatCompletions, KEEP).counting_as("gpt-4o");
    let mut out = Vec::new();
    let mut sent = 0;
    for delta in text.as_bytes().chunks(11) {
        let delta = std::str::from_utf8(delta).unwrap();
        let chunk =
            serde_json::json!({"model": "other", "choices": [{"delta": {"content": delta}}]});
        reader.push(format!("data: {chunk}\n\n").as_bytes(), &mut out);
        sent += delta.len();
        let near = count("gpt-4o", &[&text[..sent]]);
        let counted = reader.seen().output_tokens_counted;
        assert!(counted.abs_diff(near) <= 80, "{counted} of {near}");
    }
    let seen = reader.finish(&mut out);
    assert_eq!(seen.output_tokens_counted, count("gpt-4o", &[&text]));
}
