//! Where a text may be cut without changing its count.
//!
//! In none of the supported split rules does a piece go on from anything else over a blank that
//! is no newline, and none looks back: cutting before such a blank is exact for all of them. (A
//! cut elsewhere may lie inside a piece, or change how blanks and newlines are grouped.) Only
//! ASCII is looked at, so places between other characters are not found.

/// Whether the space at `at` follows a sign, letter or digit.
pub(crate) fn is_safe(text: &[u8], at: usize) -> bool {
    at > 0 && text.get(at) == Some(&b' ') && text[at - 1].is_ascii_graphic()
}

/// The last safe cut after `from` and at or before `at`.
pub(crate) fn last_safe(text: &[u8], from: usize, at: usize) -> Option<usize> {
    (from + 1..=at).rev().find(|&cut| is_safe(text, cut))
}

/// A text has at least one piece more than it has safe cuts.
pub(super) fn least_pieces(text: &[u8]) -> u64 {
    let cuts = text
        .windows(2)
        .filter(|pair| pair[1] == b' ' && pair[0].is_ascii_graphic())
        .count();
    cuts as u64 + u64::from(!text.is_empty())
}
