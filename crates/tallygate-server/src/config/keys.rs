//! `keys:` and `identify:`: whom the listener lets in.

use std::collections::{BTreeSet, HashMap};

use tallygate_core::DOWNGRADED;
use tallygate_core::text::is_printable;
use tallygate_store::registry::{LOCAL, NOBODY};

use super::fields::{Fields, Known, Reading, one_of};
use super::problem::{Kind, Place, Problem};
use super::tiers::Tiers;
use super::tree::Node;
use crate::identify::{
    Downgrade, End, Identity, KEY_LABEL, KeyHash, KeyHashError, Keyring, MAX_LABEL_VALUE, Pass,
    Role, Roles, Trust,
};
use crate::wire::read_stamp;

const KEY: Known<'static> = Known {
    what: "a key",
    keys: &["id", "hash", "subject", "role", "expires", "downgrade"],
    later: &[("priority", "classes of waiters")],
};
const IDENTIFY: Known<'static> = Known {
    what: "`identify`",
    keys: &["trust_headers"],
    later: &[],
};

/// The labels that the server itself sets on every call.
pub(crate) const SERVER_LABELS: [&str; 5] =
    [KEY_LABEL, "model", "upstream", "endpoint", DOWNGRADED];

/// The keys as they were read.
pub(super) struct Keys {
    pub(super) keyring: Keyring,
    /// The ids of all keys.
    pub(super) ids: BTreeSet<String>,
    /// All labels that keys name.
    pub(super) labels: Vec<String>,
    /// Whether `keys:` names any key, refused ones included.
    pub(super) any: bool,
}

/// Reads both sections.
pub(super) fn read(top: &Fields<'_>, tiers: &Tiers, reading: &mut Reading<'_>) -> Keys {
    let trust = trust(top, reading);
    let items = top
        .get("keys")
        .and_then(|node| reading.list(node, "`keys`"))
        .unwrap_or_default();
    let mut seen = Seen::default();
    let mut good = Vec::new();
    let mut labels = Vec::new();
    for item in items {
        let Some(read) = key(item, &mut seen, reading) else {
            continue;
        };
        check_tier(item, &read.identity, tiers, reading);
        labels.extend(
            read.identity
                .labels()
                .iter()
                .map(|(label, _)| label.clone()),
        );
        good.push(Pass::new(read.hash, read.identity, read.end));
    }
    Keys {
        keyring: Keyring::new(good, trust),
        ids: seen.ids.into_keys().collect(),
        labels,
        any: !items.is_empty(),
    }
}

fn trust(top: &Fields<'_>, reading: &mut Reading<'_>) -> Trust {
    let fields = top
        .get("identify")
        .and_then(|node| reading.fields(node, &IDENTIFY));
    let node = fields.and_then(|fields| fields.get("trust_headers"));
    match node.and_then(|node| reading.flag(node, "`trust_headers`")) {
        Some(true) => Trust::Headers,
        _ => Trust::Keys,
    }
}

/// Ids and hashes so far, with the lines they stand on.
#[derive(Default)]
struct Seen {
    ids: HashMap<String, usize>,
    hashes: HashMap<KeyHash, usize>,
}

/// One key as it was read.
struct Read {
    hash: KeyHash,
    identity: Identity,
    end: End,
}

fn key(node: &Node, seen: &mut Seen, reading: &mut Reading<'_>) -> Option<Read> {
    let fields = reading.fields(node, &KEY)?;
    let id = fields
        .need("id", reading)
        .and_then(|node| id(node, seen, reading));
    let hash = fields
        .need("hash", reading)
        .and_then(|node| hash(node, seen, reading));
    let roles = fields
        .get("role")
        .map_or(Roles::of(&[Role::Call]), |node| roles(node, reading));
    let labels = fields
        .get("subject")
        .map(|node| subject(node, reading))
        .unwrap_or_default();
    let end = fields
        .get("expires")
        .map_or(End::Never, |node| expiry(node, reading));
    let downgrade = fields
        .get("downgrade")
        .and_then(|node| reading.word(node, "`downgrade`", &Downgrade::WORDS));
    let identity = Identity::of_key(&id?, labels, roles);
    Some(Read {
        hash: hash?,
        identity: identity.with_downgrade(downgrade.unwrap_or_default()),
        end,
    })
}

/// What cannot be read is an error, so that it does not matter what it means meanwhile.
fn expiry(node: &Node, reading: &mut Reading<'_>) -> End {
    let Some(text) = reading.text(node, "`expires`") else {
        return End::Revoked;
    };
    match read_stamp(text) {
        Ok(end) => End::At(end),
        Err(error) => {
            let message = format!("`expires` {error}: `{text}`");
            reading.report(Problem::error(Kind::Value, node.at, message).mend(error.mend()));
            End::Revoked
        }
    }
}

