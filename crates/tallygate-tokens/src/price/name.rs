//! The names that a model's price may stand under.

/// Makers whose names routers put before a model's: the price is the maker's own.
const MAKERS: [&str; 18] = [
    "anthropic",
    "cohere",
    "deepseek",
    "deepseek-ai",
    "gemini",
    "google",
    "minimax",
    "mistral",
    "mistralai",
    "models",
    "moonshotai",
    "openai",
    "perplexity",
    "voyageai",
    "x-ai",
    "xai",
    "z-ai",
    "zai",
];

/// The names to look for, the most exact first: the name itself, without a maker's prefix, and without the marks of a
/// version, one after the other. A fine-tuned model (`ft:…`) has a price of its own, so nothing is taken from its name.
pub(super) fn candidates(model: &str) -> impl Iterator<Item = String> {
    let name = model.to_ascii_lowercase();
    let own = without_maker(&name).map(str::to_owned);
    let mut mark = Some(own.clone().unwrap_or_else(|| name.clone()));
    let undated = std::iter::from_fn(move || {
        mark = mark
            .take()
            .and_then(|name| without_mark(&name).map(str::to_owned));
        mark.clone()
    });
    std::iter::once(name).chain(own).chain(undated)
}

/// `openai/gpt-4o` without what is not the model's own. A cloud's prefix (`us.anthropic.…`) stays: clouds have prices of
/// their own, by region.
fn without_maker(name: &str) -> Option<&str> {
    let (maker, own) = name.split_once('/')?;
    (MAKERS.contains(&maker) && !own.contains('/')).then_some(own)
}

/// A name without its last mark of a version: `-20241022`, `@20250929`, `-2024-08-06`, `-latest`, `-001`, `-v1:0`.
fn without_mark(name: &str) -> Option<&str> {
    if let Some(rest) = name.strip_suffix("-latest") {
        return Some(rest);
    }
    let cut = name.rfind(['-', '@'])?;
    let (rest, mark) = name.split_at(cut);
    match mark.get(1..)? {
        mark if is_date(mark) || is_release(mark) => Some(rest),
        _ => without_dashed_date(name),
    }
}

/// `20241022`: digits of a day in this century.
fn is_date(mark: &str) -> bool {
    mark.len() == 8 && mark.starts_with("20") && mark.bytes().all(|byte| byte.is_ascii_digit())
}

/// `001`, and `v1:0` as Bedrock writes it.
fn is_release(mark: &str) -> bool {
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let bedrock = mark.strip_prefix('v').and_then(|rest| rest.split_once(':'));
    match bedrock {
        Some((major, minor)) => digits(major) && digits(minor),
        None => mark.len() == 3 && mark.starts_with("00") && digits(mark),
    }
}

/// `-2024-08-06`.
fn without_dashed_date(name: &str) -> Option<&str> {
    let cut = name.len().checked_sub("-2024-08-06".len())?;
    let (rest, date) = (name.get(..cut)?, name.get(cut..)?);
    let form = |(place, byte): (usize, u8)| match place {
        0 | 5 | 8 => byte == b'-',
        _ => byte.is_ascii_digit(),
    };
    let is_date = date.starts_with("-20") && date.bytes().enumerate().all(form);
    is_date.then_some(rest)
}
