//! Where a text may be cut without changing its count.
//!
//! No split rule of the supported tokenizers lets a piece go on from a letter or digit over an
//! ASCII space, so a cut before that space is exact for all of them. Where a vocabulary has a
//! branch of its own for newlines, a cut after a newline and before a letter or digit is exact
//! too. Any other place may lie inside a piece or change how blanks are grouped.

/// Whether cutting `text` before the byte `at` leaves the sum of the counts as it was, for the
/// rule all tokenizers share.
pub(crate) fn is_safe(text: &[u8], at: usize) -> bool {
    at > 0 && text.get(at) == Some(&b' ') && text[at - 1].is_ascii_alphanumeric()
}

/// The last safe cut at or before `at`, looking back no further than `from`.
pub(crate) fn last_safe(text: &[u8], from: usize, at: usize) -> Option<usize> {
    (from + 1..=at.min(text.len()))
        .rev()
        .find(|&cut| is_safe(text, cut))
}
