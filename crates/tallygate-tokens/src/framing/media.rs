//! What documents and sound cost: estimates from the size and the first bytes of a file.

use crate::image::decode_start;

/// Pages of a PDF in base64: what its page tree says where that can be read, else from its size.
pub(super) fn pdf_pages(data: &str) -> u64 {
    let size = data.len() as u64 / 4 * 3;
    let Some(head) = decode_start(data, LOOK) else {
        return 1;
    };
    let from = data.len().saturating_sub(LOOK) & !3;
    let tail = data
        .get(from..)
        .and_then(|tail| decode_start(tail, usize::MAX));
    let told = page_count(&head).max(tail.map_or(0, |tail| page_count(&tail)));
    let guessed = size.div_ceil(BYTES_A_PAGE);
    (if told > 0 { told } else { guessed }).clamp(1, MAX_PAGES)
}

/// Characters of base64 looked at from the beginning and from the end of a document.
const LOOK: usize = 256 << 10;

/// A page of text and some graphics in a compressed PDF.
const BYTES_A_PAGE: u64 = 30_000;

/// Providers accept no longer documents.
const MAX_PAGES: u64 = 1_000;

/// The largest `/Count` of a page tree.
fn page_count(bytes: &[u8]) -> u64 {
    const COUNT: &[u8] = b"/Count ";
    let places = bytes.windows(COUNT.len()).enumerate();
    let numbers = places
        .filter(|(_, window)| *window == COUNT)
        .map(|(at, _)| {
            let digits = bytes[at + COUNT.len()..].iter().take(6);
            let digits = digits.take_while(|byte| byte.is_ascii_digit());
            digits.fold(0, |sum, digit| sum * 10 + u64::from(digit - b'0'))
        });
    numbers.max().unwrap_or(0)
}

/// Tokens of sound in base64 at `rate` tokens a second: a WAV file says how many bytes a second
/// takes, anything else is taken for speech compressed to 32 kbit/s.
pub(super) fn sound(data: &str, rate: u64) -> u64 {
    let size = data.len() as u64 / 4 * 3;
    let head = decode_start(data, 64).unwrap_or_default();
    let stated = head.get(28..32).filter(|_| head.starts_with(b"RIFF"));
    let bytes_a_second = stated
        .map(|bytes| {
            bytes
                .iter()
                .rev()
                .fold(0, |sum, &byte| sum << 8 | u64::from(byte))
        })
        .filter(|&rate| rate > 0)
        .unwrap_or(4_000);
    (size * rate).div_ceil(bytes_a_second)
}

/// Tokens of film in base64 at `rate` tokens a second, taken at 800 kbit/s.
pub(super) fn film(data: &str, rate: u64) -> u64 {
    (data.len() as u64 / 4 * 3 * rate).div_ceil(100_000)
}

/// Tokens of opaque text that stands for something else (encrypted reasoning): about four bytes
/// a token of what it decodes to.
pub(super) fn opaque(data: &str) -> u64 {
    (data.len() as u64 / 4 * 3).div_ceil(4)
}

#[cfg(test)]
mod tests {
    use base64::Engine;
    use base64::engine::general_purpose::STANDARD;

    use super::*;

    #[test]
    fn a_page_tree_is_believed() {
        let pdf = "%PDF-1.4 << /Type /Pages /Count 3 >> << /Type /Pages /Count 12 /Kids [] >>";
        assert_eq!(pdf_pages(&STANDARD.encode(pdf)), 12);
        let late = format!("%PDF{}/Count 7 ", "x".repeat(1 << 20));
        assert_eq!(pdf_pages(&STANDARD.encode(late)), 7);
        assert_eq!(pdf_pages(&STANDARD.encode("%PDF".repeat(22_500))), 3);
        assert_eq!(pdf_pages("no base64 ###"), 1);
    }

    #[test]
    fn a_wav_file_says_how_long_it_is() {
        let mut wav = b"RIFF\0\0\0\0WAVEfmt \x10\0\0\0\x01\0\x01\0\x80\x3E\0\0".to_vec();
        wav.extend_from_slice(&32_000_u32.to_le_bytes());
        wav.resize(32_000 * 3, 0);
        assert_eq!(sound(&STANDARD.encode(&wav), 10), 30);
        assert_eq!(sound(&STANDARD.encode(vec![1; 12_000]), 10), 30);
    }
}
