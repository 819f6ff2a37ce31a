//! Whole requests against the figures their providers publish or were measured to charge.

use serde_json::{Value, json};
use tallygate_tokens::{Call, Count, Counter, Endpoint, Method};

fn count(endpoint: Endpoint, body: &Value) -> Count {
    let body = body.to_string();
    let call = Call::parse(endpoint, Some("unnamed"), body.as_bytes()).expect("a valid body");
    let counter = Counter::new([3, 4], 100);
    let count = counter.input(&call);
    let (low, high) = counter.bounds(&call);
    assert!(
        (low..=high).contains(&count.tokens),
        "{low}..{high}: {count:?} of {body}"
    );
    assert_eq!(counter.input(&call), count, "counted again");
    count
}

fn chat(model: &str, mut body: Value) -> Count {
    body["model"] = model.into();
    count(Endpoint::ChatCompletions, &body)
}

/// The conversation of OpenAI's cookbook, "How to count tokens with tiktoken".
fn cookbook() -> Value {
    let jargon = [
        (
            "system",
            "",
            "You are a helpful, pattern-following assistant that translates corporate jargon into plain English.",
        ),
        (
            "system",
            "example_user",
            "New synergies will help drive top-line growth.",
        ),
        (
            "system",
            "example_assistant",
            "Things working well together will increase revenue.",
        ),
        (
            "system",
            "example_user",
            "Let's circle back when we have more bandwidth to touch base on opportunities for increased leverage.",
        ),
        (
            "system",
            "example_assistant",
            "Let's talk later when we're less busy about how to do better.",
        ),
        (
            "user",
            "",
            "This late pivot means we don't have time to boil the ocean for the client deliverable.",
        ),
    ];
    let messages = jargon.map(|(role, name, content)| match name {
        "" => json!({"role": role, "content": content}),
        name => json!({"role": role, "name": name, "content": content}),
    });
    json!({ "messages": messages })
}

fn weather_tools() -> Value {
    json!([{"type": "function", "function": {
        "name": "get_current_weather",
        "description": "Get the current weather in a given location",
        "parameters": {"type": "object", "required": ["location"], "properties": {
            "location": {"type": "string", "description": "The city and state, e.g. San Francisco, CA"},
            "unit": {"type": "string", "description": "The unit of temperature to return", "enum": ["celsius", "fahrenheit"]},
        }},
    }}])
}

#[test]
fn hello_world_is_two_tokens() {
    let counter = Counter::new([1, 2], 0);
    for model in [
        "gpt-4",
        "gpt-3.5-turbo",
        "gpt-4o",
        "gpt-5",
        "o3",
        "text-embedding-3-small",
    ] {
        let expected = Count {
            tokens: 2,
            method: Method::Exact,
        };
        assert_eq!(counter.text(model, "Hello world"), expected, "{model}");
    }
}

#[test]
fn the_cookbooks_conversation_counts_as_published() {
    for (model, tokens) in [
        ("gpt-3.5-turbo", 129),
        ("gpt-4-0613", 129),
        ("gpt-4", 129),
        ("gpt-4o", 124),
        ("gpt-4o-mini", 124),
    ] {
        let expected = Count {
            tokens,
            method: Method::Framed,
        };
        assert_eq!(chat(model, cookbook()), expected, "{model}");
    }
}

#[test]
fn the_cookbooks_tools_count_as_published() {
    let body = json!({
        "messages": [
            {"role": "system", "content": "You are a helpful assistant that can answer to questions about the weather."},
            {"role": "user", "content": "What's the weather like in San Francisco?"},
        ],
        "tools": weather_tools(),
    });
    for (model, tokens) in [
        ("gpt-3.5-turbo", 105),
        ("gpt-4", 105),
        ("gpt-4o", 101),
        ("gpt-4o-mini", 101),
    ] {
        let expected = Count {
            tokens,
            method: Method::Framed,
        };
        assert_eq!(chat(model, body.clone()), expected, "{model}");
    }
}

