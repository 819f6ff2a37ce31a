//! Names that may be labels, so many and no more.

use std::collections::HashSet;
use std::sync::Arc;

use parking_lot::RwLock;
use tallygate_core::text::is_printable;

/// How many models are told apart in metrics; the rest counts as `other`.
pub const MAX_MODELS: usize = 256;

/// The longest name that is told apart, in bytes.
const MAX_NAME: usize = 128;

/// A set of names that only grows, up to [`MAX_MODELS`].
#[derive(Debug)]
pub(super) struct Names {
    known: RwLock<HashSet<Arc<str>>>,
    other: Arc<str>,
}

impl Default for Names {
    fn default() -> Self {
        Self {
            known: RwLock::default(),
            other: Arc::from("other"),
        }
    }
}

impl Names {
    /// The name as a label: itself if it is known.
    pub(super) fn of(&self, name: &str) -> Arc<str> {
        self.known.read().get(name).unwrap_or(&self.other).clone()
    }

    /// Makes `name` known, as long as there is room.
    pub(super) fn learn(&self, name: &str) {
        if name.len() > MAX_NAME || !is_printable(name) || self.known.read().contains(name) {
            return;
        }
        let mut known = self.known.write();
        if known.len() < MAX_MODELS {
            known.insert(Arc::from(name));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{MAX_MODELS, Names};

    #[test]
    fn names_beyond_the_bound_are_other() {
        let names = Names::default();
        (0..=MAX_MODELS).for_each(|n| names.learn(&format!("m{n}")));
        assert_eq!(&*names.of("m255"), "m255");
        assert_eq!(&*names.of("m256"), "other");
        let long = "x".repeat(129);
        let fresh = Names::default();
        fresh.learn(&long);
        assert_eq!(&*fresh.of(&long), "other");
        fresh.learn("m\u{1b}[2J");
        assert_eq!(&*fresh.of("m\u{1b}[2J"), "other");
    }
}
