//! Reading `models:`.

use tallygate_core::Pattern;

use super::amount;
use super::fields::{Fields, Known, Number, Reading, one_of};
use super::problem::{Kind, Problem};
use super::routes::{Chosen, Model, Routes};
use super::tree::Node;
use super::upstream::Upstreams;

const MODEL: Known<'static> = Known {
    what: "a model",
    keys: &["upstream", "match", "output_estimate", "output_quantile"],
    later: &[],
};
const MULTIPLIER: Number<u32> = Number {
    what: "the output estimate",
    read: factor,
    mend: "write a multiplier such as 1.2, `max_tokens`, or `learned`",
};
const QUANTILE: Number<u32> = Number {
    what: "the quantile",
    read: quantile,
    mend: "write a number from 0.5 to 0.999, as 0.95",
};

/// The quantile a learned estimate reserves unless told otherwise: by input size it falls short on 7 % of chats.
const LEARNED_QUANTILE: u32 = 950;

/// Reads `models:`, whose entries name `upstreams`.
pub(super) fn read(top: &Fields<'_>, upstreams: Upstreams, reading: &mut Reading<'_>) -> Routes {
    let mut routes = Routes::new(upstreams.good);
    let node = top.get("models");
    for (key, value) in node
        .and_then(|node| reading.entries(node, "`models`"))
        .unwrap_or_default()
    {
        let Some(fields) = reading.fields(value, &MODEL) else {
            continue;
        };
        let estimate = estimate(&fields, reading);
        let patterns: Vec<String> = match fields.get("match") {
            Some(node) => reading
                .texts(node, "`match`")
                .into_iter()
                .map(|(text, _)| text.to_owned())
                .collect(),
            None => vec![key.name.clone()],
        };
        let named = fields
            .need("upstream", reading)
            .and_then(|node| upstream(node, &upstreams.names, reading));
        let found = named.and_then(|name| {
            routes
                .upstreams()
                .iter()
                .find(|upstream| upstream.name() == name)
        });
        if let Some(upstream) = found.cloned() {
            routes.add(Model {
                name: key.name.clone(),
                upstream,
                estimate,
                sent_as: sent_as(&key.name, &patterns),
                patterns,
            });
        }
    }
    routes
}

/// The name that a call is sent with which comes down to the model: one that leads to it again.
fn sent_as(name: &str, patterns: &[String]) -> Option<String> {
    let exact = patterns.iter().find(|pattern| !pattern.contains('*'));
    let own = || patterns.iter().any(|text| Pattern::new(text).matches(name));
    let sent = exact.map(String::as_str).or_else(|| own().then_some(name));
    sent.map(str::to_owned)
}

/// The name of an upstream; one that is there and was refused needs no second report.
fn upstream<'n>(node: &'n Node, declared: &[String], reading: &mut Reading<'_>) -> Option<&'n str> {
    let name = reading.text(node, "the upstream")?;
    if !declared.iter().any(|upstream| upstream == name) {
        let names: Vec<&str> = declared.iter().map(String::as_str).collect();
        let problem = Problem::error(
            Kind::Unknown,
            node.at,
            format!("the upstream `{name}` is not under `upstreams`"),
        );
        reading.report(problem.mend(one_of(name, &names)));
    }
    Some(name)
}

fn estimate(fields: &Fields<'_>, reading: &mut Reading<'_>) -> Option<Chosen> {
    let quantile = fields
        .get("output_quantile")
        .and_then(|node| reading.number(node, &QUANTILE));
    let estimate = fields
        .get("output_estimate")
        .and_then(|node| estimate_of(node, quantile, reading));
    let learned = matches!(estimate, Some(Chosen::Learned { .. }));
    if quantile.is_some() && !learned {
        let problem = Problem::error(
            Kind::Conflict,
            fields.key_at("output_quantile"),
            "`output_quantile` goes with a learned estimate",
        );
        reading.report(problem.mend("add `output_estimate: learned`, or remove `output_quantile`"));
    }
    estimate
}

fn estimate_of(node: &Node, quantile: Option<u32>, reading: &mut Reading<'_>) -> Option<Chosen> {
    match reading.text(node, "the output estimate")? {
        "max_tokens" => Some(Chosen::MaxTokens),
        "learned" => Some(Chosen::Learned {
            quantile_per_mille: quantile.unwrap_or(LEARNED_QUANTILE),
        }),
        _ => reading
            .number(node, &MULTIPLIER)
            .map(|per_mille| Chosen::Multiplier { per_mille }),
    }
}

/// A multiplier from 0.001 to 1000.
fn factor(text: &str) -> Result<u32, amount::Refusal> {
    match amount::per_mille(text)? {
        0 => Err("is zero".to_owned()),
        n if n > 1_000_000 => Err("is more than 1000".to_owned()),
        n => Ok(n),
    }
}

fn quantile(text: &str) -> Result<u32, amount::Refusal> {
    match amount::per_mille(text)? {
        n @ 500..=999 => Ok(n),
        _ => Err("is not from 0.5 to 0.999".to_owned()),
    }
}
