//! What there is to count in a request, apart from how it is counted.

use crate::dialect::Method;

/// The parts of a request in the order they are counted: texts, and tokens known without counting.
#[derive(Debug)]
pub(crate) struct Plan {
    /// Texts that belong together, usually one message each: what the cache remembers.
    pub(crate) groups: Vec<Group>,
    /// Tokens of framing, images and token arrays.
    pub(crate) fixed: u64,
    /// How well the framing is known; the tokenizer may be known less well.
    pub(crate) method: Method,
    /// How many prompts the request holds (legacy completions take several).
    pub(crate) prompts: u64,
}

/// Texts counted each for itself and remembered together.
#[derive(Debug, Default)]
pub(crate) struct Group {
    pub(crate) texts: Vec<Box<str>>,
}

impl Group {
    pub(crate) fn push(&mut self, text: impl Into<Box<str>> + AsRef<str>) {
        if !text.as_ref().is_empty() {
            self.texts.push(text.into());
        }
    }

    pub(crate) fn bytes(&self) -> usize {
        self.texts.iter().map(|text| text.len()).sum()
    }
}

impl Plan {
    /// Nothing to count yet, known by `method`.
    pub(crate) fn new(method: Method) -> Self {
        Self {
            groups: Vec::new(),
            fixed: 0,
            method,
            prompts: 1,
        }
    }

    pub(crate) fn add_tokens(&mut self, tokens: u64) {
        self.fixed = self.fixed.saturating_add(tokens);
    }

    pub(crate) fn add_group(&mut self, group: Group) {
        if !group.texts.is_empty() {
            self.groups.push(group);
        }
    }

    pub(crate) fn add_text(&mut self, text: impl Into<Box<str>> + AsRef<str>) {
        let mut group = Group::default();
        group.push(text);
        self.add_group(group);
    }

    /// Some part is known no better than `method`.
    pub(crate) fn weaken(&mut self, method: Method) {
        self.method = self.method.and(method);
    }

    pub(crate) fn text_bytes(&self) -> usize {
        self.groups.iter().map(Group::bytes).sum()
    }
}
