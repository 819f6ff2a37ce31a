//! Calls that are handed on unread and generate nothing.
//!
//! Every other call that changes something may make a provider generate, and what it makes nobody can count here. The
//! list is of paths whose documentation (of OpenAI, Anthropic and Google, as of November 2026) charges no tokens for them.

/// The paths, by segment: `*` stands for an id, `**` at the end for what lies below. A path that ends in `:word` has it
/// after an id.
const KNOWN: [&str; 22] = [
    // Files: they are kept, and read when another call names them.
    "/v1/files",
    "/v1/uploads",
    "/v1/uploads/**",
    "/v1/vector_stores",
    "/v1/vector_stores/**",
    // What a later call works on.
    "/v1/assistants",
    "/v1/assistants/*",
    "/v1/threads",
    "/v1/threads/*/messages",
    "/v1/conversations",
    "/v1/conversations/*/items",
    // Notes on what was generated before.
    "/v1/chat/completions/*",
    // Counting, and judging texts, which is free.
    "/v1/responses/input_tokens",
    "/v1/moderations",
    "/v1beta/models/*:countTokens",
    "/v1/models/*:countTokens",
    // Ending what goes on.
    "/v1/responses/*/cancel",
    "/v1/threads/*/runs/*/cancel",
    "/v1/batches/*/cancel",
    "/v1/messages/batches/*/cancel",
    "/v1/fine_tuning/jobs/*/cancel",
    "/v1beta/batches/*:cancel",
];

/// Whether a call to `path` is known to generate nothing, whatever its body says.
pub(super) fn is_known(path: &str) -> bool {
    KNOWN.iter().any(|known| matches(known, path))
}

fn matches(known: &str, path: &str) -> bool {
    let (mut known, mut path) = (known.split('/'), path.split('/'));
    loop {
        match (known.next(), path.next()) {
            (None, None) => return true,
            (Some("**"), Some(first)) => return is_id(first) && path.all(is_id),
            (Some(wanted), Some(segment)) if is_like(wanted, segment) => {}
            _ => return false,
        }
    }
}

fn is_like(wanted: &str, segment: &str) -> bool {
    match wanted.strip_prefix('*') {
        None => wanted == segment,
        Some(verb) => segment.strip_suffix(verb).is_some_and(is_id),
    }
}

/// A segment that can be read in one way only.
fn is_id(segment: &str) -> bool {
    let plain = |letter: char| letter.is_ascii_alphanumeric() || "-_.~".contains(letter);
    !segment.is_empty() && segment.chars().all(plain)
}

#[cfg(test)]
mod tests {
    use super::is_known;

    #[test]
    fn what_generates_nothing_is_known_by_its_whole_path() {
        for path in [
            "/v1/files",
            "/v1/uploads/upload_1/parts",
            "/v1/vector_stores/vs_1/file_batches",
            "/v1/threads",
            "/v1/threads/thread_1/messages",
            "/v1/threads/t/runs/run_1/cancel",
            "/v1/responses/resp_1/cancel",
            "/v1beta/models/gemini-2.5-pro:countTokens",
            "/v1beta/batches/b1:cancel",
        ] {
            assert!(is_known(path), "{path}");
        }
        for path in [
            "/v1/threads/runs",
            "/v1/threads/t/runs",
            "/v1/threads/t/runs/run_1/submit_tool_outputs",
            "/v1/batches",
            "/v1/messages/batches",
            "/v1/responses/compact",
            "/v1/realtime/sessions",
            "/v1/filesystem",
            "/v1/files/",
            "/v1/uploads//x",
            "/v1/uploads/%2e%2e/responses",
            "/v1/uploads/a;b",
            "/v1/responses//cancel",
            "/v1beta/models/a/b:countTokens",
            "/v1beta/models/:countTokens",
            "/v1beta/models/a:generateContent:countTokens",
        ] {
            assert!(!is_known(path), "{path}");
        }
    }
}
