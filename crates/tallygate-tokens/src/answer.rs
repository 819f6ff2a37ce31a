//! The texts of a whole answer.

use crate::dialect::Endpoint;
use crate::json::Json;
use crate::plan::Group;

/// What a model wrote in an answer: texts, reasoning, tool calls. `None` where it is no JSON.
pub(crate) fn texts(endpoint: Endpoint, body: &[u8]) -> Option<Group> {
    let json = Json::parse(body).ok()?;
    let mut group = Group::default();
    match endpoint {
        Endpoint::ChatCompletions | Endpoint::Completions => {
            for choice in json.items("choices") {
                add_choice(&mut group, choice);
            }
        }
        Endpoint::Responses => {
            for item in json.items("output") {
                add_keys(&mut group, item, &["name", "arguments", "input"]);
                for part in item.items("content").iter().chain(item.items("summary")) {
                    add_keys(&mut group, part, &["text", "refusal"]);
                }
            }
        }
        Endpoint::Messages => {
            for block in json.items("content") {
                add_keys(&mut group, block, &["text", "thinking", "name"]);
                add_json(&mut group, block.get("input"));
            }
        }
        Endpoint::GenerateContent | Endpoint::StreamGenerateContent => {
            add_gemini(&mut group, &json);
            json.as_array()
                .unwrap_or_default()
                .iter()
                .for_each(|chunk| add_gemini(&mut group, chunk));
        }
        Endpoint::Embeddings | Endpoint::CountTokens => {}
    }
    Some(group)
}

fn add_choice(group: &mut Group, choice: &Json<'_>) {
    add_keys(group, choice, &["text"]);
    let Some(message) = choice.get("message") else {
        return;
    };
    add_keys(
        group,
        message,
        &["content", "refusal", "reasoning_content", "reasoning"],
    );
    let calls = message.items("tool_calls").iter();
    let functions = calls.filter_map(|call| call.get("function").or(call.get("custom")));
    for function in functions.chain(message.get("function_call")) {
        add_keys(group, function, &["name", "arguments", "input"]);
    }
}

fn add_gemini(group: &mut Group, chunk: &Json<'_>) {
    let contents = chunk
        .items("candidates")
        .iter()
        .filter_map(|c| c.get("content"));
    for part in contents.flat_map(|content| content.items("parts")) {
        add_keys(group, part, &["text"]);
        if let Some(call) = part.get("functionCall") {
            add_keys(group, call, &["name"]);
            add_json(group, call.get("args"));
        }
    }
}

fn add_keys(group: &mut Group, object: &Json<'_>, keys: &[&str]) {
    for text in keys.iter().filter_map(|key| object.text(key)) {
        group.push(text);
    }
}

fn add_json(group: &mut Group, value: Option<&Json<'_>>) {
    if let Some(value) = value {
        group.push(value.to_string());
    }
}
