//! Changing one member of a JSON object and not a byte else.

use std::ops::Range;

/// The body with `stream_options.include_usage` set to true. The body is a JSON object.
pub(super) fn request_usage(body: &[u8]) -> Vec<u8> {
    const OPTIONS: &str = r#""stream_options":{"include_usage":true}"#;
    const FLAG: &str = r#""include_usage":true"#;
    let Some(options) = member(body, "stream_options") else {
        return insert_member(body, 0..body.len(), OPTIONS);
    };
    if body.get(options.start) != Some(&b'{') {
        return splice(body, options, br#"{"include_usage":true}"#);
    }
    match member(&body[options.clone()], "include_usage") {
        None => insert_member(body, options, FLAG),
        Some(flag) => {
            let flag = options.start + flag.start..options.start + flag.end;
            splice(body, flag, b"true")
        }
    }
}

/// The body with its top-level `model` replaced, or added where there is none.
pub(super) fn replace_model(body: &[u8], model: &str) -> Vec<u8> {
    let quoted = serde_json::Value::from(model).to_string();
    match member(body, "model") {
        Some(old) => splice(body, old, quoted.as_bytes()),
        None => insert_member(body, 0..body.len(), &format!("\"model\":{quoted}")),
    }
}

fn splice(body: &[u8], range: Range<usize>, with: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(body.len() + with.len());
    out.extend_from_slice(&body[..range.start]);
    out.extend_from_slice(with);
    out.extend_from_slice(&body[range.end..]);
    out
}

/// Adds a member at the front of the object at `object`.
fn insert_member(body: &[u8], object: Range<usize>, member: &str) -> Vec<u8> {
    let text = &body[object.clone()];
    let Some(open) = text.iter().position(|&byte| byte == b'{') else {
        return body.to_vec();
    };
    let at = object.start + open + 1;
    let empty = skip_blanks(body, at).is_some_and(|next| body[next] == b'}');
    let comma = if empty { "" } else { "," };
    splice(body, at..at, format!("{member}{comma}").as_bytes())
}

/// Where the value of the last top-level member `key` of a valid JSON object lies.
fn member(object: &[u8], key: &str) -> Option<Range<usize>> {
    let mut found = None;
    let mut at = skip_blanks(object, 0)? + 1;
    loop {
        let name = skip_blanks(object, at)?;
        if object[name] != b'"' {
            return found;
        }
        let name_end = end_of_value(object, name)?;
        let colon = skip_blanks(object, name_end)?;
        let value = skip_blanks(object, colon + 1)?;
        let value_end = end_of_value(object, value)?;
        if serde_json::from_slice::<String>(&object[name..name_end]).is_ok_and(|n| n == key) {
            found = Some(value..value_end);
        }
        let comma = skip_blanks(object, value_end)?;
        if object[comma] != b',' {
            return found;
        }
        at = comma + 1;
    }
}

fn skip_blanks(text: &[u8], from: usize) -> Option<usize> {
    let rest = text.get(from..)?;
    let skipped = rest.iter().position(|byte| !byte.is_ascii_whitespace())?;
    Some(from + skipped)
}

/// The end of the value that begins at `from`, in valid JSON.
fn end_of_value(text: &[u8], from: usize) -> Option<usize> {
    match text.get(from)? {
        b'"' => end_of_string(text, from),
        b'{' | b'[' => end_of_nest(text, from),
        _ => {
            let ends = |byte: &u8| matches!(byte, b',' | b'}' | b']') || byte.is_ascii_whitespace();
            let length = text[from..].iter().position(ends);
            Some(length.map_or(text.len(), |length| from + length))
        }
    }
}

fn end_of_string(text: &[u8], from: usize) -> Option<usize> {
    let mut at = from + 1;
    loop {
        match text.get(at)? {
            b'"' => return Some(at + 1),
            b'\\' => at += 2,
            _ => at += 1,
        }
    }
}

fn end_of_nest(text: &[u8], from: usize) -> Option<usize> {
    let mut depth = 0_usize;
    let mut at = from;
    loop {
        match text.get(at)? {
            b'"' => {
                at = end_of_string(text, at)?;
                continue;
            }
            b'{' | b'[' => depth += 1,
            b'}' | b']' if depth <= 1 => return Some(at + 1),
            b'}' | b']' => depth -= 1,
            _ => {}
        }
        at += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn usage(body: &str) -> String {
        String::from_utf8(request_usage(body.as_bytes())).unwrap()
    }

    #[test]
    fn usage_is_requested_by_the_smallest_change() {
        for (body, expected) in [
            (
                r#" {"model":"m"}"#,
                r#" {"stream_options":{"include_usage":true},"model":"m"}"#,
            ),
            (
                r#"{"a":"stream_options","stream_options": null ,"b":1}"#,
                r#"{"a":"stream_options","stream_options": {"include_usage":true} ,"b":1}"#,
            ),
            (
                r#"{"stream_options":{ }}"#,
                r#"{"stream_options":{"include_usage":true }}"#,
            ),
            (
                r#"{"stream_options":{"include_obfuscation":false}}"#,
                r#"{"stream_options":{"include_usage":true,"include_obfuscation":false}}"#,
            ),
            (
                r#"{"x":[{"stream_options":1}],"stream_options":{"include_usage":false},"y":"}"}"#,
                r#"{"x":[{"stream_options":1}],"stream_options":{"include_usage":true},"y":"}"}"#,
            ),
            (
                r#"{"stream_options":{"include_usage":null}}"#,
                r#"{"stream_options":{"include_usage":true}}"#,
            ),
        ] {
            assert_eq!(usage(body), expected);
        }
    }

    #[test]
    fn the_last_of_repeated_members_is_the_one_changed() {
        let out = replace_model(
            br#"{"model":"a","x":{"model":"b"},"mod\u0065l":"c"}"#,
            "n\"w",
        );
        assert_eq!(
            String::from_utf8(out).unwrap(),
            r#"{"model":"a","x":{"model":"b"},"mod\u0065l":"n\"w"}"#
        );
    }

    #[test]
    fn a_model_is_added_where_the_path_named_it() {
        assert_eq!(replace_model(b"{ }", "m"), br#"{"model":"m" }"#);
        assert_eq!(
            replace_model(br#"{"contents":[]}"#, "m"),
            br#"{"model":"m","contents":[]}"#
        );
    }
}
