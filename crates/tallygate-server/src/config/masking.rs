//! Keeping keys that were written into a file out of what is shown of it.

use std::ops::Range;

use tallygate_core::text::is_plain;

use super::problem::Place;

mod hooks;

pub(super) use hooks::{beyond_host, hooks};

/// What a password stands behind in a URL's options.
const PASSWORD_OPTION: &str = "password=";

/// The settings whose values may be keys, as people spell them.
const SECRET_NAMES: [&str; 6] = ["api_key", "apikey", "api-key", "api key", "hash", "secret"];

/// `source` with each character of a secret replaced by stars, byte for byte, so that places keep their meaning. `secrets` are
/// the values that were read as such; in a file that is not readable as YAML they are found by the names before them.
pub(super) fn masked(source: &str, secrets: &[Place]) -> String {
    let mut hidden = vec![false; source.len()];
    let read = secrets
        .iter()
        .map(|at| at.offset..at.offset.saturating_add(at.length));
    let written = named(source).into_iter().chain(stores(source));
    for range in read.chain(written).chain(passwords(source)) {
        let end = range.end.min(source.len());
        hidden
            .get_mut(range.start..end)
            .unwrap_or_default()
            .fill(true);
    }
    let mut shown = String::with_capacity(source.len());
    for (offset, letter) in source.char_indices() {
        let secret = hidden.get(offset) == Some(&true);
        if secret && !matches!(letter, '\n' | '\r' | '"' | '\'') {
            shown.extend(std::iter::repeat_n('*', letter.len_utf8()));
        } else if !is_plain(letter) && !matches!(letter, '\n' | '\r' | '\t') {
            shown.extend(std::iter::repeat_n('?', letter.len_utf8()));
        } else {
            shown.push(letter);
        }
    }
    shown
}

/// Whether a value may be shown: a reference to the environment, or a hash.
pub(super) fn is_public(value: &str) -> bool {
    let value = value.trim_matches(['"', '\'']);
    value.is_empty() || value.starts_with("${") || value.parse::<crate::identify::KeyHash>().is_ok()
}

/// Whether a value whose key is not known may be shown: also a number, an amount, or a word of the language.
pub(super) fn is_harmless(value: &str) -> bool {
    let is_amount = |c: char| c.is_ascii_digit() || matches!(c, '_' | '.' | '-');
    let bare = value.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let short = value.len() <= 12 && value.len() - bare.len() <= 3;
    is_public(value)
        || matches!(value, "true" | "false")
        || short && !bare.is_empty() && bare.chars().all(is_amount)
}

/// The values behind a secret's name, each to the end of its line or of its place in a flow mapping.
fn named(source: &str) -> Vec<Range<usize>> {
    let lower = source.to_ascii_lowercase();
    let mut found = Vec::new();
    for name in SECRET_NAMES {
        for (at, _) in lower.match_indices(name) {
            found.extend(value_behind(source, at + name.len()));
        }
    }
    found
}

/// The passwords in URLs: of `user:password@` up to the line's last `@`, for they may hold one unescaped, and behind
/// [`PASSWORD_OPTION`]. A login without a colon may be a password that was put in the wrong place.
fn passwords(source: &str) -> Vec<Range<usize>> {
    let mut found = Vec::new();
    for (at, mark) in source.match_indices("://") {
        let start = at + mark.len();
        let line = line_from(source, start);
        let Some(login) = line.rfind('@').and_then(|end| line.get(..end)) else {
            continue;
        };
        match login.split_once(':') {
            Some((user, password)) if !is_variable(password) => {
                found.push(start + user.len() + 1..start + login.len());
            }
            None if !is_variable(login) && !login.contains(' ') => {
                found.push(start..start + login.len());
            }
            _ => {}
        }
    }
    for (at, mark) in source.to_ascii_lowercase().match_indices(PASSWORD_OPTION) {
        let start = at + mark.len();
        let value = line_from(source, start);
        let option = value
            .split(['&', '"', '\'', ' '])
            .next()
            .unwrap_or_default();
        if !is_variable(option) {
            found.push(start..start + value.len());
        }
    }
    found
}

/// The logins in what stands behind `store:`, each to the end of its line or of its place in a flow mapping.
fn stores(source: &str) -> Vec<Range<usize>> {
    let mut found = Vec::new();
    for (at, name) in source.match_indices("store") {
        let line = line_from(source, at + name.len());
        let Some(value) = line.trim_start_matches(['"', '\'', ' ']).strip_prefix(':') else {
            continue;
        };
        let value = value.trim_start();
        let start = at + name.len() + line.len() - value.len();
        let value = value.split(" #").next().unwrap_or_default();
        let value = value.split(", ").next().unwrap_or_default();
        found.extend(login(value).map(|part| start + part.start..start + part.end));
    }
    found
}

/// What may be a login in the address of a store that does not read as a URL: all up to the last `@` where nothing says what
/// it is, and all behind a `:` that no port follows. What [`passwords`] finds by its marks is left to that.
pub(super) fn login(address: &str) -> Option<Range<usize>> {
    let start = address.find("://").map_or(0, |at| at + "://".len());
    let unmarked = match start {
        0 => address,
        _ => address.get(..start)?,
    };
    if let Some(end) = unmarked.rfind('@') {
        return Some(0..end);
    }
    if address.contains('@') || is_variable(address.trim_matches([' ', '"', '\''])) {
        return None;
    }
    let rest = address.get(start..)?;
    let hosts = match start {
        0 => rest.len(),
        _ => rest.find(['/', '?', '#']).unwrap_or(rest.len()),
    };
    let mut at = start;
    for host in rest.get(..hosts)?.split(',') {
        let name = host.find(']').unwrap_or(0);
        let colon = host.get(name..)?.find(':').map(|colon| name + colon + 1);
        if let Some(colon) = colon.filter(|colon| !is_port(host.get(*colon..).unwrap_or_default()))
        {
            return Some(at + colon..address.len());
        }
        at += host.len() + 1;
    }
    None
}

