//! Our counts against those of the crate, which is exact where it is slow.

use super::*;

fn crates_own(bpe: &Bpe) -> &'static CoreBpe {
    bpe.encoding().expect("a vocabulary compiled in")
}

/// Counts every piece here, none in the crate.
fn by_pieces(bpe: &Bpe, text: &str) -> u64 {
    let mut pieces = Pieces::new(bpe, crates_own(bpe));
    pieces.count(text, &mut 0, text.len()) as u64
}

/// Characters that split rules treat differently, ASCII more often than others.
const ALPHABET: [char; 64] = [
    'a', 'b', 'c', 's', 't', 'r', 'e', 'v', 'l', 'd', 'm', 'A', 'B', 'S', 'T', 'L', 'D', '\'',
    '\'', ' ', ' ', ' ', ' ', '\n', '\n', '\r', '\t', '\u{B}', '1', '2', '3', '0', '!', '/', '/',
    '.', ',', '-', '<', '|', '>', '_', 'é', 'ß', 'Ö', 'ǅ', 'ſ', 'ª', '²', 'Ⅷ', 'ж', 'Ж', '漢',
    '々', '〇', 'か', '한', '\u{301}', '\u{A0}', '\u{3000}', '\u{200B}', '😀', '€', '⺀',
];

struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        (self.0 >> 33) as usize % limit
    }

    fn text(&mut self, length: usize) -> String {
        (0..length)
            .map(|_| ALPHABET[self.below(ALPHABET.len())])
            .collect()
    }
}

#[test]
fn every_encoding_splits_and_merges_as_the_crate_does() {
    for bpe in &ENCODINGS {
        let mut random = Random(7);
        for round in 0..300 {
            let length = 1 + round % 40;
            let text = random.text(length);
            let expected = crates_own(bpe).count(&text) as u64;
            assert_eq!(by_pieces(bpe, &text), expected, "{} {text:?}", bpe.name);
            assert_eq!(bpe.count(&text), expected, "{} {text:?}", bpe.name);
        }
    }
}

#[test]
fn every_character_counts_as_in_the_crate() {
    let contexts = [
        "{}", "a{}b", " {} ", "1{}", "{}\n", "'{}", "A{}{}a", "\n{}!", "!{}",
    ];
    for bpe in &ENCODINGS[..2] {
        for character in ('\0'..='\u{1FFFF}').step_by(17) {
            let context = contexts[u32::from(character) as usize / 17 % contexts.len()];
            let text = context.replace("{}", character.encode_utf8(&mut [0; 4]));
            let expected = crates_own(bpe).count(&text) as u64;
            assert_eq!(by_pieces(bpe, &text), expected, "{} {text:?}", bpe.name);
        }
    }
}

#[test]
fn safe_cuts_are_safe() {
    let mut random = Random(11);
    for round in 0..400 {
        let text = random.text(60);
        let bpe = &ENCODINGS[round % ENCODINGS.len()];
        for at in (1..text.len()).filter(|&at| split::is_safe(text.as_bytes(), at)) {
            let (head, tail) = text.split_at(at);
            let apart = by_pieces(bpe, head) + by_pieces(bpe, tail);
            assert_eq!(
                apart,
                by_pieces(bpe, &text),
                "{} {text:?} at {at}",
                bpe.name
            );
        }
    }
}

#[test]
fn long_texts_count_as_in_the_crate() {
    let mut random = Random(13);
    for bpe in &ENCODINGS {
        for _ in 0..2 {
            let text = random.text(1_500);
            assert_eq!(
                bpe.count(&text),
                crates_own(bpe).count(&text) as u64,
                "{}",
                bpe.name
            );
        }
        for piece in [
            "a", "=", " ", "\n", "-/", "aB", "0", "漢", "ab1 ", "\r\n", "é",
        ] {
            let text = piece.repeat(2_000 / piece.len());
            let expected = crates_own(bpe).count(&text) as u64;
            assert_eq!(bpe.count(&text), expected, "{} {piece:?}", bpe.name);
        }
    }
}

#[test]
fn vocabularies_are_read_whole() {
    for bpe in &ENCODINGS {
        let encoding = crates_own(bpe);
        let vocabulary = bpe.vocabulary(encoding);
        assert!(vocabulary.longest() as u64 <= bpe.longest, "{}", bpe.name);
        for byte in 0..=u8::MAX {
            assert_ne!(
                vocabulary.rank(&[byte]),
                vocabulary::NO_RANK,
                "{} {byte}",
                bpe.name
            );
        }
        for special in ["<|endoftext|>", "<|endofprompt|>", "<|im_start|>"] {
            assert!(bpe.count(special) > 1, "{} {special}", bpe.name);
        }
    }
}

#[test]
fn counting_stops_at_the_limit() {
    let mut random = Random(17);
    for length in [0, 1, 10, 300, 2_000] {
        let text = random.text(length);
        for bpe in &ENCODINGS[..2] {
            let tokens = bpe.count(&text);
            assert_eq!(bpe.count_upto(&text, tokens), Some(tokens));
            assert_eq!(bpe.count_upto(&text, tokens + 1), Some(tokens));
            if let Some(less) = tokens.checked_sub(1) {
                assert_eq!(bpe.count_upto(&text, less), None);
            }
            let (low, high) = bpe.bounds(&text);
            assert!((low..=high).contains(&tokens), "{low}..{high}: {tokens}");
        }
    }
}
