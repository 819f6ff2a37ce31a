//! The text of an answer that does not say what it used.

use serde_json::Value;

/// Fields that hold what a model wrote, in any of the dialects.
const WRITTEN: [&str; 7] = [
    "content",
    "text",
    "arguments",
    "refusal",
    "reasoning_content",
    "thinking",
    "partial_json",
];

/// Fields that hold an object a model wrote.
const WRITTEN_OBJECTS: [&str; 2] = ["input", "args"];

/// States of a response that is still being written somewhere else.
const UNFINISHED: [&str; 2] = ["queued", "in_progress"];

/// All that the model wrote in the JSON answer `body`. `None` where it cannot be known: the body is no JSON, or says
/// that the answer is yet to come.
pub(super) fn answer_text(body: &[u8]) -> Option<String> {
    let answer: Value = serde_json::from_slice(body).ok()?;
    let status = answer.get("status").and_then(Value::as_str);
    if status.is_some_and(|status| UNFINISHED.contains(&status)) {
        return None;
    }
    let mut text = String::new();
    gather(&answer, &mut text);
    Some(text)
}

/// Recursion is bounded: a parsed JSON text is at most 128 deep.
fn gather(value: &Value, text: &mut String) {
    match value {
        Value::Array(items) => items.iter().for_each(|item| gather(item, text)),
        Value::Object(fields) => {
            for (name, field) in fields {
                match field {
                    Value::String(written) if WRITTEN.contains(&name.as_str()) => {
                        text.push_str(written)
                    }
                    Value::Object(_) if WRITTEN_OBJECTS.contains(&name.as_str()) => {
                        text.push_str(&field.to_string());
                    }
                    nested => gather(nested, text),
                }
            }
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::answer_text;

    fn text(body: &str) -> Option<String> {
        answer_text(body.as_bytes())
    }

    #[test]
    fn every_dialect_is_read() {
        let chat = r#"{"id":"x","choices":[{"message":{"role":"assistant","content":"Hello","tool_calls":[{"function":{"name":"f","arguments":"{}"}}]}}]}"#;
        assert_eq!(text(chat).as_deref(), Some("Hello{}"));
        let messages =
            r#"{"content":[{"type":"text","text":"Hi"},{"type":"tool_use","input":{"a":1}}]}"#;
        assert_eq!(text(messages).as_deref(), Some(r#"Hi{"a":1}"#));
        let gemini = r#"[{"candidates":[{"content":{"parts":[{"text":"a"}]}}]},{"candidates":[{"content":{"parts":[{"text":"b"}]}}]}]"#;
        assert_eq!(text(gemini).as_deref(), Some("ab"));
        let responses = r#"{"status":"completed","output":[{"content":[{"type":"output_text","text":"yes"}]}]}"#;
        assert_eq!(text(responses).as_deref(), Some("yes"));
    }

    #[test]
    fn what_cannot_be_known_is_not_guessed() {
        assert_eq!(text("<html>"), None);
        assert_eq!(text(r#"{"status":"queued","output":[]}"#), None);
        assert_eq!(
            text(r#"{"data":[{"embedding":[0.1]}]}"#).as_deref(),
            Some("")
        );
    }
}
