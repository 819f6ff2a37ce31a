//! What the documents claim of the tree: that a linked file is there, that a named test exists.

use super::Finding;
use super::source::Source;

pub(super) fn check(sources: &[Source], files: &[String]) -> Vec<Finding> {
    let documents = sources.iter().filter(|source| source.path.ends_with(".md"));
    documents
        .flat_map(|document| {
            [
                dead_links(document, files),
                missing_tests(document, sources),
            ]
            .concat()
        })
        .collect()
}

fn dead_links(document: &Source, files: &[String]) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (number, line) in document.lines() {
        for target in line
            .split("](")
            .skip(1)
            .filter_map(|rest| rest.split(')').next())
        {
            let path = target.split('#').next().unwrap_or_default();
            let outside =
                target.contains("://") || target.starts_with("mailto:") || path.is_empty();
            if !outside && !exists(&resolve(&document.path, path), files) {
                let place = format!("{}:{number}", document.path);
                findings.push(Finding {
                    place,
                    what: format!("link to `{path}`"),
                    mend: "name a file of the tree",
                });
            }
        }
    }
    findings
}

fn exists(path: &str, files: &[String]) -> bool {
    files
        .iter()
        .any(|file| file == path || file.starts_with(&format!("{}/", path.trim_end_matches('/'))))
}

/// `target` as seen from the folder of `document`, relative to the root.
fn resolve(document: &str, target: &str) -> String {
    let mut parts: Vec<&str> = document.split('/').collect();
    parts.pop();
    for part in target.split('/') {
        match part {
            "." | "" => {}
            ".." => drop(parts.pop()),
            name => parts.push(name),
        }
    }
    parts.join("/")
}

/// A test is named in a document as `` `crates/x/tests/it/file.rs::name` ``.
fn missing_tests(document: &Source, sources: &[Source]) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (number, line) in document.lines() {
        for (file, name) in line.split('`').filter_map(|code| code.split_once(".rs::")) {
            let path = format!("{file}.rs");
            let found = sources
                .iter()
                .any(|source| source.path == path && source.text.contains(&format!("fn {name}(")));
            if !found {
                findings.push(Finding {
                    place: format!("{}:{number}", document.path),
                    what: format!("test `{name}` is not in {path}"),
                    mend: "name the test that shows it",
                });
            }
        }
    }
    findings
}
