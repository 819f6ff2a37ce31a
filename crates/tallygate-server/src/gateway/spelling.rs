//! Whether a path can be read in more than one way.
//!
//! What is sized, and which limits apply, is read from the path as it stands. Providers and the proxies before them are
//! laxer: they decode escapes, drop doubled slashes and walk up at `..`. A path that they would take for another than is
//! read here would pass under the wrong limits, or leave the part of a provider that its base address names.

use std::borrow::Cow;

use crate::percent;

/// Escapes of escapes that are looked through. Nobody writes one.
const DECODED_TIMES: usize = 3;

/// How lax readers read `path`: escapes decoded, with each segment's parameters, empty segments and
/// blanks at the end left out. `None` if it walks up or down by dots, or hides what it says behind ever more escapes.
pub(super) fn lax(path: &str) -> Option<String> {
    let mut decoded = Cow::Borrowed(path);
    for _ in 0..DECODED_TIMES {
        match decode(&decoded) {
            Some(once) => decoded = Cow::Owned(once),
            None => return joined(&decoded),
        }
    }
    None
}

fn joined(path: &str) -> Option<String> {
    let mut lax = String::with_capacity(path.len());
    for segment in path.split(['/', '\\']) {
        let name = segment.split(';').next().unwrap_or_default().trim();
        match name {
            "." | ".." => return None,
            "" => {}
            name => {
                lax.push('/');
                lax.push_str(name);
            }
        }
    }
    Some(lax)
}

/// `text` with its escapes decoded once; `None` if it has none.
fn decode(text: &str) -> Option<String> {
    let bytes = percent::decoded(text);
    (bytes.len() < text.len()).then(|| String::from_utf8_lossy(&bytes).into_owned())
}

#[cfg(test)]
mod tests {
    use super::lax;

    #[test]
    fn one_place_spelt_in_many_ways_is_one() {
        for path in [
            "/v1/chat/completions",
            "/v1//chat/completions/",
            "/v1/%63hat/completions",
            "/v1/%2563hat/completions",
            "/v1/chat%2Fcompletions",
            "/v1\\chat/completions",
            "/v1/chat;a=b/completions;c",
            "/v1/chat/completions%20",
        ] {
            assert_eq!(lax(path).as_deref(), Some("/v1/chat/completions"), "{path}");
        }
    }

    #[test]
    fn paths_that_walk_are_no_paths() {
        for path in [
            "/v1/../admin",
            "/v1/./models",
            "/v1/%2e%2e/admin",
            "/v1/..%2fadmin",
            "/v1/x%5C..%5Cadmin",
            "/v1/%252e%252e/admin",
            "/v1/..;/admin",
            "/v1/%2525252e",
        ] {
            assert_eq!(lax(path), None, "{path}");
        }
        assert_eq!(lax("/v1/files/a..b").as_deref(), Some("/v1/files/a..b"));
        assert_eq!(lax("/v1/100%").as_deref(), Some("/v1/100%"));
    }
}
