//! What `explain` tells of calls that nobody can size.

use serde::{Deserialize, Serialize};

/// What becomes of them at an upstream.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
pub(super) struct Unsized {
    upstream: String,
    passthrough: String,
    refused_because: Option<String>,
}

/// Where they are refused, for what, and what lets them pass; nothing where they do.
pub(super) fn refused(all: &[Unsized]) -> Vec<String> {
    let reasons = reasons(all);
    if reasons.is_empty() {
        return Vec::new();
    }
    let title = "\ncalls that nobody can size are refused where they may generate (403, unsized_call): batches, images, \
                 speech and the like";
    let option =
        "  `passthrough: allow` at an upstream lets them pass there, counted as requests alone";
    let lines = reasons
        .iter()
        .map(|(why, upstreams)| format!("  at {}: {why}", upstreams.join(", ")));
    let lines = std::iter::once(title.to_owned()).chain(lines);
    lines.chain([option.to_owned()]).collect()
}

/// Each reason with the upstreams it holds at.
fn reasons(all: &[Unsized]) -> Vec<(&str, Vec<&str>)> {
    let mut reasons: Vec<(&str, Vec<&str>)> = Vec::new();
    for told in all {
        let Some(why) = told.refused_because.as_deref() else {
            continue;
        };
        match reasons.iter_mut().find(|(known, _)| *known == why) {
            Some((_, upstreams)) => upstreams.push(&told.upstream),
            None => reasons.push((why, vec![&told.upstream])),
        }
    }
    reasons
}
