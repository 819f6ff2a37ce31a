//! `upstreams:`: provider accounts.

use std::net::IpAddr;
use std::sync::Arc;

use http::Uri;
use http::header::{AUTHORIZATION, HeaderName, HeaderValue};
use http::uri::Scheme;
use tallygate_tokens::Dialect;

use super::fields::{Fields, Known, Reading};
use super::problem::{Kind, Problem};
use super::secret::Secret;
use super::tree::{Key, Node};

/// A provider account: where it is and how it is spoken to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Upstream {
    name: String,
    dialect: Dialect,
    base: Uri,
    api_key: Option<Secret>,
    credential: Option<(HeaderName, HeaderValue)>,
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
}

const UPSTREAM: Known<'static> = Known {
    what: "an upstream",
    keys: &["dialect", "base_url", "api_key"],
    later: &[],
};
const DIALECTS: [(&str, Dialect); 3] = [
    ("openai", Dialect::OpenAi),
    ("anthropic", Dialect::Anthropic),
    ("gemini", Dialect::Gemini),
];

/// The section as it was read.
pub(super) struct Upstreams {
    /// Those that can be used, in the order of the file.
    pub(super) good: Vec<Arc<Upstream>>,
    /// The names of all.
    pub(super) names: Vec<String>,
}

/// Reads `upstreams:`.
pub(super) fn read_all(top: &Fields<'_>, reading: &mut Reading<'_>) -> Upstreams {
    let node = top.get("upstreams");
    let entries = node
        .and_then(|node| reading.entries(node, "`upstreams`"))
        .unwrap_or_default();
    let names = entries.iter().map(|(key, _)| key.name.clone()).collect();
    let read = entries
        .into_iter()
        .filter_map(|(key, value)| read(key, value, reading));
    Upstreams {
        good: read.map(Arc::new).collect(),
        names,
    }
}

fn read(key: &Key, node: &Node, reading: &mut Reading<'_>) -> Option<Upstream> {
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
    Some(Upstream {
        name: key.name.clone(),
        dialect,
        base,
        api_key,
        credential,
    })
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
