//! What may be shown of those who are told of events: the address of a webhook is often all that it takes to write to it.

use std::ops::Range;

use super::{is_public, is_variable};

/// What the section begins with, however its end is spelt.
const SECTION: &str = "webh";

/// What of the address of a webhook is not shown: all behind its host, or all of it where no host is to be seen.
pub(in crate::config) fn beyond_host(address: &str) -> Option<Range<usize>> {
    let quoted = |text: &str| text.trim_start_matches([' ', '"', '\'']).len();
    let start = address.len() - quoted(address);
    let bare = address.trim_matches([' ', '"', '\'']);
    if bare.is_empty() || is_variable(bare) {
        return None;
    }
    let Some(scheme) = bare.find("://") else {
        return Some(start..start + bare.len());
    };
    let host = scheme + "://".len();
    let path = bare.get(host..)?.find(['/', '?', '#', '\\'])?;
    let hidden = host + path + 1..bare.len();
    (!hidden.is_empty()).then_some(start + hidden.start..start + hidden.end)
}

/// In a file that is no YAML: what stands behind the first key of each line of the section.
pub(in crate::config) fn hooks(source: &str) -> Vec<Range<usize>> {
    let mut hidden = Vec::new();
    let mut section = None;
    let mut at = 0;
    for line in source.split_inclusive('\n') {
        let text = line.trim_start();
        let depth = line.len() - text.len();
        let goes_on =
            |section| depth > section || text.is_empty() || text.starts_with(['-', ']', '}', '#']);
        if !section.is_some_and(goes_on) {
            let begins = text.trim_start_matches(['"', '\'']).starts_with(SECTION);
            section = begins.then_some(depth);
        }
        if section.is_some() {
            hidden.extend(value(line).map(|part| at + part.start..at + part.end));
        }
        at += line.len();
    }
    hidden
}

/// What stands behind the first key of a line, or behind the mark of an item that has none.
fn value(line: &str) -> Option<Range<usize>> {
    let line = line.trim_end();
    let key = line.find(": ").map(|colon| colon + ": ".len());
    let text = line.trim_start();
    let item = text.trim_start_matches(['-', ' ']);
    let start = match key {
        _ if item.is_empty() || item.ends_with(':') && !item.contains(' ') => return None,
        Some(start) => start,
        None => line.len() - item.len(),
    };
    (!is_public(line.get(start..)?)).then_some(start..line.len())
}

#[cfg(test)]
mod tests {
    use super::{beyond_host, hooks};

    #[test]
    fn an_address_is_shown_up_to_its_host() {
        for (address, shown) in [
            ("https://h.example/T0/B0/x", "https://h.example/*******"),
            ("'https://h.example:8/x?y'", "'https://h.example:8/***'"),
            ("https://h.example?token=x", "https://h.example?*******"),
            ("https://h.example", "https://h.example"),
            ("https://h.example/", "https://h.example/"),
            ("\"${HOOK}\"", "\"${HOOK}\""),
            ("https://h/${PATH}", "https://h/*******"),
            ("h.example/x", "***********"),
            ("https:/h/x", "**********"),
        ] {
            let hidden = beyond_host(address).unwrap_or_default();
            let mut seen = address.to_owned();
            let stars = "*".repeat(hidden.len());
            seen.replace_range(hidden, &stars);
            assert_eq!(seen, shown);
        }
    }

    #[test]
    fn of_a_section_that_cannot_be_read_keys_are_shown() {
        let source = "a: [\nwebhooks:\n  - url: https://h/x\n    secrt: pw, too\n  -\n- plain\n  events: |\n    one\nlisten: h\nwebhoks: [{ url: x }]\n";
        let parts: Vec<&str> = hooks(source)
            .into_iter()
            .map(|part| &source[part])
            .collect();
        assert_eq!(
            parts,
            [
                "https://h/x",
                "pw, too",
                "plain",
                "|",
                "one",
                "[{ url: x }]"
            ]
        );
    }
}
