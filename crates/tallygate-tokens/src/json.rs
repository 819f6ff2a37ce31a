//! A JSON document that borrows its strings from the request body.

use std::borrow::Cow;
use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};

/// Any JSON value. Objects keep the order of their keys; of a repeated key the last one counts.
/// Nesting is bounded by the parser (128 levels), so walking a value cannot exhaust the stack.
#[derive(Debug, PartialEq)]
pub(crate) enum Json<'a> {
    Null,
    Bool(bool),
    Number(serde_json::Number),
    String(Cow<'a, str>),
    Array(Vec<Self>),
    Object(Vec<(Cow<'a, str>, Self)>),
}

impl<'a> Json<'a> {
    /// Parses a whole body.
    pub(crate) fn parse(body: &'a [u8]) -> Result<Self, serde_json::Error> {
        serde_json::from_slice(body)
    }

    /// The value under `key` of an object; `None` for an absent key, for `null`, and for anything
    /// that is no object.
    pub(crate) fn get(&self, key: &str) -> Option<&Self> {
        let Self::Object(entries) = self else {
            return None;
        };
        let (_, value) = entries.iter().rev().find(|(name, _)| name == key)?;
        (*value != Self::Null).then_some(value)
    }

    pub(crate) fn as_str(&self) -> Option<&str> {
        match self {
            Self::String(text) => Some(text),
            _ => None,
        }
    }

    /// The text under `key`, if it is text.
    pub(crate) fn text(&self, key: &str) -> Option<&str> {
        self.get(key).and_then(Self::as_str)
    }

    pub(crate) fn as_array(&self) -> Option<&[Self]> {
        match self {
            Self::Array(items) => Some(items),
            _ => None,
        }
    }

    /// The elements under `key`; none if it is no array.
    pub(crate) fn items(&self, key: &str) -> &[Self] {
        self.get(key).and_then(Self::as_array).unwrap_or_default()
    }

    /// The keys and values of an object; none of anything else.
    pub(crate) fn entries(&self) -> &[(Cow<'a, str>, Self)] {
        match self {
            Self::Object(entries) => entries,
            _ => &[],
        }
    }

    /// A non-negative whole number, also when written as `1e3` or `200.0`.
    pub(crate) fn as_u64(&self) -> Option<u64> {
        let Self::Number(number) = self else {
            return None;
        };
        number.as_u64().or_else(|| whole(number.as_f64()?))
    }

    /// What this value is, for messages.
    pub(crate) fn kind(&self) -> &'static str {
        match self {
            Self::Null => "null",
            Self::Bool(_) => "a boolean",
            Self::Number(_) => "a number",
            Self::String(_) => "a string",
            Self::Array(_) => "an array",
            Self::Object(_) => "an object",
        }
    }
}

impl<'a> From<&'a serde_json::Value> for Json<'a> {
    fn from(value: &'a serde_json::Value) -> Self {
        use serde_json::Value;
        match value {
            Value::Null => Self::Null,
            Value::Bool(value) => Self::Bool(*value),
            Value::Number(number) => Self::Number(number.clone()),
            Value::String(text) => Self::String(Cow::Borrowed(text)),
            Value::Array(items) => Self::Array(items.iter().map(Self::from).collect()),
            Value::Object(entries) => {
                let entries = entries.iter();
                let owned = entries.map(|(key, value)| (Cow::Borrowed(&**key), value.into()));
                Self::Object(owned.collect())
            }
        }
    }
}

/// A float that is a whole number below 2^53.
fn whole(number: f64) -> Option<u64> {
    let fits = (0.0..9_007_199_254_740_992.0).contains(&number) && number.fract() == 0.0;
    fits.then_some(number as u64)
}

/// Compact JSON, as a schema or arguments are shown to a model.
impl fmt::Display for Json<'_> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Null => out.write_str("null"),
            Self::Bool(value) => write!(out, "{value}"),
            Self::Number(number) => write!(out, "{number}"),
            Self::String(text) => write_string(out, text),
            Self::Array(items) => {
                write_joined(out, ('[', ']'), items, |out, item| write!(out, "{item}"))
            }
            Self::Object(entries) => write_joined(out, ('{', '}'), entries, |out, (key, value)| {
                write_string(out, key)?;
                write!(out, ":{value}")
            }),
        }
    }
}

