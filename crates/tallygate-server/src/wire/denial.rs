//! What the messages of all dialects say about the limit that was in the way.

use tallygate_core::{LimitInfo, Metric, Mode, Standing};

use super::Ask;
use super::wait::{Wait, go_duration};

/// The limit a denial names first: the first one that really denies.
pub(super) fn binding(standings: &[Standing]) -> Option<&Standing> {
    let enforced = standings
        .iter()
        .find(|standing| standing.limit.mode == Mode::Enforce);
    enforced.or_else(|| standings.first())
}

/// "Rate limit reached for gpt-4o in limit free-day on tokens per day (TPD): Limit 10000, Used 9000, Requested 2000. Please try
/// again in 18.642s.": the form that clients of OpenAI parse, with our limit's name where theirs has an organisation.
pub(super) fn reached(standing: &Standing, ask: &Ask<'_>, wait: Wait) -> String {
    let head = head("Rate limit reached", standing, ask);
    let metric = standing.limit.metric;
    format!(
        "{head}: Limit {}, Used {}, Requested {}. Please try again in {}.",
        metric.show(standing.limit.burst),
        metric.show(standing.used),
        metric.show(ask.demand.get(metric)),
        go_duration(wait.length())
    )
}

/// "Request too large for gpt-4o in limit free-day on tokens per day (TPD): Limit 10000, Requested 24754. …"
pub(super) fn too_large(standing: &Standing, ask: &Ask<'_>, largest: &[(Metric, u64)]) -> String {
    let head = head("Request too large", standing, ask);
    let metric = standing.limit.metric;
    let possible = largest
        .iter()
        .find(|(metric, _)| *metric == standing.limit.metric);
    let most = possible.map_or_else(String::new, |(_, most)| {
        let most = metric.show(*most);
        match metric {
            Metric::COST => format!(" At most {most} is possible."),
            _ => {
                let unit = words(&standing.limit.metric_name);
                format!(" At most {most} {unit} are possible.")
            }
        }
    });
    format!(
        "{head}: Limit {}, Requested {}. No wait would help: the request must be made smaller.{most}",
        metric.show(standing.limit.burst),
        metric.show(ask.demand.get(metric))
    )
}

/// "You exceeded your current quota …", for the limits that are quotas rather than rates.
pub(super) fn exhausted(standing: &Standing, ask: &Ask<'_>, wait: Wait) -> String {
    format!(
        "You exceeded your current quota. {}",
        reached(standing, ask, wait)
    )
}

fn head(what: &str, standing: &Standing, ask: &Ask<'_>) -> String {
    let model = if ask.model.is_empty() {
        "this request"
    } else {
        ask.model
    };
    format!(
        "{what} for {model} in limit {} on {}",
        standing.limit.name,
        rate(&standing.limit)
    )
}

/// "tokens per min (TPM)", "requests per day (RPD)", "input tokens per 5m", "calls at once".
fn rate(limit: &LimitInfo) -> String {
    let unit = words(&limit.metric_name);
    let window = limit.window();
    let (per, letter) = match window {
        _ if limit.metric == Metric::CONCURRENCY => return "calls at once".to_owned(),
        "1s" | "second" => ("sec", 'S'),
        "60s" | "1m" | "minute" => ("min", 'M'),
        "3600s" | "1h" | "hour" => ("hour", 'H'),
        "24h" | "1d" | "day" => ("day", 'D'),
        other => return format!("{unit} per {other}"),
    };
    let letters = match limit.metric {
        Metric::REQUESTS => "RP",
        Metric::TOKENS => "TP",
        Metric::INPUT_TOKENS => "ITP",
        Metric::OUTPUT_TOKENS => "OTP",
        _ => return format!("{unit} per {per}"),
    };
    format!("{unit} per {per} ({letters}{letter})")
}

fn words(metric_name: &str) -> String {
    if metric_name == "cost" {
        return "dollars".to_owned();
    }
    metric_name.replace('_', " ")
}