fn is_port(text: &str) -> bool {
    let text = text.trim_end_matches(['"', '\'', ' ']);
    text.parse::<u16>().is_ok() || is_variable(text)
}

fn line_from(source: &str, start: usize) -> &str {
    let rest = source.get(start..).unwrap_or_default();
    rest.lines().next().unwrap_or_default()
}

/// Whether a text is one `${NAME}` and nothing else.
fn is_variable(text: &str) -> bool {
    let name = text
        .strip_prefix("${")
        .and_then(|text| text.strip_suffix('}'));
    name.is_some_and(|name| !name.contains(['$', '{', '}', '@']))
}

fn value_behind(source: &str, name_end: usize) -> Option<Range<usize>> {
    let rest = source.get(name_end..)?;
    let colon = rest
        .trim_start_matches(['"', '\'', ' '])
        .strip_prefix(':')?;
    let value = colon.trim_start_matches(' ');
    let start = source.len() - value.len();
    let end = value.find(['\n', ',', '}']).unwrap_or(value.len());
    // The `}` of `${NAME}` ends nothing, but then there is nothing to hide either.
    let text = value.get(..end)?.trim_end();
    (!is_public(text)).then_some(start..start + text.len())
}

#[cfg(test)]
mod tests {
    use super::masked;
    use crate::config::problem::Place;

    #[test]
    fn keys_are_starred_byte_for_byte_and_references_are_not() {
        let source = "a: { api_key: \"sk-é1\", x: 1 }\nb: { apikey: sk-2 }\nc: { \"api_key\": ${KEY} }\nd: ok";
        let shown = masked(source, &[]);
        assert_eq!(
            shown,
            "a: { api_key: \"******\", x: 1 }\nb: { apikey: **** }\nc: { \"api_key\": ${KEY} }\nd: ok"
        );
        assert_eq!(shown.len(), source.len());
    }

    #[test]
    fn passwords_in_urls_are_starred_and_what_is_around_them_is_not() {
        for (source, shown) in [
            ("store: redis://:pw@h:1/0", "store: redis://:**@h:1/0"),
            (
                "store: 'redis://u:p@w@h' # x",
                "store: 'redis://u:***@h' # x",
            ),
            ("a: redis://u:p@h, b: me@x", "a: redis://u:**********@x"),
            ("store: redis://misplaced@h", "store: redis://*********@h"),
            ("store: redis://u:${PW}@h", "store: redis://u:${PW}@h"),
            (
                "store: redis://u:${A}b${C}@h",
                "store: redis://u:*********@h",
            ),
            (
                "s: \"redis+sentinel://h/m?sentinel_password=pw\"",
                "s: \"redis+sentinel://h/m?sentinel_password=**\"",
            ),
            (
                "s: redis+sentinel://h/m?sentinel_password=${PW}&db=1",
                "s: redis+sentinel://h/m?sentinel_password=${PW}&db=1",
            ),
            ("base_url: https://h:1/v1", "base_url: https://h:1/v1"),
        ] {
            assert_eq!(masked(source, &[]), shown);
        }
    }

    /// What is meant as a URL and reads as none shows nothing that may be a login.
    #[test]
    fn logins_of_addresses_that_are_no_urls_are_starred() {
        for (source, shown) in [
            ("redis//u:pw@h:1", "***********@h:1".to_owned()),
            ("redis:/u:pw@h", "***********@h".to_owned()),
            ("u:pw@h:1", "****@h:1".to_owned()),
            ("u:p@w@h", "*****@h".to_owned()),
            ("redis://u:pw", "redis://u:**".to_owned()),
            ("redis://u:p/w", "redis://u:***".to_owned()),
            ("redis://u:99999", "redis://u:*****".to_owned()),
            ("redis:/u:pw", "redis:*****".to_owned()),
            ("redis//u:pw", "redis//u:**".to_owned()),
            (
                "redis+cluster://h:1,[::1]:2,u:pw",
                "redis+cluster://h:1,[::1]:2,u:**".to_owned(),
            ),
            ("\"redis://u:pw\"", "\"redis://u:**\"".to_owned()),
            (
                "redis://h:1/0?prefix=a:b",
                "redis://h:1/0?prefix=a:b".to_owned(),
            ),
            ("redis://[::1]:6379/0", "redis://[::1]:6379/0".to_owned()),
            ("redis://h:${PORT}", "redis://h:${PORT}".to_owned()),
            ("${URL}", "${URL}".to_owned()),
            ("memory", "memory".to_owned()),
            ("./data", "./data".to_owned()),
        ] {
            let line = format!("a: [\nstore: {source} # m");
            assert_eq!(masked(&line, &[]), format!("a: [\nstore: {shown} # m"));
        }
    }

    #[test]
    fn a_value_that_was_read_as_a_secret_is_starred_wherever_it_stands() {
        let source = "k: &k |\n  sk-1\n  sk-2\nrest: 1";
        let at = Place {
            offset: 8,
            length: 13,
            line: 2,
            column: 3,
        };
        assert_eq!(masked(source, &[at]), "k: &k |\n******\n******\nrest: 1");
    }
}
