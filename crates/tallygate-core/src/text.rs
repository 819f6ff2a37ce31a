//! Texts that somebody else wrote, where a person or a log reads them.
//!
//! Labels, models' names and what servers say are such texts. A control character in one moves a terminal's cursor or begins a line
//! of a log that nobody wrote; one that turns the direction of writing (Unicode Annex #9) shows another text than is meant.

use std::borrow::Cow;

/// What stands for a character that is not shown.
const HIDDEN: char = '\u{fffd}';

/// Whether a character is shown as it is: no control, no change of direction, no separator of lines or paragraphs.
#[must_use]
pub fn is_plain(letter: char) -> bool {
    let turns = matches!(
        letter,
        '\u{061c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}'
    );
    !letter.is_control() && !turns && !matches!(letter, '\u{2028}' | '\u{2029}')
}

/// Whether all of a text is shown as it is.
#[must_use]
pub fn is_printable(text: &str) -> bool {
    text.chars().all(is_plain)
}

/// The text on one line, with U+FFFD for each character that is not [plain](is_plain).
#[must_use]
pub fn printable(text: &str) -> Cow<'_, str> {
    replaced(text, is_plain)
}

/// As [`printable`], with its line breaks and tabs.
#[must_use]
pub fn printable_lines(text: &str) -> Cow<'_, str> {
    replaced(text, |letter| is_plain(letter) || is_layout(letter))
}

/// The same JSON with each character that is not [plain](is_plain) as an escape: JSON has such characters in texts alone, line
/// breaks and tabs apart.
#[must_use]
pub fn printable_json(json: &str) -> Cow<'_, str> {
    if json
        .chars()
        .all(|letter| is_plain(letter) || is_layout(letter))
    {
        return json.into();
    }
    let mut shown = String::with_capacity(json.len());
    for letter in json.chars() {
        match is_plain(letter) || is_layout(letter) {
            true => shown.push(letter),
            // All of them are below U+10000.
            false => shown.push_str(&format!("\\u{:04x}", u32::from(letter))),
        }
    }
    shown.into()
}

fn is_layout(letter: char) -> bool {
    matches!(letter, '\n' | '\t')
}

fn replaced(text: &str, shown: impl Fn(char) -> bool) -> Cow<'_, str> {
    match text.chars().all(&shown) {
        true => text.into(),
        false => text
            .chars()
            .map(|letter| if shown(letter) { letter } else { HIDDEN })
            .collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::{is_printable, printable, printable_json, printable_lines};

    #[test]
    fn nothing_moves_the_cursor_or_turns_the_text() {
        for plain in ["alice", "Ünïcödé", "עברית", "👩‍💻", "a b"] {
            assert!(is_printable(plain), "{plain}");
            assert_eq!(printable(plain), plain);
        }
        for sly in [
            "\u{1b}", "\n", "\t", "\r", "\u{7f}", "\u{9b}", "\u{200f}", "\u{202e}", "\u{2028}",
            "\u{2067}",
        ] {
            assert!(!is_printable(sly), "{sly:?}");
            assert_eq!(printable(&format!("a{sly}b")), "a\u{fffd}b");
        }
        assert_eq!(printable_lines("a\n\tb\r"), "a\n\tb\u{fffd}");
    }

    #[test]
    fn json_says_the_same_in_escapes() {
        let json = "{\n\t\"a\": \"\u{9b}2J\u{202e}x\"}";
        assert_eq!(printable_json(json), "{\n\t\"a\": \"\\u009b2J\\u202ex\"}");
        assert_eq!(printable_json("{\"a\":1}"), "{\"a\":1}");
    }
}
