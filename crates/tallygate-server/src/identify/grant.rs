//! What a new key is to be, as it is asked for: of a running server, or in the folder of one that is stopped.

use std::collections::BTreeMap;

use tallygate_store::registry::{Grant, Stamp};

use super::{Downgrade, Role};
use crate::config::{Config, SERVER_LABELS, tierless};
use crate::decision::{FieldError, Fields};
use crate::wire::read_stamp;

/// Why a key cannot be as it is asked for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
#[non_exhaustive]
pub struct GrantError {
    /// What is wrong.
    pub message: String,
    /// The path of the field it is about.
    pub field: Option<String>,
    /// What to do.
    pub mend: Option<String>,
}

impl GrantError {
    fn new(message: impl Into<String>, field: &str) -> Self {
        Self {
            message: message.into(),
            field: Some(field.to_owned()),
            mend: None,
        }
    }

    fn mend(mut self, mend: impl Into<String>) -> Self {
        self.mend = Some(mend.into());
        self
    }
}

impl From<FieldError> for GrantError {
    fn from(error: FieldError) -> Self {
        Self {
            message: error.to_string(),
            field: error.path().map(str::to_owned),
            mend: None,
        }
    }
}

/// Reads what is asked for, as the body of `POST /api/keys` has it, for a key with this hash that is made now.
///
/// # Errors
/// When a field is not known or not possible.
pub fn read_grant(body: &[u8], (now, hash): (Stamp, String)) -> Result<Grant, GrantError> {
    let mut fields = Fields::of_body(body)?;
    let id = fields.text("id")?.ok_or_else(|| fields.missing("id"))?;
    let grant = Grant {
        id,
        hash,
        subject: subject(&mut fields)?,
        roles: roles(&mut fields)?,
        downgrade: downgrade(&mut fields)?,
        expires: expires(&mut fields, now)?.flatten(),
    };
    fields.end()?;
    Ok(grant)
}

/// Reads another end of a key, as the body of `PATCH /api/keys/{id}` has it; `None` is no end.
///
/// # Errors
/// When it says none, or a field is not known or not possible.
pub fn read_end(body: &[u8], now: Stamp) -> Result<Option<Stamp>, GrantError> {
    let mut fields = Fields::of_body(body)?;
    let end = expires(&mut fields, now)?;
    let missing = fields.missing("expires");
    fields.end()?;
    end.ok_or_else(|| {
        GrantError::from(missing).mend("say when it ends, as 2027-01-31 or `never`, or `ttl_ms`")
    })
}

/// What is to be known of a key that calls or decides, and has no tier where `config` has some.
#[must_use]
pub fn untiered(grant: &Grant, config: &Config) -> Option<String> {
    let mut roles = grant.roles.iter();
    let counted = roles.any(|role| {
        [Role::Call, Role::Decide]
            .iter()
            .any(|of| role == of.word())
    });
    let has_tiers = config.tier_names().next().is_some();
    let is_untiered = counted && has_tiers && !grant.subject.contains_key("tier");
    is_untiered.then(|| tierless(&grant.id))
}

/// The word for no end.
const NEVER: &str = "never";

fn subject(fields: &mut Fields<'_>) -> Result<BTreeMap<String, String>, GrantError> {
    let mut subject = BTreeMap::new();
    let Some(mut labels) = fields.object("subject")? else {
        return Ok(subject);
    };
    for label in labels.names() {
        if SERVER_LABELS.contains(&label.as_str()) {
            let message = format!("the label `{label}` is set by the server, not by a key");
            let field = labels.path(&label);
            return Err(GrantError::new(message, &field).mend("choose another label"));
        }
        if let Some(value) = labels.text(&label)? {
            subject.insert(label, value);
        }
    }
    Ok(subject)
}

fn roles(fields: &mut Fields<'_>) -> Result<Vec<String>, GrantError> {
    let Some(raw) = fields.raw("roles") else {
        return Ok(vec![Role::Call.word().to_owned()]);
    };
    let known = Role::WORDS.map(|(word, _)| word);
    let asked: Option<Vec<String>> = serde_json::from_str(raw.get()).ok();
    let asked = asked.filter(|asked| asked.iter().all(|role| known.contains(&role.as_str())));
    let asked = asked.ok_or_else(|| {
        let message = "`roles` must be a list of roles";
        GrantError::new(message, "roles").mend(format!("there are: {}", known.join(", ")))
    })?;
    // In one order and once each.
    let given = known
        .iter()
        .filter(|word| asked.iter().any(|role| role == *word));
    Ok(given.map(|word| (*word).to_owned()).collect())
}

fn downgrade(fields: &mut Fields<'_>) -> Result<Option<String>, GrantError> {
    let words = Downgrade::WORDS.map(|(word, _)| word);
    match fields.text("downgrade")? {
        Some(said) if !words.contains(&said.as_str()) => {
            let message = format!("`downgrade` cannot be `{said}`");
            let mend = format!("there are: {}", words.join(", "));
            Err(GrantError::new(message, "downgrade").mend(mend))
        }
        said => Ok(said),
    }
}

/// When it ends, if that is said: `Some(None)` is never.
fn expires(fields: &mut Fields<'_>, now: Stamp) -> Result<Option<Option<Stamp>>, GrantError> {
    let length = fields.millis("ttl_ms")?;
    match (fields.text("expires")?, length) {
        (None, length) => Ok(length.map(|length| Some(now.plus(length)))),
        (Some(text), None) if text == NEVER => Ok(Some(None)),
        (Some(text), None) => read_stamp(&text)
            .map(|end| Some(Some(end)))
            .map_err(|error| {
                GrantError::new(format!("`expires` {error}"), "expires").mend(error.mend())
            }),
        (Some(_), Some(_)) => Err(GrantError::new(
            "`expires` and `ttl_ms` are two ways to say one thing",
            "ttl_ms",
        )
        .mend("leave one out")),
    }
}