/// Requests with the input tokens OpenAI's API charged for them (gpt-3.5-turbo; published by the
/// authors of openai-chat-tokens).
#[test]
fn functions_count_as_measured() {
    let hello = json!([{"role": "user", "content": "hello"}]);
    let none = json!({"type": "object", "properties": {}});
    let foo = json!([{"name": "foo", "parameters": none}]);
    let do_foo = json!([{"name": "foo", "description": "Do a foo", "parameters": none}]);
    let stuff = json!([{"name": "do_stuff", "parameters": none}]);
    let bing = |properties: Value| {
        json!({"messages": hello, "functions": [{
            "name": "bing_bong", "description": "Do a bing bong",
            "parameters": {"type": "object", "properties": properties}}]})
    };
    let systems = json!([
        {"role": "system", "content": "Hello:"},
        {"role": "system", "content": "Hello"},
        {"role": "user", "content": "Hi there"},
    ]);
    let answer = |content: &str| {
        json!({"messages": [
            {"role": "user", "content": "hello world"},
            {"role": "function", "name": "do_stuff", "content": content},
        ]})
    };
    let call = json!({"name": "do_stuff", "arguments": "{\"foo\": \"bar\", \"baz\": 1.5}"});
    let nested = json!({"foo": {"type": "object", "properties": {
        "bar": {"type": "string", "enum": ["a", "b", "c"]}, "baz": {"type": "boolean"}}}});
    for (tokens, body) in [
        (8, json!({"messages": hello})),
        (31, json!({"messages": hello, "functions": foo})),
        (
            31,
            json!({"messages": hello, "functions": foo, "function_call": "auto"}),
        ),
        (
            32,
            json!({"messages": hello, "functions": foo, "function_call": "none"}),
        ),
        (
            36,
            json!({"messages": hello, "functions": foo, "function_call": {"name": "foo"}}),
        ),
        (36, json!({"messages": hello, "functions": do_foo})),
        (49, bing(json!({"foo": {"type": "string"}}))),
        (
            57,
            bing(
                json!({"bar": {"type": "number", "description": "A number"}, "foo": {"type": "string"}}),
            ),
        ),
        (68, bing(nested)),
        (15, answer("{}")),
        (28, answer("{\"foo\": \"bar\", \"baz\": 1.5}")),
        (
            26,
            json!({"messages": [{"role": "assistant", "content": "", "function_call": call}]}),
        ),
        (
            35,
            json!({"messages": [systems[1], systems[2]], "functions": stuff}),
        ),
        (40, json!({"messages": systems, "functions": stuff})),
    ] {
        assert_eq!(chat("gpt-3.5-turbo", body.clone()).tokens, tokens, "{body}");
    }
}

/// Nested schemas with the input tokens OpenAI's API charged for them (same source).
#[test]
fn nested_schemas_count_as_measured() {
    let recipe = json!({"type": "object", "required": ["ingredients", "instructions", "time_to_cook"], "properties": {
        "ingredients": {"type": "array", "items": {"type": "object", "required": ["name", "unit", "amount"], "properties": {
            "name": {"type": "string"},
            "unit": {"enum": ["grams", "ml", "cups", "pieces", "teaspoons"], "type": "string"},
            "amount": {"type": "number"}}}},
        "instructions": {"type": "array", "items": {"type": "string"}, "description": "Steps to prepare the recipe (no numbering)"},
        "time_to_cook": {"type": "number", "description": "Total time to prepare the recipe in minutes"}}});
    let review = json!({"type": "object", "properties": {"quality": {"type": "object", "properties": {
        "pros": {"type": "array", "items": {"type": "string"}, "description": "Write 3 points why this text is well written"}}}}});
    for (name, description, schema, charged) in [
        ("get_recipe", None, recipe, 106),
        ("function", Some("description"), review, 46),
    ] {
        let functions = json!([{"name": name, "description": description, "parameters": schema}]);
        let body =
            json!({"messages": [{"role": "user", "content": "hello"}], "functions": functions});
        let expected = Count {
            tokens: charged,
            method: Method::Estimated,
        };
        assert_eq!(chat("gpt-3.5-turbo", body), expected, "{name}");
    }
}

