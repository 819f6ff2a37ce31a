//! A text file of the tree, and which of its lines are tests.

use crate::workspace::Workspace;

pub(super) struct Source {
    pub(super) path: String,
    pub(super) text: String,
}

impl Source {
    /// `None` for what is not UTF-8.
    pub(super) fn read(workspace: &Workspace, path: &str) -> Option<Self> {
        let text = std::fs::read_to_string(workspace.root().join(path)).ok()?;
        Some(Self {
            path: path.to_owned(),
            text,
        })
    }

    pub(super) fn is_rust(&self) -> bool {
        self.path.ends_with(".rs")
    }

    /// Line numbers (from 1) and lines.
    pub(super) fn lines(&self) -> impl Iterator<Item = (usize, &str)> {
        self.text
            .lines()
            .enumerate()
            .map(|(index, line)| (index + 1, line))
    }

    /// Whether line `number` belongs to tests: a test file, or a file's closing test module.
    pub(super) fn in_tests(&self, number: usize) -> bool {
        self.is_test_file() || number >= self.tests_begin()
    }

    pub(super) fn is_test_file(&self) -> bool {
        let folders = ["tests/", "benches/"];
        folders.iter().any(|folder| {
            self.path.contains(&format!("/{folder}")) || self.path.starts_with(folder)
        }) || self.path.ends_with("/tests.rs")
            || self.path.ends_with("_tests.rs")
    }

    /// The line of `#[cfg(test)]` before an inline module; past the end when there is none.
    fn tests_begin(&self) -> usize {
        let lines: Vec<&str> = self.text.lines().collect();
        let opens = |pair: &&[&str]| {
            pair[0].trim() == "#[cfg(test)]" && pair[1].contains("mod ") && pair[1].ends_with('{')
        };
        let found = lines.windows(2).enumerate().find(|(_, pair)| opens(pair));
        found.map_or(usize::MAX, |(index, _)| index + 1)
    }
}