fn write_string(out: &mut fmt::Formatter<'_>, text: &str) -> fmt::Result {
    out.write_str("\"")?;
    let mut plain = 0;
    for (at, byte) in text.bytes().enumerate() {
        if byte >= 0x20 && byte != b'"' && byte != b'\\' {
            continue;
        }
        out.write_str(&text[plain..at])?;
        plain = at + 1;
        match byte {
            b'"' => out.write_str("\\\"")?,
            b'\\' => out.write_str("\\\\")?,
            b'\n' => out.write_str("\\n")?,
            b'\r' => out.write_str("\\r")?,
            b'\t' => out.write_str("\\t")?,
            other => write!(out, "\\u{other:04x}")?,
        }
    }
    out.write_str(&text[plain..])?;
    out.write_str("\"")
}

fn write_joined<T>(
    out: &mut fmt::Formatter<'_>,
    (open, close): (char, char),
    items: &[T],
    mut write: impl FnMut(&mut fmt::Formatter<'_>, &T) -> fmt::Result,
) -> fmt::Result {
    write!(out, "{open}")?;
    for (at, item) in items.iter().enumerate() {
        if at > 0 {
            out.write_str(",")?;
        }
        write(out, item)?;
    }
    write!(out, "{close}")
}

impl<'de: 'a, 'a> Deserialize<'de> for Json<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(JsonVisitor)
    }
}

struct JsonVisitor;

impl<'de> Visitor<'de> for JsonVisitor {
    type Value = Json<'de>;

    fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("any JSON value")
    }

    fn visit_unit<E>(self) -> Result<Self::Value, E> {
        Ok(Json::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Self::Value, E> {
        Ok(Json::Bool(value))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Self::Value, E> {
        Ok(Json::Number(value.into()))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Self::Value, E> {
        Ok(Json::Number(value.into()))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Self::Value, E> {
        Ok(serde_json::Number::from_f64(value).map_or(Json::Null, Json::Number))
    }

    fn visit_borrowed_str<E>(self, value: &'de str) -> Result<Self::Value, E> {
        Ok(Json::String(Cow::Borrowed(value)))
    }

    fn visit_str<E>(self, value: &str) -> Result<Self::Value, E> {
        Ok(Json::String(Cow::Owned(value.to_owned())))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = seq.next_element()? {
            items.push(item);
        }
        Ok(Json::Array(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut entries = Vec::new();
        while let Some(Key(key)) = map.next_key()? {
            entries.push((key, map.next_value()?));
        }
        Ok(Json::Object(entries))
    }
}

/// An object's key: serde borrows a `Cow` only where it is told to.
#[derive(serde::Deserialize)]
struct Key<'a>(#[serde(borrow)] Cow<'a, str>);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_document_prints_compactly_and_in_its_own_order() {
        let text = r#" {"b" : [1, -2, 2.5, true, null], "a": "q\"\\\n\u0001é\/"} "#;
        let json = Json::parse(text.as_bytes()).unwrap();
        assert_eq!(
            json.to_string(),
            r#"{"b":[1,-2,2.5,true,null],"a":"q\"\\\n\u0001é/"}"#
        );
    }

    #[test]
    fn plain_strings_are_borrowed() {
        let Json::Array(items) = Json::parse(br#"["plain","esc\n"]"#).unwrap() else {
            panic!("not an array");
        };
        assert!(matches!(&items[0], Json::String(Cow::Borrowed("plain"))));
        assert!(matches!(&items[1], Json::String(Cow::Owned(_))));
    }

    #[test]
    fn deep_nesting_is_an_error_and_no_overflow() {
        let deep = "[".repeat(1_000_000);
        assert!(Json::parse(deep.as_bytes()).is_err());
        let deep = r#"{"a":"#.repeat(1_000_000);
        assert!(Json::parse(deep.as_bytes()).is_err());
    }

    #[test]
    fn the_last_of_repeated_keys_counts_and_null_is_absent() {
        let json = Json::parse(br#"{"a":1,"b":2,"a":3,"b":null}"#).unwrap();
        assert_eq!(json.get("a").and_then(Json::as_u64), Some(3));
        assert_eq!(json.get("b"), None);
    }

    #[test]
    fn whole_numbers_are_read_however_they_are_written() {
        let json = Json::parse(b"[1e3, 200.0, 1.5, -1, 1e300]").unwrap();
        let Json::Array(items) = json else {
            panic!("not an array");
        };
        let read: Vec<_> = items.iter().map(Json::as_u64).collect();
        assert_eq!(read, [Some(1_000), Some(200), None, None, None]);
    }
}
