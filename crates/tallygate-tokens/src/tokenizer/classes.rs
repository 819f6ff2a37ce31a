//! The Unicode classes that split rules speak of, as one table lookup a character.

use std::sync::LazyLock;

use regex_syntax::hir::{Class, HirKind};

/// The classes of a character, as a set of bits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Classes(u16);

impl Classes {
    pub(super) const SPACE: Self = Self(1);
    pub(super) const LETTER: Self = Self(1 << 1);
    pub(super) const NUMBER: Self = Self(1 << 2);
    pub(super) const MARK: Self = Self(1 << 3);
    pub(super) const PUNCTUATION: Self = Self(1 << 4);
    pub(super) const SYMBOL: Self = Self(1 << 5);
    pub(super) const HAN: Self = Self(1 << 6);
    /// Letters that may stand where a capital does: `Lu`, `Lt`, `Lm`, `Lo`, and marks.
    pub(super) const UPPER: Self = Self(1 << 7);
    /// Letters that may stand where a small one does: `Ll`, `Lm`, `Lo`, and marks.
    pub(super) const LOWER: Self = Self(1 << 8);
    /// Chinese characters and kana as one of DeepSeek's rules lists them.
    pub(super) const IDEOGRAPH: Self = Self(1 << 9);

    pub(super) const fn or(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Whether any of `classes` is among these.
    pub(super) const fn has(self, classes: Self) -> bool {
        self.0 & classes.0 != 0
    }

    pub(super) const fn has_all(self, classes: Self) -> bool {
        self.0 & classes.0 == classes.0
    }
}

/// The classes of a character.
pub(super) fn of(character: char) -> Classes {
    TABLE.get(u32::from(character))
}

/// The classes in the syntax of the regular expressions that define them.
const DEFINITIONS: [(&str, Classes); 10] = [
    (r"\s", Classes::SPACE),
    (r"\p{L}", Classes::LETTER),
    (r"\p{N}", Classes::NUMBER),
    (r"\p{M}", Classes::MARK),
    (r"\p{P}", Classes::PUNCTUATION),
    (r"\p{S}", Classes::SYMBOL),
    (r"\p{Han}", Classes::HAN),
    (r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]", Classes::UPPER),
    (r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]", Classes::LOWER),
    (r"[一-龥\x{3040}-\x{30FF}]", Classes::IDEOGRAPH),
];

static TABLE: LazyLock<Table> = LazyLock::new(Table::build);

/// Two steps: a block of 256 characters, then the character. Most blocks are alike.
struct Table {
    blocks: Vec<u8>,
    classes: Vec<[Classes; 256]>,
}

impl Table {
    fn get(&self, character: u32) -> Classes {
        let block = self.blocks[(character >> 8) as usize];
        self.classes[usize::from(block)][(character & 0xFF) as usize]
    }

    fn build() -> Self {
        let mut all = vec![Classes::default(); char::MAX as usize + 1];
        for (pattern, class) in DEFINITIONS {
            for (first, last) in ranges(pattern) {
                for classes in &mut all[first as usize..=last as usize] {
                    *classes = classes.or(class);
                }
            }
        }
        let mut table = Self {
            blocks: Vec::new(),
            classes: Vec::new(),
        };
        for block in all.chunks(256) {
            table.push(block);
        }
        table
    }

    fn push(&mut self, block: &[Classes]) {
        let known = self.classes.iter().position(|known| known == block);
        let at = known.unwrap_or_else(|| {
            let mut new = [Classes::default(); 256];
            new[..block.len()].copy_from_slice(block);
            self.classes.push(new);
            self.classes.len() - 1
        });
        let at = u8::try_from(at).expect("invariant: fewer than 256 kinds of blocks exist");
        self.blocks.push(at);
    }
}

/// The characters of a class, by the tables of the regular expression engine.
fn ranges(pattern: &str) -> Vec<(char, char)> {
    let hir = regex_syntax::parse(pattern).map(|hir| hir.into_kind());
    let Ok(HirKind::Class(Class::Unicode(class))) = hir else {
        return Vec::new();
    };
    let ranges = class.ranges().iter();
    ranges.map(|range| (range.start(), range.end())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_class_is_found() {
        for (pattern, class) in DEFINITIONS {
            let ranges = ranges(pattern);
            assert!(!ranges.is_empty(), "{pattern}");
            for (first, last) in ranges {
                assert!(of(first).has(class) && of(last).has(class), "{pattern}");
            }
        }
        assert!(TABLE.classes.len() < 256, "{}", TABLE.classes.len());
    }

    #[test]
    fn letters_are_upper_or_lower_or_both() {
        for character in (0..=u32::from(char::MAX)).filter_map(char::from_u32) {
            let classes = of(character);
            let cased = classes.has(Classes::UPPER.or(Classes::LOWER));
            assert_eq!(cased, classes.has(Classes::LETTER.or(Classes::MARK)));
            if character.is_whitespace() {
                assert_eq!(classes, Classes::SPACE);
            }
        }
    }
}
