//! What changes in the headers on the way to a provider and back.

use std::borrow::Cow;

use http::Uri;
use http::header::{
    self, ACCEPT_ENCODING, CONNECTION, CONTENT_ENCODING, CONTENT_LENGTH, EXPECT, HOST, HeaderMap,
    HeaderName, HeaderValue,
};
use http::uri::PathAndQuery;

use super::provider::Provider;
use crate::identify::{CREDENTIAL_HEADERS, strip_key};
use crate::wire::ApiError;

/// Headers that speak of one connection and end with it (RFC 9110 §7.6.1).
const HOP_BY_HOP: [HeaderName; 9] = [
    CONNECTION,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    header::PROXY_AUTHENTICATE,
    header::PROXY_AUTHORIZATION,
    header::TE,
    header::TRAILER,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
];

/// Headers that make some providers take a request for one by another method: a call would pass for something else.
const METHOD_OVERRIDES: [HeaderName; 3] = [
    HeaderName::from_static("x-http-method-override"),
    HeaderName::from_static("x-http-method"),
    HeaderName::from_static("x-method-override"),
];

/// Every header of the gateway's own begins so, in requests and in answers.
const OWN: &str = "x-tallygate-";

/// Whether the gateway reads the answer, and so must get it uncompressed.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Reading {
    /// The answer's usage is read.
    Answer,
    /// The answer passes unread.
    Nothing,
}

/// Turns a caller's headers into those of a request to `provider`. Where the gateway has no key of its own for it, the
/// caller's goes through, unless it was the key to the gateway.
pub(super) fn to_provider(headers: &mut HeaderMap, provider: &Provider, reading: Reading) {
    drop_hop_by_hop(headers);
    drop_own(headers);
    for name in &METHOD_OVERRIDES {
        headers.remove(name);
    }
    headers.remove(EXPECT);
    headers.insert(HOST, provider.host());
    if let Some((name, value)) = provider.upstream().credential() {
        drop_credentials(headers);
        headers.insert(name.clone(), value.clone());
    }
    if reading == Reading::Answer {
        headers.remove(CONTENT_LENGTH); // the body may have changed; the connection counts it anew
        headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
    }
}

/// Removes whatever a caller may have said who it is with.
pub(super) fn drop_credentials(headers: &mut HeaderMap) {
    for name in &CREDENTIAL_HEADERS {
        headers.remove(name);
    }
}

/// As [`drop_credentials`], for the `?key=…` that a key may come as.
pub(super) fn without_key(uri: &Uri) -> Cow<'_, Uri> {
    let asked = uri.path_and_query().map_or("/", PathAndQuery::as_str);
    match strip_key(asked) {
        Cow::Borrowed(_) => Cow::Borrowed(uri),
        // What is left of a path and query is one.
        Cow::Owned(stripped) => Uri::try_from(stripped).map_or(Cow::Borrowed(uri), Cow::Owned),
    }
}

/// A body that is to be sized must be readable as it comes.
///
/// # Errors
/// When it is compressed.
pub(super) fn check_encoding(headers: &HeaderMap) -> Result<(), ApiError> {
    let plain = |value: &HeaderValue| value.as_bytes().eq_ignore_ascii_case(b"identity");
    match headers.get_all(CONTENT_ENCODING).iter().all(plain) {
        true => Ok(()),
        false => Err(ApiError::invalid(
            "the request body must be sent uncompressed, without content-encoding",
            None,
        )),
    }
}

/// The model that serves a call, where it is not simply the one asked for.
const MODEL: HeaderName = HeaderName::from_static("x-tallygate-model");

/// The model asked for then.
const ASKED: HeaderName = HeaderName::from_static("x-tallygate-asked");

/// Tells that `served` answers who asked for `asked`.
pub(crate) fn tell_model(headers: &mut HeaderMap, served: &str, asked: &str) {
    for (name, model) in [(MODEL, served), (ASKED, asked)] {
        // Names of models have no control characters, and all else may stand in a header.
        if let Ok(value) = HeaderValue::from_bytes(model.as_bytes()) {
            headers.insert(name, value);
        }
    }
}

/// Takes from a provider's headers what speaks of its connection alone.
pub(super) fn to_caller(headers: &mut HeaderMap) {
    drop_hop_by_hop(headers);
}

fn drop_hop_by_hop(headers: &mut HeaderMap) {
    if headers.contains_key(CONNECTION) {
        let named: Vec<HeaderValue> = headers.get_all(CONNECTION).iter().cloned().collect();
        named.iter().for_each(|named| drop_named(headers, named));
    }
    for name in HOP_BY_HOP {
        headers.remove(name);
    }
}

/// Removes the headers that a `connection` header names.
fn drop_named(headers: &mut HeaderMap, connection: &HeaderValue) {
    let names = connection
        .to_str()
        .unwrap_or_default()
        .split(',')
        .map(str::trim);
    for name in names.filter(|name| !name.is_empty()) {
        headers.remove(name);
    }
}

fn drop_own(headers: &mut HeaderMap) {
    let own: Vec<HeaderName> = headers
        .keys()
        .filter(|name| name.as_str().starts_with(OWN))
        .cloned()
        .collect();
    for name in own {
        headers.remove(name);
    }
}
