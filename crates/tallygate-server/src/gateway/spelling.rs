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
    joined(&unescaped(path)?)
}

/// The call that is sized here and ends like `path`, however lax that is read: of another version, below another resource, with a
/// model's name that is none, or with something at its end that readers drop.
pub(super) fn ending(path: &str) -> Option<&'static str> {
    let path = unescaped(path).unwrap_or(Cow::Borrowed(path));
    let parameters = path
        .rfind(';')
        .filter(|at| !path[*at..].contains(['/', '\\']));
    let without = parameters.map_or(&*path, |at| &path[..at]);
    ends_like(&path).or_else(|| ends_like(without))
}

fn ends_like(path: &str) -> Option<&'static str> {
    let path = path.split(['?', '#']).next().unwrap_or_default();
    let dropped = |letter: char| !letter.is_alphanumeric() && letter != '_';
    let path = path.trim_end_matches(dropped).to_lowercase();
    let path = path.replace('\\', "/");
    let mut endings = ENDINGS.into_iter();
    let found = endings.find(|(ending, _)| path.ends_with(ending));
    found.map(|(_, call)| call)
}

/// How the paths of calls that are sized end, in lower case, and how those calls are written. A longer ending goes before
/// one that it ends in.
const ENDINGS: [(&str, &str); 8] = [
    ("/chat/completions", "POST /v1/chat/completions"),
    ("/completions", "POST /v1/completions"),
    ("/responses", "POST /v1/responses"),
    ("/embeddings", "POST /v1/embeddings"),
    ("/messages", "POST /v1/messages"),
    ("/messages/count_tokens", "POST /v1/messages/count_tokens"),
    (
        ":generatecontent",
        "POST /v1beta/models/{model}:generateContent",
    ),
    (
        ":streamgeneratecontent",
        "POST /v1beta/models/{model}:streamGenerateContent",
    ),
];

/// `path` without its escapes; `None` if it hides what it says behind ever more of them.
fn unescaped(path: &str) -> Option<Cow<'_, str>> {
    let mut decoded = Cow::Borrowed(path);
    for _ in 0..DECODED_TIMES {
        match decode(&decoded) {
            Some(once) => decoded = Cow::Owned(once),
            None => return Some(decoded),
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
    use super::{ending, lax};

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

    #[test]
    fn an_ending_is_known_in_any_spelling() {
        let chat = "POST /v1/chat/completions";
        let gemini = "POST /v1beta/models/{model}:generateContent";
        for (path, call) in [
            ("/v1/chat/completions", chat),
            ("/v1/v1/Chat/completions/", chat),
            ("/v1/chat%2fcompletions%3fx", chat),
            ("/v1/chat/completions%00", chat),
            ("/v1/chat\\completions;a=b", chat),
            ("/v1/chat/completions.", chat),
            ("/v1/x/../chat/completions", chat),
            ("/v1/engines/gpt-4o/completions", "POST /v1/completions"),
            ("/v1beta/models/x/g:generateContent", gemini),
            ("/v1beta/models/x%2Fg:generateContent", gemini),
            ("/v1beta/models/;g:generateContent", gemini),
            ("/v1beta/models/g:GenerateContent;x", gemini),
            ("/v1/projects/p/models/g%253AgenerateContent", gemini),
        ] {
            assert_eq!(ending(path), Some(call), "{path}");
        }
        for path in [
            "/v1/files",
            "/v1/models/ft%3Agpt-4o%3Aorg",
            "/v1/chat/completions/id",
            "/v1/;x/y",
        ] {
            assert_eq!(ending(path), None, "{path}");
        }
    }
}
