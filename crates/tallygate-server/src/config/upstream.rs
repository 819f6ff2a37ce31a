//! `upstreams:`: provider accounts.

use std::net::IpAddr;
use std::sync::Arc;

use http::Uri;
use http::header::{AUTHORIZATION, HeaderName, HeaderValue};
use http::uri::Scheme;
use tallygate_tokens::Dialect;

use super::fields::{Fields, Known, Reading};
use super::problem::{Kind, Place, Problem};
use super::secret::Secret;
use super::tree::{Key, Node};
use super::unread::{Budgets, Passthrough};

/// A provider account: where it is and how it is spoken to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Upstream {
    name: String,
    dialect: Dialect,
    base: Uri,
    api_key: Option<Secret>,
    credential: Option<(HeaderName, HeaderValue)>,
    passthrough: Passthrough,
}

impl Upstream {
    /// Its name in the configuration, the value of the label `upstream`.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The dialect it speaks.
    #[must_use]
    pub fn dialect(&self) -> Dialect {
        self.dialect
    }

    /// Its base address as configured.
    #[must_use]
    pub fn base(&self) -> &Uri {
        &self.base
    }

    /// Its key, where one is configured.
    #[must_use]
    pub fn api_key(&self) -> Option<&Secret> {
        self.api_key.as_ref()
    }

    /// The header that authenticates here, marked sensitive: `authorization` for OpenAI, `x-api-key` for Anthropic,
    /// `x-goog-api-key` for Gemini. `None` without a key: then the caller's own credential is the one to send.
    #[must_use]
    pub fn credential(&self) -> Option<&(HeaderName, HeaderValue)> {
        self.credential.as_ref()
    }

    /// Which of the calls that nobody can size are handed on to it.
    #[must_use]
    pub fn passthrough(&self) -> Passthrough {
        self.passthrough
    }
}

const UPSTREAM: Known<'static> = Known {
    what: "an upstream",
    keys: &["dialect", "base_url", "api_key", "passthrough"],
    later: &[],
};
const DIALECTS: [(&str, Dialect); 3] = [
    ("openai", Dialect::OpenAi),
    ("anthropic", Dialect::Anthropic),
    ("gemini", Dialect::Gemini),
];

const PASSTHROUGH: [(&str, Passthrough); 2] = [
    ("guarded", Passthrough::Guarded),
    ("allow", Passthrough::Allow),
];

/// The section as it was read.
pub(super) struct Upstreams {
    /// Those that can be used, in the order of the file.
    pub(super) good: Vec<Arc<Upstream>>,
    /// The names of all.
    pub(super) names: Vec<String>,
    /// Those that are handed everything, with the place that says so.
    pub(super) open: Vec<(String, Place)>,
}

/// Reads `upstreams:`.
pub(super) fn read_all(top: &Fields<'_>, reading: &mut Reading<'_>) -> Upstreams {
    let node = top.get("upstreams");
    let entries = node
        .and_then(|node| reading.entries(node, "`upstreams`"))
        .unwrap_or_default();
    let names = entries.iter().map(|(key, _)| key.name.clone()).collect();
    let mut open = Vec::new();
    let mut good = Vec::new();
    for (key, value) in entries {
        if let Some((upstream, at)) = read(key, value, reading) {
            if upstream.passthrough == Passthrough::Allow {
                open.push((upstream.name.clone(), at));
            }
            good.push(Arc::new(upstream));
        }
    }
    Upstreams { good, names, open }
}

