//! What a new key is to be, as it is asked for.

use std::collections::BTreeMap;

use tallygate_store::registry::{Grant, Stamp};

use crate::admin::Refused;
use crate::config::{Config, SERVER_LABELS};
use crate::decision::Fields;
use crate::identify::{Downgrade, Role};
use crate::wire::read_stamp;

/// Reads the body of `POST /api/keys` for a key with this hash.
///
/// # Errors
/// When a field is not known or not possible, or does not go with the configuration.
pub(super) fn read(
    body: &[u8],
    config: &Config,
    (now, hash): (Stamp, String),
) -> Result<Grant, Refused> {
    let mut fields = Fields::of_body(body)?;
    let id = fields.text("id")?.ok_or_else(|| fields.missing("id"))?;
    let grant = Grant {
        id,
        hash,
        subject: subject(&mut fields)?,
        roles: roles(&mut fields)?,
        downgrade: downgrade(&mut fields)?,
        expires: expires(&mut fields, now)?,
    };
    fields.end()?;
    check(&grant, config)?;
    Ok(grant)
}

fn subject(fields: &mut Fields<'_>) -> Result<BTreeMap<String, String>, Refused> {
    let mut subject = BTreeMap::new();
    let Some(mut labels) = fields.object("subject")? else {
        return Ok(subject);
    };
    for label in labels.names() {
        if SERVER_LABELS.contains(&label.as_str()) {
            let message = format!("the label `{label}` is set by the server, not by a key");
            let field = labels.path(&label);
            return Err(Refused::invalid(message, Some(&field)).mend("choose another label"));
        }
        if let Some(value) = labels.text(&label)? {
            subject.insert(label, value);
        }
    }
    Ok(subject)
}

fn roles(fields: &mut Fields<'_>) -> Result<Vec<String>, Refused> {
    let Some(raw) = fields.raw("roles") else {
        return Ok(vec![Role::Call.word().to_owned()]);
    };
    let known = Role::WORDS.map(|(word, _)| word);
    let asked: Option<Vec<String>> = serde_json::from_str(raw.get()).ok();
    let asked = asked.filter(|asked| asked.iter().all(|role| known.contains(&role.as_str())));
    let asked = asked.ok_or_else(|| {
        let message = "`roles` must be a list of roles";
        Refused::invalid(message, Some("roles")).mend(format!("there are: {}", known.join(", ")))
    })?;
    // In one order and once each.
    let given = known
        .iter()
        .filter(|word| asked.iter().any(|role| role == *word));
    Ok(given.map(|word| (*word).to_owned()).collect())
}

fn downgrade(fields: &mut Fields<'_>) -> Result<Option<String>, Refused> {
    let words = Downgrade::WORDS.map(|(word, _)| word);
    match fields.text("downgrade")? {
        Some(said) if !words.contains(&said.as_str()) => {
            let message = format!("`downgrade` cannot be `{said}`");
            let mend = format!("there are: {}", words.join(", "));
            Err(Refused::invalid(message, Some("downgrade")).mend(mend))
        }
        said => Ok(said),
    }
}

fn expires(fields: &mut Fields<'_>, now: Stamp) -> Result<Option<Stamp>, Refused> {
    let length = fields.millis("ttl_ms")?;
    match (fields.text("expires")?, length) {
        (None, length) => Ok(length.map(|length| now.plus(length))),
        (Some(text), None) => read_stamp(&text).map(Some).ok_or_else(|| {
            Refused::invalid("`expires` is no instant", Some("expires"))
                .mend("write it as 2027-01-31, which is midnight UTC, or 2027-01-31T18:00:00Z")
        }),
        (Some(_), Some(_)) => Err(Refused::invalid(
            "`expires` and `ttl_ms` are two ways to say one thing",
            Some("ttl_ms"),
        )
        .mend("leave one out")),
    }
}

fn check(grant: &Grant, config: &Config) -> Result<(), Refused> {
    if config.has_key(&grant.id) {
        let message = format!("the key id `{}` is taken by the configuration", grant.id);
        return Err(Refused::new(http::StatusCode::CONFLICT, "taken", message)
            .mend("choose another id, or remove the key from the configuration"));
    }
    match grant.subject.get("tier") {
        Some(tier) if !config.may_be_tier(tier) => {
            let message = format!("the tier `{tier}` is not under `tiers`");
            let names: Vec<&str> = config.tier_names().collect();
            Err(Refused::invalid(message, Some("subject.tier"))
                .mend(format!("there are: {}", names.join(", "))))
        }
        _ => Ok(()),
    }
}