fn id(node: &Node, seen: &mut Seen, reading: &mut Reading<'_>) -> Option<String> {
    let id = reading.text(node, "the id")?;
    if let Some(line) = seen.ids.insert(id.to_owned(), node.at.line) {
        let problem = Problem::error(
            Kind::Duplicate,
            node.at,
            format!("the key id `{id}` is taken"),
        );
        reading.report(problem.mend(format!(
            "give each key its own id; the first is on line {line}"
        )));
    }
    if [NOBODY, LOCAL].contains(&id) {
        let message = format!("the id `{id}` stands for somebody without a key in the audit log");
        let problem = Problem::error(Kind::Value, node.at, message);
        reading.report(problem.mend("choose another id"));
        return None;
    }
    check_value(id, "the id", node.at, reading).then(|| id.to_owned())
}

fn hash(node: &Node, seen: &mut Seen, reading: &mut Reading<'_>) -> Option<KeyHash> {
    reading.secret(node);
    let text = reading.expanded(node, "the hash")?;
    let hash = match text.parse::<KeyHash>() {
        Ok(hash) => hash,
        Err(refusal) => {
            reading.report(bad_hash(&text, &refusal, node.at));
            return None;
        }
    };
    if let Some(line) = seen.hashes.insert(hash, node.at.line) {
        let problem = Problem::error(Kind::Duplicate, node.at, "two keys have this hash");
        reading.report(problem.mend(format!("remove one; the first is on line {line}")));
    }
    Some(hash)
}

/// The text is not repeated: what was pasted may be the key itself.
fn bad_hash(text: &str, refusal: &KeyHashError, at: Place) -> Problem {
    let mend = if text.starts_with(crate::identify::KEY_PREFIX) {
        "this is a key, and keys do not belong in a file: write what `tallygate keys hash` prints for it"
    } else {
        "write `sha256:` and the 64 lower-case hex digits that `tallygate keys hash` prints"
    };
    Problem::error(Kind::Value, at, format!("the hash {refusal}")).mend(mend)
}

fn roles(node: &Node, reading: &mut Reading<'_>) -> Roles {
    let mut roles = Vec::new();
    for (text, at) in reading.texts(node, "the role") {
        match Role::WORDS.iter().find(|(word, _)| *word == text) {
            Some((_, role)) => roles.push(*role),
            None => {
                let words = Role::WORDS.map(|(word, _)| word);
                let problem =
                    Problem::error(Kind::Unknown, at, format!("the role `{text}` is not known"));
                reading.report(problem.mend(one_of(text, &words)));
            }
        }
    }
    Roles::of(&roles)
}

fn subject(node: &Node, reading: &mut Reading<'_>) -> Vec<(String, String)> {
    let mut labels = Vec::new();
    for (key, value) in reading.entries(node, "`subject`").unwrap_or_default() {
        if SERVER_LABELS.contains(&key.name.as_str()) {
            let message = format!(
                "the label `{}` is set by the server, not by a key",
                key.name
            );
            reading.report(
                Problem::error(Kind::Conflict, key.at, message).mend("choose another label"),
            );
            continue;
        }
        let Some(text) = reading.text(value, &format!("the label `{}`", key.name)) else {
            continue;
        };
        if check_value(
            text,
            &format!("the label `{}`", key.name),
            value.at,
            reading,
        ) {
            labels.push((key.name.clone(), text.to_owned()));
        }
    }
    labels
}

/// Labels end up in answers, headers and logs: printable ASCII or letters of any language, of bounded length.
fn check_value(text: &str, what: &str, at: Place, reading: &mut Reading<'_>) -> bool {
    let refusal = if text.len() > MAX_LABEL_VALUE {
        "is longer than 256 bytes"
    } else if !is_printable(text) {
        "has control characters"
    } else {
        return true;
    };
    reading.report(Problem::error(Kind::Value, at, format!("{what} {refusal}")));
    false
}

/// What is said of a key that calls and has no tier where there are some.
pub(crate) fn tierless(id: &str) -> String {
    format!("the key `{id}` has no tier, so no tier's limits count it")
}

fn check_tier(node: &Node, identity: &Identity, tiers: &Tiers, reading: &mut Reading<'_>) {
    if tiers.is_empty() {
        return;
    }
    let Some(tier) = identity.label("tier") else {
        // Who neither calls nor decides is counted by nothing.
        if !identity.may(Role::Call) && !identity.may(Role::Decide) {
            return;
        }
        let id = identity.key_id().unwrap_or_default();
        let problem = Problem::warning(Kind::Missing, node.at, tierless(id));
        reading.report(problem.mend("add `tier` to its `subject`"));
        return;
    };
    if !tiers.has(tier) {
        let names: Vec<&str> = tiers.names().collect();
        let problem = Problem::error(
            Kind::Unknown,
            node.at,
            format!("the tier `{tier}` is not under `tiers`"),
        );
        reading.report(problem.mend(one_of(tier, &names)));
    }
}
