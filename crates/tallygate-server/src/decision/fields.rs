//! Reading a JSON object field by field, so that what is wrong is named by its path.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;
use tallygate_core::MAX_AMOUNT;

/// A day, in milliseconds: the longest that a reservation stands unsettled.
const MAX_TTL: u64 = 86_400_000;

/// The longest time a body may speak of: 366 days, in milliseconds.
const MAX_MILLIS: u64 = 366 * 86_400_000;

/// What is wrong with a body.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum FieldError {
    /// It is no JSON object.
    #[error("the body is not a JSON object: {0}")]
    Syntax(String),
    /// A field that is not known here.
    #[error("unknown field `{0}`")]
    Unknown(String),
    /// A field whose value cannot be.
    #[error("the field `{path}` must be {wanted}")]
    Wrong {
        /// Where it is, as `demand.tokens`.
        path: String,
        /// What would be right.
        wanted: &'static str,
    },
    /// A field that stands in its object more than once: readers differ on which one counts.
    #[error("the field `{0}` is given twice")]
    Twice(String),
    /// A field that must be there.
    #[error("the field `{0}` is missing")]
    Missing(String),
}

impl FieldError {
    /// The path of the field it speaks of.
    pub(crate) fn path(&self) -> Option<&str> {
        match self {
            Self::Syntax(_) => None,
            Self::Unknown(path)
            | Self::Twice(path)
            | Self::Missing(path)
            | Self::Wrong { path, .. } => Some(path),
        }
    }
}

/// The fields of one object that have not been read yet.
#[derive(Debug)]
pub(crate) struct Fields<'a> {
    /// The object's own path with a dot behind it; empty for the body itself.
    prefix: String,
    left: BTreeMap<String, &'a RawValue>,
}

impl<'a> Fields<'a> {
    /// The fields of a whole body.
    ///
    /// # Errors
    /// [`FieldError::Syntax`] with line and column; [`FieldError::Twice`].
    pub(crate) fn of_body(body: &'a [u8]) -> Result<Self, FieldError> {
        let members = serde_json::from_slice(body);
        let members = members.map_err(|error| FieldError::Syntax(error.to_string()))?;
        Self::of_members(String::new(), members)
    }

    fn of_members(prefix: String, members: Members<'a>) -> Result<Self, FieldError> {
        match members.twice {
            Some(name) => Err(FieldError::Twice(format!("{prefix}{name}"))),
            None => Ok(Self {
                prefix,
                left: members.once,
            }),
        }
    }

    /// The fields of the object in the field `name` of a body.
    ///
    /// # Errors
    /// When it is no object, or has a field twice.
    pub(crate) fn of_field(name: &str, raw: &'a RawValue) -> Result<Self, FieldError> {
        let wanted = "an object";
        let wrong = |_| FieldError::Wrong {
            path: name.to_owned(),
            wanted,
        };
        let members = serde_json::from_str(raw.get()).map_err(wrong)?;
        Self::of_members(format!("{name}."), members)
    }

    /// The path of the field `name`.
    pub(crate) fn path(&self, name: &str) -> String {
        format!("{}{name}", self.prefix)
    }

    /// The text of a field's value, unread.
    pub(crate) fn raw(&mut self, name: &str) -> Option<&'a RawValue> {
        self.left.remove(name).filter(|raw| raw.get() != "null")
    }

    /// A text.
    pub(crate) fn text(&mut self, name: &str) -> Result<Option<String>, FieldError> {
        self.value(name, "a text")
    }

    /// True or false.
    pub(crate) fn flag(&mut self, name: &str) -> Result<Option<bool>, FieldError> {
        self.value(name, "true or false")
    }

    /// An amount: an integer from 0 to 2^53.
    pub(crate) fn amount(&mut self, name: &str) -> Result<Option<u64>, FieldError> {
        self.number(name, MAX_AMOUNT, "an integer from 0 to 9007199254740992")
    }

    /// A length of time in whole milliseconds.
    pub(crate) fn millis(&mut self, name: &str) -> Result<Option<Duration>, FieldError> {
        let wanted = "milliseconds: an integer from 0 to 31622400000";
        Ok(self
            .number(name, MAX_MILLIS, wanted)?
            .map(Duration::from_millis))
    }

    /// How long a reservation stands unsettled: whole milliseconds up to a day.
    pub(crate) fn ttl(&mut self, name: &str) -> Result<Option<Duration>, FieldError> {
        let wanted = "milliseconds: an integer from 1 to 86400000";
        let ttl = self.number(name, MAX_TTL, wanted)?;
        match ttl {
            Some(0) => Err(self.wrong(name, wanted)),
            ttl => Ok(ttl.map(Duration::from_millis)),
        }
    }

    /// An object.
    pub(crate) fn object(&mut self, name: &str) -> Result<Option<Self>, FieldError> {
        let members = self.value(name, "an object")?;
        let prefix = format!("{}{name}.", self.prefix);
        members
            .map(|members| Self::of_members(prefix, members))
            .transpose()
    }

    /// The names of all fields not read yet.
    pub(crate) fn names(&self) -> Vec<String> {
        self.left.keys().cloned().collect()
    }

    /// The error for a field that is not there and must be.
    pub(crate) fn missing(&self, name: &str) -> FieldError {
        FieldError::Missing(self.path(name))
    }

    /// The error for a field that is not what it must be.
    pub(crate) fn wrong(&self, name: &str, wanted: &'static str) -> FieldError {
        FieldError::Wrong {
            path: self.path(name),
            wanted,
        }
    }

    /// Every field must have been read by now.
    ///
    /// # Errors
    /// [`FieldError::Unknown`] with the first that was not.
    pub(crate) fn end(self) -> Result<(), FieldError> {
        match self.left.keys().next() {
            Some(name) => Err(FieldError::Unknown(self.path(name))),
            None => Ok(()),
        }
    }

    fn number(
        &mut self,
        name: &str,
        most: u64,
        wanted: &'static str,
    ) -> Result<Option<u64>, FieldError> {
        match self.value::<u64>(name, wanted)? {
            Some(number) if number > most => Err(self.wrong(name, wanted)),
            number => Ok(number),
        }
    }

    fn value<T: Deserialize<'a>>(
        &mut self,
        name: &str,
        wanted: &'static str,
    ) -> Result<Option<T>, FieldError> {
        let Some(raw) = self.raw(name) else {
            return Ok(None);
        };
        serde_json::from_str(raw.get())
            .map(Some)
            .map_err(|_| self.wrong(name, wanted))
    }
}

