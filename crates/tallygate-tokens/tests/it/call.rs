//! What is read of a request, and what is said of one that cannot be read.

use serde_json::{Value, json};
use tallygate_tokens::{Call, CallError, Endpoint};

fn parse(endpoint: Endpoint, body: &Value) -> Result<Call, CallError> {
    Call::parse(endpoint, None, body.to_string().as_bytes())
}

fn error(endpoint: Endpoint, body: &str) -> String {
    let parsed = Call::parse(endpoint, None, body.as_bytes());
    parsed.expect_err("no valid body").to_string()
}

#[test]
fn settings_are_read_by_whichever_name_the_endpoint_has() {
    let messages = json!([]);
    for (endpoint, body, expected) in [
        (
            Endpoint::ChatCompletions,
            json!({"messages": messages}),
            (false, None, 1),
        ),
        (
            Endpoint::ChatCompletions,
            json!({"messages": messages, "max_tokens": 5, "n": 3, "stream": true}),
            (true, Some(5), 3),
        ),
        (
            Endpoint::ChatCompletions,
            json!({"messages": messages, "max_tokens": 5, "max_completion_tokens": 7, "n": null, "stream": null}),
            (false, Some(7), 1),
        ),
        (
            Endpoint::Responses,
            json!({"max_output_tokens": 9.0, "stream": true}),
            (true, Some(9), 1),
        ),
        (
            Endpoint::Completions,
            json!({"prompt": "a", "n": 2, "best_of": 4}),
            (false, None, 4),
        ),
        (
            Endpoint::Completions,
            json!({"prompt": ["a", "b", "c"], "n": 2}),
            (false, None, 6),
        ),
        (
            Endpoint::Embeddings,
            json!({"input": ["a", "b"]}),
            (false, None, 1),
        ),
        (
            Endpoint::Messages,
            json!({"messages": messages, "max_tokens": 11, "stream": true}),
            (true, Some(11), 1),
        ),
        (
            Endpoint::CountTokens,
            json!({"messages": messages}),
            (false, None, 1),
        ),
        (
            Endpoint::StreamGenerateContent,
            json!({"generationConfig": {"maxOutputTokens": 13, "candidateCount": 2}}),
            (true, Some(13), 2),
        ),
        (
            Endpoint::GenerateContent,
            json!({"generation_config": {"max_output_tokens": 13}}),
            (false, Some(13), 1),
        ),
    ] {
        let mut named = body.clone();
        named["model"] = "gpt-4o".into();
        let call = parse(endpoint, &named).expect("a valid body");
        assert_eq!(
            (call.streams(), call.max_output(), call.choices()),
            expected,
            "{body}"
        );
        assert_eq!((call.model(), call.endpoint()), ("gpt-4o", endpoint));
    }
}

