//! Reading model names: prefixes, dates and version numbers as providers and gateways write them.

/// A model's own name in lower case: without a router's path (`openai/…`, `models/…`), a cloud's
/// prefix (`us.anthropic.…`, `meta.…`) or the mark of a fine-tuned model (`ft:…`).
pub(crate) fn bare(model: &str) -> String {
    let tail = model.rsplit('/').next().unwrap_or(model);
    let tail = tail.strip_prefix("ft:").unwrap_or(tail);
    let name = tail.to_ascii_lowercase();
    for vendor in VENDORS {
        if let Some((region, own)) = name.split_once(vendor)
            && (region.is_empty() || region.ends_with('.'))
        {
            return own.to_owned();
        }
    }
    name
}

/// How Bedrock names the makers of its models, after a region or alone.
const VENDORS: [&str; 6] = [
    "anthropic.",
    "meta.",
    "mistral.",
    "openai.",
    "deepseek.",
    "qwen.",
];

/// The value of the first entry whose key begins `name`.
pub(crate) fn by_prefix<T: Copy>(table: &[(&str, T)], name: &str) -> Option<T> {
    table
        .iter()
        .find(|(prefix, _)| name.starts_with(prefix))
        .map(|&(_, value)| value)
}

/// A Claude model's generation, from names such as `claude-3-5-sonnet-20241022`,
/// `claude-opus-4-7` or `claude-sonnet-4.5@20250929`: the first one or two short numbers.
/// `None` when `name` is no Claude model; a Claude without numbers is the newest.
pub(crate) fn claude_generation(name: &str) -> Option<(u32, u32)> {
    let rest = name.strip_prefix("claude")?;
    let mut numbers = rest
        .split(['-', '.', '@', ':', '_'])
        .skip_while(|part| number(part).is_none())
        .map_while(number);
    let major = numbers.next().unwrap_or(u32::MAX);
    Some((major, numbers.next().unwrap_or(0)))
}

/// A version number: one or two digits, so that dates are none.
fn number(part: &str) -> Option<u32> {
    (part.len() <= 2).then(|| part.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn claude_generations_are_read_from_every_spelling() {
        for (name, expected) in [
            ("claude-3-opus-20240229", (3, 0)),
            ("claude-3-5-sonnet-20241022", (3, 5)),
            ("claude-3.7-sonnet", (3, 7)),
            ("claude-sonnet-4-20250514", (4, 0)),
            ("claude-opus-4-1-20250805", (4, 1)),
            ("claude-sonnet-4-5@20250929", (4, 5)),
            ("claude-opus-4-7", (4, 7)),
            ("claude-opus-5", (5, 0)),
            ("claude-instant-1.2", (1, 2)),
            ("claude-next", (u32::MAX, 0)),
        ] {
            assert_eq!(claude_generation(name), Some(expected), "{name}");
        }
        let cloud = bare("us.anthropic.claude-sonnet-4-5-20250929-v1:0");
        assert_eq!(claude_generation(&cloud), Some((4, 5)));
        assert_eq!(claude_generation("gpt-4o"), None);
    }

    #[test]
    fn a_name_is_freed_of_what_routers_add() {
        for (model, expected) in [
            ("openai/GPT-4o", "gpt-4o"),
            ("ft:gpt-4o-mini:acme::abc", "gpt-4o-mini:acme::abc"),
            ("eu.anthropic.claude-3-haiku", "claude-3-haiku"),
            ("models/gemini-2.5-pro", "gemini-2.5-pro"),
            (
                "us.meta.llama3-1-8b-instruct-v1:0",
                "llama3-1-8b-instruct-v1:0",
            ),
            ("openai.gpt-oss-120b-1:0", "gpt-oss-120b-1:0"),
        ] {
            assert_eq!(bare(model), expected);
        }
    }
}