#[test]
fn images_cost_by_their_size_and_detail() {
    let png = "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAABAAAAAQACAIAAA==";
    let plain = chat(
        "gpt-4o",
        json!({"messages": [{"role": "user", "content": []}]}),
    )
    .tokens;
    for (url, detail, tokens, method) in [
        (png, json!("high"), 765, Method::Framed),
        (png, json!(null), 765, Method::Framed),
        (png, json!("auto"), 765, Method::Framed),
        (png, json!("low"), 85, Method::Framed),
        (
            "https://example.com/cat.jpg",
            json!("high"),
            1_445,
            Method::Bound,
        ),
        (
            "https://example.com/cat.jpg",
            json!("low"),
            85,
            Method::Framed,
        ),
        (
            "data:image/png;base64,????",
            json!("high"),
            1_445,
            Method::Bound,
        ),
    ] {
        let part = json!({"type": "image_url", "image_url": {"url": url, "detail": detail}});
        let body = json!({"messages": [{"role": "user", "content": [part]}]});
        let expected = Count {
            tokens: plain + tokens,
            method,
        };
        assert_eq!(chat("gpt-4o", body), expected, "{url} {detail}");
        let part = json!({"type": "input_image", "image_url": url, "detail": detail});
        let body = json!({"model": "gpt-4o", "input": [{"role": "user", "content": [part]}]});
        assert_eq!(
            count(Endpoint::Responses, &body),
            expected,
            "Responses: {url} {detail}"
        );
    }
}

#[test]
fn what_nobody_documents_is_said_to_be_estimated() {
    let user = json!({"role": "user", "content": "hello"});
    for body in [
        json!({"messages": [user], "response_format": {"type": "json_schema", "json_schema":
            {"name": "x", "schema": {"type": "object"}}}}),
        json!({"messages": [user], "tools": [{"type": "custom", "custom": {"name": "x"}}]}),
        json!({"messages": [{"role": "assistant", "tool_calls":
            [{"id": "1", "type": "function", "function": {"name": "f", "arguments": "{}"}}]}]}),
        json!({"messages": [{"role": "user", "content": [{"type": "hologram", "x": 1}]}]}),
        json!({"messages": [{"role": "user", "content": [{"type": "input_audio", "input_audio": {"data": "AAAA", "format": "mp3"}}]}]}),
        json!({"messages": [{"role": "user", "content": [{"type": "file", "file": {"file_id": "f1"}}]}]}),
    ] {
        let count = chat("gpt-4o", body.clone());
        assert_eq!(count.method, Method::Estimated, "{body}");
        assert!(count.tokens > 5);
    }
    let foreign = chat("llama-3.1-8b", json!({"messages": [user]}));
    assert_eq!(foreign.method, Method::Estimated);
}

#[test]
fn responses_are_framed_like_chat() {
    let chat = chat(
        "gpt-4o",
        json!({"messages": [
        {"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hello world"}]}),
    );
    for body in [
        json!({"model": "gpt-4o", "instructions": "Be brief.", "input": "Hello world"}),
        json!({"model": "gpt-4o", "input": [
            {"role": "developer", "content": "Be brief."},
            {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "Hello world"}]}]}),
    ] {
        assert_eq!(count(Endpoint::Responses, &body), chat, "{body}");
    }
    let body = json!({"model": "gpt-4o", "input": "Hello world", "previous_response_id": "resp_1"});
    assert_eq!(count(Endpoint::Responses, &body).method, Method::Estimated);
    let items = json!({"model": "gpt-4o", "input": [
        {"type": "reasoning", "summary": [{"type": "summary_text", "text": "Thinking it over"}], "encrypted_content": null},
        {"type": "function_call", "call_id": "1", "name": "get_weather", "arguments": "{}"},
        {"type": "function_call_output", "call_id": "1", "output": "sunny"},
        {"type": "item_reference", "id": "msg_1"}]});
    assert!(count(Endpoint::Responses, &items).tokens > 20);
}