#[test]
fn a_model_may_be_named_by_the_path() {
    let body = br#"{"contents":[]}"#;
    let call = Call::parse(Endpoint::GenerateContent, Some("gemini-2.5-pro"), body);
    assert_eq!(call.expect("a valid body").model(), "gemini-2.5-pro");
    assert_eq!(
        error(Endpoint::ChatCompletions, r#"{"messages":[]}"#),
        "model is missing"
    );
}

#[test]
fn usage_is_requested_once_and_only_where_it_can_be() {
    for (endpoint, body, expected) in [
        (Endpoint::ChatCompletions, json!({"stream": true}), true),
        (Endpoint::Completions, json!({"stream": true}), true),
        (Endpoint::ChatCompletions, json!({"stream": false}), false),
        (
            Endpoint::ChatCompletions,
            json!({"stream": true, "stream_options": {"include_usage": true}}),
            false,
        ),
        (
            Endpoint::ChatCompletions,
            json!({"stream": true, "stream_options": {"include_usage": false}}),
            true,
        ),
        (
            Endpoint::ChatCompletions,
            json!({"stream": true, "stream_options": null}),
            true,
        ),
        (Endpoint::Responses, json!({"stream": true}), false),
        (Endpoint::Messages, json!({"stream": true}), false),
    ] {
        let mut full = body.clone();
        full["model"] = "gpt-4o".into();
        full["messages"] = json!([]);
        let call = parse(endpoint, &full).expect("a valid body");
        let changed = call.with_usage_requested();
        assert_eq!(changed.is_some(), expected, "{body}");
        let Some(changed) = changed else { continue };
        let mut changed: Value = serde_json::from_slice(&changed).expect("still JSON");
        assert_eq!(changed["stream_options"], json!({"include_usage": true}));
        let again = parse(endpoint, &changed).expect("still valid");
        assert_eq!(again.with_usage_requested(), None);
        changed["stream_options"] = full["stream_options"].clone();
        full["stream_options"] = changed["stream_options"].clone();
        assert_eq!(changed, full, "nothing else has changed");
    }
}

#[test]
fn malformed_json_is_located() {
    for (body, line, column) in [
        ("", 1, 0),
        ("{\n  \"model\": \"m\",,\n}", 2, 16),
        ("{\"model\": nope}", 1, 12),
        ("{\"model\": \"m\"} x", 1, 16),
        ("{\"model\": \"\\ud800\"}", 1, 18),
    ] {
        let parsed = Call::parse(Endpoint::ChatCompletions, None, body.as_bytes());
        match parsed {
            Err(CallError::Malformed {
                line: l, column: c, ..
            }) => {
                assert_eq!((l, c), (line, column), "{body}");
            }
            other => panic!("{body}: {other:?}"),
        }
    }
    assert_eq!(
        error(Endpoint::ChatCompletions, "{\n,}"),
        "request body is not valid JSON at line 2, column 1: key must be a string"
    );
    let not_utf8 = Call::parse(Endpoint::Messages, None, b"{\"model\":\"\xFF\"}");
    assert!(matches!(not_utf8, Err(CallError::Malformed { .. })));
}

#[test]
fn wrong_types_are_named_by_their_path() {
    let chat = Endpoint::ChatCompletions;
    for (endpoint, body, expected) in [
        (chat, "[]", "request body must be an object, not an array"),
        (
            chat,
            r#"{"model":7}"#,
            "model must be a string, not a number",
        ),
        (chat, r#"{"model":"m"}"#, "messages is missing"),
        (
            chat,
            r#"{"model":"m","messages":{}}"#,
            "messages must be an array, not an object",
        ),
        (
            chat,
            r#"{"model":"m","messages":[1]}"#,
            "messages[0] must be an object, not a number",
        ),
        (
            chat,
            r#"{"model":"m","messages":[{},{"content":true}]}"#,
            "messages[1].content must be a string or an array, not a boolean",
        ),
        (
            chat,
            r#"{"model":"m","messages":[{"content":[{"type":"text","text":1}]}]}"#,
            "messages[0].content[0].text must be a string, not a number",
        ),
        (
            chat,
            r#"{"model":"m","messages":[{"content":[{"type":"image_url","image_url":{"url":1}}]}]}"#,
            "messages[0].content[0].image_url.url must be a string, not a number",
        ),
        (
            chat,
            r#"{"model":"m","messages":[],"max_tokens":-1}"#,
            "max_tokens must be a non-negative whole number, not a number",
        ),
        (
            chat,
            r#"{"model":"m","messages":[],"stream":"yes"}"#,
            "stream must be a boolean, not a string",
        ),
        (
            chat,
            r#"{"model":"m","messages":[],"stream_options":{"include_usage":1}}"#,
            "stream_options.include_usage must be a boolean, not a number",
        ),
        (
            chat,
            r#"{"model":"m","messages":[],"tools":["x"]}"#,
            "tools[0] must be an object, not a string",
        ),
    ] {
        assert_eq!(error(endpoint, body), expected);
    }
}

#[test]
fn wrong_types_are_named_at_every_endpoint() {
    for (endpoint, body, expected) in [
        (Endpoint::Embeddings, r#"{"model":"m"}"#, "input is missing"),
        (
            Endpoint::Embeddings,
            r#"{"model":"m","input":[{}]}"#,
            "input[0] must be a string or an array of tokens, not an object",
        ),
        (
            Endpoint::Messages,
            r#"{"model":"m","messages":[{"content":[{"type":"tool_result","content":3}]}]}"#,
            "messages[0].content[0].content must be a string or an array, not a number",
        ),
        (
            Endpoint::GenerateContent,
            r#"{"model":"m","contents":[{"parts":3}]}"#,
            "contents[0].parts must be an array, not a number",
        ),
    ] {
        assert_eq!(error(endpoint, body), expected);
    }
}

#[test]
fn null_stands_for_absent_and_unknown_fields_are_left_alone() {
    let body = json!({
        "model": "m", "messages": [{"role": "user", "content": null, "name": null, "tool_calls": null}],
        "tools": null, "tool_choice": null, "response_format": null, "stream_options": null,
        "max_tokens": null, "logit_bias": {"50256": -100}, "x-vendor": [[[]]],
    });
    assert!(parse(Endpoint::ChatCompletions, &body).is_ok());
}

#[test]
fn nesting_is_bounded() {
    for open in ["[", "{\"a\":", "{\"messages\":[{\"content\":["] {
        let body = open.repeat(500_000);
        assert!(error(Endpoint::ChatCompletions, &body).contains("recursion limit"));
    }
    let deep = format!("{}1{}", "[".repeat(120), "]".repeat(120));
    let body = format!(r#"{{"model":"m","messages":[],"x":{deep}}}"#);
    assert!(Call::parse(Endpoint::ChatCompletions, None, body.as_bytes()).is_ok());
}

#[test]
fn of_two_bounds_the_larger_is_believed() {
    let body =
        json!({"model": "m", "messages": [], "max_tokens": 5_000, "max_completion_tokens": 1});
    let call = parse(Endpoint::ChatCompletions, &body).expect("a call");
    assert_eq!(call.max_output(), Some(5_000));
}

#[test]
fn a_field_given_twice_is_refused_whichever_would_count() {
    for body in [
        r#"{"model": "cheap", "messages": [], "model": "dear"}"#,
        r#"{"model": "m", "max_tokens": 9000, "messages": [], "max_tokens": null}"#,
        r#"{"model": "m", "messages": [], "stream": true, "str\u0065am": false}"#,
    ] {
        let told = error(Endpoint::ChatCompletions, body);
        assert!(told.ends_with("is given more than once"), "{told}");
    }
    // Inside a message or a schema names repeat as the caller likes.
    let body = br#"{"model": "m", "messages": [], "metadata": {"a": 1, "a": 2}}"#;
    assert!(Call::parse(Endpoint::ChatCompletions, None, body).is_ok());
}

#[test]
fn gemini_calls_the_model_of_its_path() {
    let body = br#"{"model": "cheap", "contents": []}"#;
    let call = Call::parse(Endpoint::GenerateContent, Some("dear"), body).expect("a call");
    assert_eq!(call.model(), "dear");
    let call = Call::parse(Endpoint::GenerateContent, None, body).expect("a call");
    assert_eq!(call.model(), "cheap");
}

#[test]
fn only_responses_go_on_in_the_background() {
    let body = json!({"model": "m", "input": "x", "messages": [], "background": true});
    let is = |endpoint| parse(endpoint, &body).expect("a call").is_background();
    assert!(is(Endpoint::Responses));
    assert!(!is(Endpoint::ChatCompletions));
}
