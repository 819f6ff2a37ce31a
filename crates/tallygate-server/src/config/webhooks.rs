//! `webhooks:`: who is told of events.

use std::net::IpAddr;
use std::sync::Arc;

use http::Uri;
use http::uri::Scheme;

use super::fields::{Fields, Known, Reading};
use super::masking::is_public;
use super::problem::{Kind, Problem};
use super::tree::{Node, Value};
use crate::events::{EventKind, KINDS, SigningKey};

/// Who is told of which events. Shown without secrets: a URL may hold one.
#[derive(Clone, PartialEq, Eq)]
pub struct Webhook {
    url: Uri,
    host: String,
    secret: Option<SigningKey>,
    kinds: Vec<EventKind>,
}

impl Webhook {
    /// Where events are posted to.
    #[must_use]
    pub fn url(&self) -> &Uri {
        &self.url
    }

    /// The host and port of that, which may be shown.
    #[must_use]
    pub fn host(&self) -> &str {
        &self.host
    }

    /// What they are signed with.
    #[must_use]
    pub fn secret(&self) -> Option<&SigningKey> {
        self.secret.as_ref()
    }

    /// Whether it is told of this kind.
    #[must_use]
    pub fn wants(&self, kind: EventKind) -> bool {
        self.kinds.contains(&kind)
    }
}

impl std::fmt::Debug for Webhook {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("Webhook")
            .field("host", &self.host)
            .field("kinds", &self.kinds)
            .finish_non_exhaustive()
    }
}

const WEBHOOK: Known<'static> = Known {
    what: "a webhook",
    keys: &["url", "secret", "events"],
    later: &[],
};

/// How many there may be.
const MOST: usize = 32;

/// Reads the section.
pub(super) fn read(top: &Fields<'_>, reading: &mut Reading<'_>) -> Vec<Arc<Webhook>> {
    let items = top
        .get("webhooks")
        .and_then(|node| reading.list(node, "`webhooks`"))
        .unwrap_or_default();
    if let Some(beyond) = items.get(MOST) {
        let message = format!(
            "{} webhooks are more than the {MOST} that are possible",
            items.len()
        );
        reading.report(Problem::error(Kind::Value, beyond.at, message));
    }
    items
        .iter()
        .filter_map(|item| webhook(item, reading))
        .map(Arc::new)
        .collect()
}

/// Has nothing of the section shown that may be a secret, wherever in it that was written: of addresses the hosts are shown.
pub(super) fn hide_all(top: &Node, reading: &mut Reading<'_>) {
    let Value::Map(sections) = &top.value else {
        return;
    };
    let sections = sections.iter().filter(|(key, _)| key.name == "webhooks");
    sections.for_each(|(_, section)| hide(section, reading));
}

fn hide(node: &Node, reading: &mut Reading<'_>) {
    match &node.value {
        Value::List(items) => items.iter().for_each(|item| hide(item, reading)),
        Value::Map(entries) => {
            for (key, node) in entries {
                match key.name.as_str() {
                    "url" => reading.secret_path(node),
                    "events" => {}
                    _ => reading.secrets_in(node, is_public),
                }
            }
        }
        Value::Null | Value::Scalar(_) => reading.secret_path(node),
    }
}

fn webhook(node: &Node, reading: &mut Reading<'_>) -> Option<Webhook> {
    let fields = reading.fields(node, &WEBHOOK)?;
    let url = fields
        .need("url", reading)
        .and_then(|node| url(node, reading));
    let secret = fields.get("secret").map(|node| {
        reading
            .expanded(node, "the secret")
            .and_then(|text| secret(&text, node, reading))
    });
    let kinds = fields.get("events").map(|node| kinds(node, reading));
    let (url, host) = url?;
    let secret = match secret {
        None => {
            warn_unsigned(node, reading);
            None
        }
        Some(read) => Some(read?),
    };
    Some(Webhook {
        url,
        host,
        secret,
        kinds: kinds.unwrap_or_else(|| KINDS.iter().map(|(_, kind)| *kind).collect()),
    })
}

fn url(node: &Node, reading: &mut Reading<'_>) -> Option<(Uri, String)> {
    let text = reading.expanded(node, "the url")?;
    let uri: Option<Uri> = text.parse().ok();
    let refusal = match &uri {
        None => "is not a URL",
        Some(uri) if uri.authority().is_none() => "names no host",
        Some(uri) if uri.authority().is_some_and(|at| at.as_str().contains('@')) => {
            "holds a user name"
        }
        Some(uri) if uri.scheme() == Some(&Scheme::HTTPS) || is_near(uri) => {
            let host = uri.authority().map(ToString::to_string);
            return Some((uri.clone(), host.unwrap_or_default()));
        }
        Some(_) => "does not start with https://",
    };
    let problem = Problem::error(Kind::Value, node.at, format!("the url {refusal}"));
    reading.report(
        problem.mend("write it as https://ops.example/hook; http:// is for this machine only"),
    );
    None
}

/// Plain HTTP on this machine.
fn is_near(uri: &Uri) -> bool {
    let host = uri.host().unwrap_or_default();
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let loopback = host.parse().is_ok_and(|addr: IpAddr| addr.is_loopback());
    uri.scheme() == Some(&Scheme::HTTP) && (host == "localhost" || loopback)
}

fn secret(text: &str, node: &Node, reading: &mut Reading<'_>) -> Option<SigningKey> {
    let refusal = match SigningKey::read(text) {
        Ok(key) => return Some(key),
        Err(refusal) => refusal,
    };
    let problem = Problem::error(Kind::Value, node.at, format!("the secret {refusal}"));
    reading.report(problem.mend("make one with: openssl rand -hex 32"));
    None
}

fn warn_unsigned(node: &Node, reading: &mut Reading<'_>) {
    let message = "without a `secret` the receiver cannot know who sent an event";
    let problem = Problem::warning(Kind::Missing, node.at, message);
    reading.report(problem.mend("add secret: \"${WEBHOOK_SECRET}\""));
}

fn kinds(node: &Node, reading: &mut Reading<'_>) -> Vec<EventKind> {
    let items = match &node.value {
        Value::List(items) => items.as_slice(),
        _ => std::slice::from_ref(node),
    };
    items
        .iter()
        .filter_map(|item| reading.word(item, "an event", &KINDS))
        .collect()
}
