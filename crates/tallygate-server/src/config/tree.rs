//! The YAML of a configuration as a tree whose every node knows its place.
//!
//! Reading straight into structs would stop at the first mistake; a tree lets every reader report its own and go on.

use std::fmt;

use serde::de::{self, Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_saphyr::{DuplicateKeyPolicy, Spanned};

use super::problem::{Kind, Place, Problem};

/// How deep a file may nest; a configuration needs eight levels. Reading is recursive, so this bounds its stack.
const MAX_DEPTH: usize = 16;

/// One node of the file.
#[derive(Debug)]
pub(super) struct Node {
    /// Where it stands; for an alias, where the anchored value stands.
    pub(super) at: Place,
    /// What it holds.
    pub(super) value: Value,
}

/// What a node holds.
#[derive(Debug)]
pub(super) enum Value {
    /// Nothing, `~` or `null`.
    Null,
    /// A text, or a number or boolean as it was written.
    Scalar(String),
    /// A sequence.
    List(Vec<Node>),
    /// A mapping in the order of the file, repeated keys included.
    Map(Vec<(Key, Node)>),
}

/// A mapping's key.
#[derive(Debug)]
pub(super) struct Key {
    /// Where it stands.
    pub(super) at: Place,
    /// The key as text.
    pub(super) name: String,
}

impl Node {
    /// Reads the single document of `source`.
    pub(super) fn parse(source: &str) -> Result<Self, Problem> {
        let options = serde_saphyr::options! {
            with_snippet: false,
        budget: serde_saphyr::budget! { max_depth: MAX_DEPTH, flow_nesting_limit: MAX_DEPTH },
            // Doubled keys come through, so that each can be reported at its place.
            duplicate_keys: DuplicateKeyPolicy::PassThrough,
            strict_booleans: true,
        };
        let raw: Spanned<Raw> = serde_saphyr::from_str_with_options(source, options)
            .map_err(|error| unreadable(source, &error))?;
        Ok(located(raw, source))
    }

    /// What kind of thing the node is, in a reader's words.
    pub(super) fn kind(&self) -> &'static str {
        match self.value {
            Value::Null => "nothing",
            Value::Scalar(_) => "a single value",
            Value::List(_) => "a list",
            Value::Map(_) => "a mapping",
        }
    }
}

/// The deserialised form; a `Written` scalar's text is cut from the source afterwards, so that `10_000` and `2_000.00`
/// keep every digit they were written with.
enum Raw {
    Null,
    Text(String),
    Written,
    List(Vec<Spanned<Self>>),
    Map(Vec<(Spanned<Self>, Spanned<Self>)>),
}

fn located(raw: Spanned<Raw>, source: &str) -> Node {
    let at = place(&raw.defined);
    let value = match raw.value {
        Raw::Null => Value::Null,
        Raw::Text(text) => Value::Scalar(text),
        Raw::Written => Value::Scalar(at.text_in(source).trim().to_owned()),
        Raw::List(items) => Value::List(
            items
                .into_iter()
                .map(|item| located(item, source))
                .collect(),
        ),
        Raw::Map(entries) => Value::Map(
            entries
                .into_iter()
                .map(|(key, value)| (named(key, source), located(value, source)))
                .collect(),
        ),
    };
    Node { at, value }
}

fn named(key: Spanned<Raw>, source: &str) -> Key {
    let node = located(key, source);
    let name = match node.value {
        Value::Scalar(text) => text,
        Value::Null | Value::List(_) | Value::Map(_) => node.at.text_in(source).to_owned(),
    };
    Key { at: node.at, name }
}

fn place(location: &serde_saphyr::Location) -> Place {
    let span = location.span();
    Place {
        offset: whole(span.byte_offset().unwrap_or_default()),
        length: whole(span.byte_len().unwrap_or_default()),
        line: whole(location.line()),
        column: whole(location.column()),
    }
}

fn whole(number: u64) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}

fn unreadable(source: &str, error: &serde_saphyr::Error) -> Problem {
    let at = error.location().map_or_else(Place::start, |location| {
        match location.span().byte_offset() {
            Some(_) => place(&location),
            None => Place::of_line(source, whole(location.line()), whole(location.column())),
        }
    });
    let said = error.to_string();
    // The place is said apart, by the diagnostic itself.
    let message = said
        .split(" at line ")
        .next()
        .unwrap_or(&said)
        .trim_end_matches([',', ':', ' ']);
    let message = message.strip_prefix("error: ").unwrap_or(message);
    Problem::error(
        Kind::Syntax,
        at.within(source),
        format!("not readable as YAML: {message}"),
    )
}

impl<'de> Deserialize<'de> for Raw {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(RawVisitor)
    }
}

struct RawVisitor;

impl<'de> Visitor<'de> for RawVisitor {
    type Value = Raw;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any YAML value")
    }

    fn visit_unit<E: de::Error>(self) -> Result<Raw, E> {
        Ok(Raw::Null)
    }

    fn visit_none<E: de::Error>(self) -> Result<Raw, E> {
        Ok(Raw::Null)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Raw, D::Error> {
        Raw::deserialize(deserializer)
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Raw, E> {
        Ok(Raw::Text(text.to_owned()))
    }

    fn visit_bool<E: de::Error>(self, _: bool) -> Result<Raw, E> {
        Ok(Raw::Written)
    }

    fn visit_i64<E: de::Error>(self, _: i64) -> Result<Raw, E> {
        Ok(Raw::Written)
    }

    fn visit_u64<E: de::Error>(self, _: u64) -> Result<Raw, E> {
        Ok(Raw::Written)
    }

    fn visit_i128<E: de::Error>(self, _: i128) -> Result<Raw, E> {
        Ok(Raw::Written)
    }

    fn visit_u128<E: de::Error>(self, _: u128) -> Result<Raw, E> {
        Ok(Raw::Written)
    }

    fn visit_f64<E: de::Error>(self, _: f64) -> Result<Raw, E> {
        Ok(Raw::Written)
    }

    fn visit_bytes<E: de::Error>(self, _: &[u8]) -> Result<Raw, E> {
        Ok(Raw::Written)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Raw, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = seq.next_element()? {
            items.push(item);
        }
        Ok(Raw::List(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Raw, A::Error> {
        let mut entries = Vec::new();
        while let Some(entry) = map.next_entry()? {
            entries.push(entry);
        }
        Ok(Raw::Map(entries))
    }
}
