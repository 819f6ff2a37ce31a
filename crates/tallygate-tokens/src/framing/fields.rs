//! Reading the fields of a request whose types matter.

use crate::call::CallError;
use crate::json::Json;

/// The array under `key`; empty where it is absent.
pub(super) fn array<'j>(json: &'j Json<'j>, key: &str) -> Result<&'j [Json<'j>], CallError> {
    match json.get(key) {
        None => Ok(&[]),
        Some(Json::Array(items)) => Ok(items),
        Some(other) => Err(CallError::wrong(key, "an array", other)),
    }
}

/// The array under `key`, which must be there.
pub(super) fn required_array<'j>(
    json: &'j Json<'j>,
    key: &str,
) -> Result<&'j [Json<'j>], CallError> {
    match json.get(key) {
        None => Err(CallError::missing(key)),
        Some(_) => array(json, key),
    }
}

/// The text under `key`, if it is there.
pub(super) fn text<'j>(json: &'j Json<'j>, key: &str) -> Result<Option<&'j str>, CallError> {
    match json.get(key) {
        None => Ok(None),
        Some(Json::String(text)) => Ok(Some(text)),
        Some(other) => Err(CallError::wrong(key, "a string", other)),
    }
}

/// An object, or the error that it is none.
pub(super) fn object<'j>(json: &'j Json<'j>) -> Result<&'j Json<'j>, CallError> {
    match json {
        Json::Object(_) => Ok(json),
        other => Err(CallError::wrong("", "an object", other)),
    }
}

/// Runs `each` over the elements of the array called `key`, so that its errors name their place.
pub(super) fn each<'j>(
    key: &str,
    items: &'j [Json<'j>],
    mut each: impl FnMut(&'j Json<'j>) -> Result<(), CallError>,
) -> Result<(), CallError> {
    for (at, item) in items.iter().enumerate() {
        each(item).map_err(|error| error.at(at).within(key))?;
    }
    Ok(())
}
