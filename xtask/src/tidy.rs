//! `cargo xtask tidy`: the rules of the project that no compiler checks.

mod arrows;
mod claims;
mod sizes;
mod source;
#[cfg(test)]
mod tests;
mod words;

use std::fmt;

use crate::Outcome;
use crate::workspace::Workspace;
use source::Source;

/// One thing to mend, printed as `place: what: mend`.
#[derive(Clone)]
struct Finding {
    place: String,
    what: String,
    mend: &'static str,
}

impl fmt::Display for Finding {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}: {}: {}", self.place, self.what, self.mend)
    }
}

pub(crate) fn run(workspace: &Workspace) -> Outcome {
    let files = workspace.files()?;
    // What is not text (corpora, pictures) has no lines to look at.
    let sources: Vec<Source> = files
        .iter()
        .filter_map(|file| Source::read(workspace, file))
        .collect();
    let mut findings = arrows::check(&sources);
    findings.extend(sizes::check(&sources));
    findings.extend(words::check(&sources));
    findings.extend(claims::check(&sources, &files));
    for finding in &findings {
        println!("{finding}");
    }
    println!("tidy: {} files, {} findings", sources.len(), findings.len());
    if findings.is_empty() {
        Ok(())
    } else {
        Err(format!("{} things to mend", findings.len()))
    }
}