#[test]
fn bare_prompts_are_exact() {
    for (endpoint, key) in [
        (Endpoint::Completions, "prompt"),
        (Endpoint::Embeddings, "input"),
    ] {
        for (input, tokens) in [
            (json!("Hello world"), 2),
            (json!(["Hello world", "Hello"]), 3),
            (json!([9906, 1917, 0]), 3),
            (json!([[9906], [1917, 0]]), 3),
            (json!([]), 0),
        ] {
            let body = json!({"model": "text-embedding-3-small", key: input});
            let expected = Count {
                tokens,
                method: Method::Exact,
            };
            assert_eq!(count(endpoint, &body), expected, "{body}");
        }
    }
}

#[test]
fn anthropic_messages_are_estimates_of_every_part() {
    let messages = |model: &str, mut body: Value| {
        body["model"] = model.into();
        let count = count(Endpoint::Messages, &body);
        assert_eq!(count.method, Method::Estimated);
        count.tokens
    };
    let hello = json!({"messages": [{"role": "user", "content": "Hello world"}]});
    assert_eq!(messages("claude-sonnet-4-5", hello.clone()), 7 + 3);
    assert_eq!(messages("claude-opus-4-7", hello.clone()), 11 + 4);
    assert_eq!(messages("claude-opus-4-8", hello.clone()), 6 + 4);
    let small = messages("claude-sonnet-4-5", hello);
    let png = "iVBORw0KGgoAAAANSUhEUgAABAAAAAQACAIAAA==";
    for (block, least) in [
        (
            json!({"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": png}}),
            1_398,
        ),
        (
            json!({"type": "image", "source": {"type": "url", "url": "https://example.com/a.png"}}),
            1_600,
        ),
        (
            json!({"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": "word ".repeat(100)}}),
            100,
        ),
        (
            json!({"type": "document", "source": {"type": "base64", "media_type": "application/pdf", "data": "JVBERi0="}}),
            3_000,
        ),
        (
            json!({"type": "tool_use", "id": "1", "name": "get_weather", "input": {"city": "Paris"}}),
            5,
        ),
        (
            json!({"type": "tool_result", "tool_use_id": "1", "content": [{"type": "text", "text": "It is sunny today"}]}),
            4,
        ),
        (
            json!({"type": "thinking", "thinking": "Let me think about it", "signature": "x"}),
            5,
        ),
        (
            json!({"type": "redacted_thinking", "data": "A".repeat(400)}),
            75,
        ),
    ] {
        let body = json!({"messages": [{"role": "user", "content": [{"type": "text", "text": "Hello world"}, block]}]});
        let tokens = messages("claude-sonnet-4-5", body) - small;
        assert!(
            (least..=least + least / 2 + 4).contains(&tokens),
            "{block}: {tokens}"
        );
    }
    let tools = json!({"system": [{"type": "text", "text": "Be brief."}],
        "messages": [{"role": "user", "content": "Hello world"}],
        "tools": [{"name": "get_weather", "description": "Weather", "input_schema": {"type": "object"}}]});
    assert!((350..400).contains(&messages("claude-sonnet-4-5", tools)));
}

#[test]
fn gemini_contents_are_estimates_of_every_part() {
    let body = json!({
        "system_instruction": {"parts": [{"text": "Be brief."}]},
        "contents": [{"role": "user", "parts": [
            {"text": "Hello world"},
            {"inlineData": {"mimeType": "image/png", "data": "iVBORw0KGgoAAAANSUhEUgAABAAAAAQACAIAAA=="}},
        ]}],
        "tools": [{"functionDeclarations": [{"name": "f", "parameters": {"type": "object"}}]}],
    });
    let count = count(Endpoint::GenerateContent, &body);
    assert_eq!(count.method, Method::Estimated);
    let image = 4 * 258;
    assert!(
        (image + 15..image + 35).contains(&count.tokens),
        "{count:?}"
    );
}
