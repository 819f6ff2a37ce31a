//! Where the project and its build products lie.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::Outcome;

/// The checkout that this program runs for.
pub(crate) struct Workspace {
    root: PathBuf,
    target: PathBuf,
}

impl Workspace {
    pub(crate) fn find() -> Self {
        // What `cargo run` says now; a checkout may have moved, with its target directory, since this was compiled.
        let manifest = std::env::var_os("CARGO_MANIFEST_DIR")
            .map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")), PathBuf::from);
        let root = manifest
            .parent()
            .map_or_else(|| PathBuf::from("."), Path::to_path_buf);
        let target =
            std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), PathBuf::from);
        Self { root, target }
    }

    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// Cargo's target directory.
    pub(crate) fn target(&self) -> &Path {
        &self.target
    }

    /// A directory of ours under the target directory: interpreters and packages are kept there between runs.
    pub(crate) fn cache(&self, name: &str) -> PathBuf {
        self.target.join("ci").join(name)
    }

    pub(crate) fn read(&self, path: &str) -> Outcome<String> {
        std::fs::read_to_string(self.root.join(path))
            .map_err(|error| format!("failed to read {path}: {error}"))
    }

    /// Every file of the tree that git knows or would add, relative to the root.
    pub(crate) fn files(&self) -> Outcome<Vec<String>> {
        let listing = Command::new("git")
            .args(["ls-files", "--cached", "--others", "--exclude-standard"])
            .current_dir(&self.root)
            .output()
            .map_err(|error| format!("failed to run git: {error}"))?;
        if !listing.status.success() {
            return Err(format!(
                "git ls-files: {}",
                String::from_utf8_lossy(&listing.stderr).trim()
            ));
        }
        let mut files: Vec<String> = String::from_utf8_lossy(&listing.stdout)
            .lines()
            .map(str::to_owned)
            .collect();
        files.retain(|file| self.root.join(file).is_file());
        files.sort();
        files.dedup();
        Ok(files)
    }

    /// A `cargo` command in the root, by the cargo that runs us.
    pub(crate) fn cargo(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        command.args(arguments).current_dir(&self.root);
        command
    }
}