/// The members of an object, and the first name that it has more than once.
struct Members<'a> {
    once: BTreeMap<String, &'a RawValue>,
    twice: Option<String>,
}

impl<'de: 'a, 'a> Deserialize<'de> for Members<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reader;

        impl<'de> Visitor<'de> for Reader {
            type Value = Members<'de>;

            fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
                out.write_str("a map")
            }

            fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<Members<'de>, M::Error> {
                let mut members = Members {
                    once: BTreeMap::new(),
                    twice: None,
                };
                while let Some((name, value)) = map.next_entry::<String, &'de RawValue>()? {
                    if members.twice.is_none() && members.once.contains_key(&name) {
                        members.twice = Some(name.clone());
                    }
                    members.once.insert(name, value);
                }
                Ok(members)
            }
        }

        deserializer.deserialize_map(Reader)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BODY: &[u8] =
        br#"{"a": 7, "b": "x", "c": {"d": -1, "e": {"f": true}}, "g": null, "h": 9007199254740993}"#;

    #[test]
    fn fields_are_read_once_and_named_by_path() {
        let mut fields = Fields::of_body(BODY).unwrap();
        assert_eq!(fields.amount("a"), Ok(Some(7)));
        assert_eq!(fields.amount("a"), Ok(None));
        assert_eq!(fields.text("b"), Ok(Some("x".into())));
        assert_eq!(fields.text("g"), Ok(None));
        assert_eq!(fields.amount("h").unwrap_err().path(), Some("h"));
        let mut nested = fields.object("c").unwrap().unwrap();
        assert_eq!(nested.amount("d").unwrap_err().path(), Some("c.d"));
        let deeper = nested.object("e").unwrap().unwrap();
        assert_eq!(deeper.end(), Err(FieldError::Unknown("c.e.f".into())));
        assert_eq!(nested.end(), Ok(()));
        assert_eq!(fields.end(), Ok(()));
    }

    #[test]
    fn a_field_that_is_given_twice_is_named_wherever_it_is() {
        let twice = |body: &[u8]| Fields::of_body(body).unwrap_err();
        let body = br#"{"id": "a", "b": 1, "id": "b"}"#;
        assert_eq!(twice(body), FieldError::Twice("id".into()));
        assert_eq!(twice(br#"{"id": "a", "\u0069d": null}"#).path(), Some("id"));
        let mut fields = Fields::of_body(br#"{"c": {"d": 1, "d": 1}}"#).unwrap();
        assert_eq!(fields.object("c").unwrap_err().path(), Some("c.d"));
    }

    #[test]
    fn what_is_not_an_object_is_told_with_its_place() {
        let error = Fields::of_body(b"{\"a\": 1,\n \"b\": }").unwrap_err();
        assert!(error.to_string().contains("line 2 column 7"), "{error}");
        assert!(Fields::of_body(b"[1]").is_err());
        assert!(Fields::of_body(b"").is_err());
    }

    #[test]
    fn times_have_a_bound() {
        let body = br#"{"a": 31622400000, "b": 31622400001, "c": 1.5}"#;
        let mut fields = Fields::of_body(body).unwrap();
        assert_eq!(
            fields.millis("a"),
            Ok(Some(Duration::from_millis(MAX_MILLIS)))
        );
        assert!(fields.millis("b").is_err());
        assert!(fields.millis("c").is_err());
    }
}