/// Reads one, with the place of its `passthrough`.
fn read(key: &Key, node: &Node, reading: &mut Reading<'_>) -> Option<(Upstream, Place)> {
    let fields = reading.fields(node, &UPSTREAM)?;
    let dialect = fields
        .need("dialect", reading)
        .and_then(|node| reading.word(node, "the dialect", &DIALECTS));
    let base = fields
        .need("base_url", reading)
        .and_then(|node| base_url(node, reading));
    let key_node = fields.get("api_key");
    let api_key = key_node.map(|node| {
        reading.secret(node);
        reading
            .expanded(node, "the api key")
            .map(|text| (Secret::new(text), node))
    });
    let passthrough = fields
        .get("passthrough")
        .and_then(|node| reading.word(node, "`passthrough`", &PASSTHROUGH));
    let (dialect, base) = (dialect?, base?);
    let (api_key, credential) = match api_key {
        None => (None, None),
        Some(read) => {
            let (secret, node) = read?;
            let credential = credential(dialect, &secret, node, reading)?;
            warn_in_the_clear(&base, node, reading);
            (Some(secret), Some(credential))
        }
    };
    let upstream = Upstream {
        name: key.name.clone(),
        dialect,
        base,
        api_key,
        credential,
        passthrough: passthrough.unwrap_or_default(),
    };
    Some((upstream, fields.key_at("passthrough")))
}

fn base_url(node: &Node, reading: &mut Reading<'_>) -> Option<Uri> {
    let text = reading.expanded(node, "the base url")?;
    let refusal = match text.parse::<Uri>() {
        Err(_) => "is not a URL",
        Ok(uri) if uri.scheme() != Some(&Scheme::HTTP) && uri.scheme() != Some(&Scheme::HTTPS) => {
            "does not start with https:// or http://"
        }
        Ok(uri)
            if uri
                .authority()
                .is_some_and(|authority| authority.as_str().contains('@')) =>
        {
            "holds a user name; use `api_key`"
        }
        Ok(uri) if uri.query().is_some() => "has a query",
        Ok(uri) => return Some(uri),
    };
    let problem = Problem::error(Kind::Value, node.at, format!("the base url {refusal}"));
    reading.report(problem.mend("write it as https://api.openai.com/v1"));
    None
}

fn credential(
    dialect: Dialect,
    secret: &Secret,
    node: &Node,
    reading: &mut Reading<'_>,
) -> Option<(HeaderName, HeaderValue)> {
    let (name, text) = match dialect {
        Dialect::OpenAi => (AUTHORIZATION, format!("Bearer {}", secret.reveal())),
        Dialect::Anthropic => (
            HeaderName::from_static("x-api-key"),
            secret.reveal().to_owned(),
        ),
        Dialect::Gemini => (
            HeaderName::from_static("x-goog-api-key"),
            secret.reveal().to_owned(),
        ),
    };
    let Ok(mut value) = HeaderValue::from_str(&text) else {
        let problem = Problem::error(
            Kind::Value,
            node.at,
            "the api key has characters that no header can carry",
        );
        reading.report(problem.mend("look for a line break or another invisible character in it"));
        return None;
    };
    value.set_sensitive(true);
    Some((name, value))
}

fn warn_in_the_clear(base: &Uri, node: &Node, reading: &mut Reading<'_>) {
    let host = base.host().unwrap_or_default().trim_matches(['[', ']']);
    let local = host == "localhost" || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback());
    if base.scheme() == Some(&Scheme::HTTP) && !local {
        let problem = Problem::warning(
            Kind::Value,
            node.at,
            format!("the key goes to `{host}` unencrypted"),
        );
        reading.report(problem.mend("use https:// in `base_url`"));
    }
}

/// Warns of upstreams to which calls pass unread beside limits that do not see them.
pub(super) fn check_open(open: &[(String, Place)], budgets: &Budgets, reading: &mut Reading<'_>) {
    for (name, at) in open {
        let Some(limit) = budgets.any_at(name) else {
            continue;
        };
        let message = format!(
            "calls that nobody can size pass to `{name}` uncounted, beside the limit `{limit}` of tokens or cost"
        );
        let problem = Problem::warning(Kind::Conflict, *at, message);
        reading.report(problem.mend("write `passthrough: guarded` where that limit is to hold"));
    }
}
