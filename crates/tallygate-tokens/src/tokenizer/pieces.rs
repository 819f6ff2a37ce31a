//! Cutting text into the pieces that byte pairs are merged in.
//!
//! Vocabularies come with a regular expression whose matches are the pieces. The expressions of
//! all supported vocabularies are built of few parts, matched here by hand: in one pass, without
//! going back over what was read, so that no text takes more than linear time.

use super::classes::{self, Classes};

/// The split rule of a vocabulary.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Split {
    /// Words are runs of letters after at most one other character (`cl100k_base` and kin).
    Words {
        /// Digits a piece.
        digits: usize,
    },
    /// Words are cut where small letters are followed by capitals (`o200k_base` and kin).
    Cased(Cased),
    /// The rule of GPT-2: words, numbers and signs, each after at most one space.
    Gpt2,
    /// DeepSeek's: numbers and ideographs before all else.
    DeepSeek,
}

/// The variants of [`Split::Cased`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Cased {
    /// Digits a piece.
    pub(super) digits: usize,
    /// Whether English contractions end a word.
    pub(super) contractions: Contractions,
    /// What may follow a run of signs.
    pub(super) tail: Tail,
    /// Whether runs of Chinese characters are pieces of their own.
    pub(super) han: Han,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Contractions {
    Joined,
    Ignored,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tail {
    Newlines,
    NewlinesAndSlashes,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Han {
    Mixed,
    Apart,
}

const LETTER: Classes = Classes::LETTER;
const LETTER_OR_NUMBER: Classes = Classes::LETTER.or(Classes::NUMBER);
const NO_SIGN: Classes = LETTER_OR_NUMBER.or(Classes::SPACE);
const BOTH_CASES: Classes = Classes::UPPER.or(Classes::LOWER);

impl Split {
    /// Where the piece that begins at `from` ends. `from` is inside the text, on a character.
    pub(super) fn end(self, text: &str, from: usize) -> usize {
        let text = Text(&text[from..]);
        from + match self {
            Self::Words { digits } => words(text, digits),
            Self::Cased(rule) => cased(text, rule),
            Self::Gpt2 => gpt2(text),
            Self::DeepSeek => deepseek(text),
        }
    }
}

fn words(text: Text<'_>, digits: usize) -> usize {
    let (first, at) = text.first();
    if let Some(end) = contraction(text.0) {
        return end;
    }
    let letters = match first {
        _ if first.has(LETTER) => 0,
        _ if first.has(Classes::NUMBER) || text.newline_at(0) => usize::MAX,
        _ => at,
    };
    if text.class_at(letters).has(LETTER) {
        return text.run(letters, |classes| classes.has(LETTER));
    }
    common(text, digits, Tail::Newlines)
}

fn cased(text: Text<'_>, rule: Cased) -> usize {
    let (first, at) = text.first();
    let apart = rule.han == Han::Apart;
    if apart && first.has(Classes::HAN) {
        return text.run(0, |classes| classes.has(Classes::HAN));
    }
    let letter =
        |classes: Classes, case| classes.has(case) && !(apart && classes.has(Classes::HAN));
    let leads = !first.has(LETTER_OR_NUMBER) && !text.newline_at(0);
    let from_second = leads.then(|| word(text, at, letter)).flatten();
    let from_first = || word(text, 0, letter);
    let found = match from_second {
        // A mark may lead a word or begin one: a word that ends small is preferred either way.
        Some((end, Ending::Small)) => Some(end),
        Some((end, Ending::Capital)) => match from_first() {
            Some((end, Ending::Small)) => Some(end),
            _ => Some(end),
        },
        None => from_first().map(|(end, _)| end),
    };
    match (found, rule.contractions) {
        (Some(end), Contractions::Ignored) => end,
        (Some(end), Contractions::Joined) => end + contraction(&text.0[end..]).unwrap_or(0),
        (None, _) => common(text, rule.digits, rule.tail),
    }
}

/// How a cased word was matched.
enum Ending {
    /// Capitals, then at least one small letter.
    Small,
    /// Capitals only.
    Capital,
}

/// A word of capitals and small letters from `from`. Many scripts have letters that are both:
/// a run of capitals is cut after the last of these, which is taken for the small one.
fn word(
    text: Text<'_>,
    from: usize,
    letter: impl Fn(Classes, Classes) -> bool,
) -> Option<(usize, Ending)> {
    let mut capitals = from;
    let mut last_both = None;
    for (at, character) in text.0.get(from..)?.char_indices() {
        let classes = classes::of(character);
        if !letter(classes, Classes::UPPER) {
            break;
        }
        capitals = from + at + character.len_utf8();
        if classes.has_all(BOTH_CASES) {
            last_both = Some(capitals);
        }
    }
    let small = text.run(capitals, |classes| letter(classes, Classes::LOWER));
    if small > capitals {
        return Some((small, Ending::Small));
    }
    match last_both {
        Some(end) => Some((end, Ending::Small)),
        None => (capitals > from).then_some((capitals, Ending::Capital)),
    }
}

/// The rules after words, the same in most vocabularies: digits, signs, blanks.
fn common(text: Text<'_>, digits: usize, tail: Tail) -> usize {
    let (first, _) = text.first();
    if first.has(Classes::NUMBER) {
        return text.run_upto(0, digits, |classes| classes.has(Classes::NUMBER));
    }
    let space = usize::from(text.0.starts_with(' '));
    let signs = text.run(space, |classes| !classes.has(NO_SIGN));
    if signs > space {
        return line_tail(text, signs, tail);
    }
    blanks(text)
}

fn line_tail(text: Text<'_>, from: usize, tail: Tail) -> usize {
    let rest = text.0.as_bytes()[from..].iter();
    let in_tail = |byte: &&u8| match byte {
        b'\r' | b'\n' => true,
        b'/' => tail == Tail::NewlinesAndSlashes,
        _ => false,
    };
    from + rest.take_while(in_tail).count()
}

/// Blanks: up to the last newline of the run if it has one, else all but the last before
/// something that is no blank.
fn blanks(text: Text<'_>) -> usize {
    let run = text.run(0, |classes| classes.has(Classes::SPACE));
    match text.0[..run].rfind(['\r', '\n']) {
        Some(newline) => newline + 1,
        None => all_but_last(text, run),
    }
}

/// A run of blanks leaves its last one to what follows, unless it has no other.
fn all_but_last(text: Text<'_>, run: usize) -> usize {
    if run == text.0.len() {
        return run;
    }
    match text.0[..run].char_indices().next_back() {
        Some((last, _)) if last > 0 => last,
        _ => run,
    }
}

fn gpt2(text: Text<'_>) -> usize {
    const ENDINGS: [&str; 7] = ["'s", "'t", "'re", "'ve", "'m", "'ll", "'d"];
    let contracted = ENDINGS.iter().find(|ending| text.0.starts_with(**ending));
    if let Some(ending) = contracted {
        return ending.len();
    }
    let space = usize::from(text.0.starts_with(' '));
    let kinds: [fn(Classes) -> bool; 3] = [
        |classes| classes.has(Classes::LETTER),
        |classes| classes.has(Classes::NUMBER),
        |classes| !classes.has(NO_SIGN),
    ];
    for kind in kinds {
        let end = text.run(space, kind);
        if end > space {
            return end;
        }
    }
    let run = text.run(0, |classes| classes.has(Classes::SPACE));
    all_but_last(text, run)
}

fn deepseek(text: Text<'_>) -> usize {
    const LETTER_OR_MARK: Classes = Classes::LETTER.or(Classes::MARK);
    const SIGN: Classes = Classes::PUNCTUATION.or(Classes::SYMBOL);
    let (first, at) = text.first();
    if first.has(Classes::NUMBER) {
        return text.run_upto(0, 3, |classes| classes.has(Classes::NUMBER));
    }
    if first.has(Classes::IDEOGRAPH) {
        return text.run(0, |classes| classes.has(Classes::IDEOGRAPH));
    }
    let bytes = text.0.as_bytes();
    if bytes[0].is_ascii_punctuation() {
        let letters = bytes[1..]
            .iter()
            .take_while(|byte| byte.is_ascii_alphabetic());
        match letters.count() {
            0 => {}
            length => return 1 + length,
        }
    }
    let leads = !first.has(LETTER.or(SIGN)) && !text.newline_at(0);
    if leads && text.class_at(at).has(LETTER_OR_MARK) {
        return text.run(at, |classes| classes.has(LETTER_OR_MARK));
    }
    if first.has(LETTER_OR_MARK) {
        return text.run(0, |classes| classes.has(LETTER_OR_MARK));
    }
    let space = usize::from(text.0.starts_with(' '));
    let signs = text.run(space, |classes| classes.has(SIGN));
    if signs > space {
        return line_tail(text, signs, Tail::Newlines);
    }
    if first.has(Classes::SPACE) {
        return deepseek_blanks(text);
    }
    at
}

/// Numbers and ideographs are split off before blanks are looked at, so what is before them is
/// the end of a text.
fn deepseek_blanks(text: Text<'_>) -> usize {
    let run = text.run(0, |classes| classes.has(Classes::SPACE));
    let ends_here = text
        .class_at(run)
        .has(Classes::NUMBER.or(Classes::IDEOGRAPH));
    match text.0[..run].rfind(['\r', '\n']) {
        Some(newline) => newline + 1,
        None if ends_here => run,
        None => all_but_last(text, run),
    }
}

/// The end of an English contraction that begins here. The long s folds to an s.
fn contraction(text: &str) -> Option<usize> {
    let rest = text.strip_prefix('\'')?;
    let bytes = rest.as_bytes();
    let (&first, second) = (bytes.first()?, bytes.get(1));
    match (
        first.to_ascii_lowercase(),
        second.map(u8::to_ascii_lowercase),
    ) {
        (b's' | b'd' | b'm' | b't', _) => Some(2),
        (b'l', Some(b'l')) | (b'v' | b'r', Some(b'e')) => Some(3),
        _ if rest.starts_with('\u{17F}') => Some(3),
        _ => None,
    }
}

/// What is left of a text; never empty.
#[derive(Clone, Copy)]
struct Text<'a>(&'a str);

impl Text<'_> {
    /// The classes of the first character, and where the second begins.
    fn first(self) -> (Classes, usize) {
        let first = self.0.chars().next().unwrap_or_default();
        (classes::of(first), first.len_utf8())
    }

    fn newline_at(self, at: usize) -> bool {
        matches!(self.0.as_bytes().get(at), Some(b'\r' | b'\n'))
    }

    /// The classes of the character at `at`; none at or past the end.
    fn class_at(self, at: usize) -> Classes {
        let rest = self.0.get(at..).unwrap_or_default();
        rest.chars()
            .next()
            .map_or_else(Classes::default, classes::of)
    }

    /// Where a run of characters from `from` ends.
    fn run(self, from: usize, within: impl Fn(Classes) -> bool) -> usize {
        self.run_upto(from, usize::MAX, within)
    }

    fn run_upto(self, from: usize, most: usize, within: impl Fn(Classes) -> bool) -> usize {
        let rest = self.0.get(from..).unwrap_or_default();
        let length: usize = rest
            .chars()
            .take(most)
            .take_while(|&character| within(classes::of(character)))
            .map(char::len_utf8)
            .sum();
        from + length
    }
}
