//! A key made in the data folder of a server that is stopped: the first one, with which the others are made.

use std::path::Path;
use std::time::SystemTime;

use serde_json::{Value, json};
use tallygate_core::{Span, Time};
use tallygate_server::identify::Role;
use tallygate_server::wire::{read_stamp, rfc3339};
use tallygate_store::folder::{DataFolder, Purpose};
use tallygate_store::registry::{
    Author, Change, ChangeError, FolderRegistry, Grant, KeyState, Records, Registry, Stamp,
};

use super::super::new_key;
use super::Create;
use crate::exit::{Exit, Failure};
use crate::length::Until;

/// What stands for who sits at the machine, in place of the id of a key and of an address.
const LOCAL: &str = "local";

/// Makes the key, while nobody else has the folder.
pub(super) async fn create(folder: &Path, args: &Create) -> Result<Value, Failure> {
    let unusable = |error: &dyn std::fmt::Display| Failure::new(Exit::Store, error);
    let folder = DataFolder::open(folder, Purpose::Own).map_err(|error| unusable(&error))?;
    let registry = FolderRegistry::open(folder).map_err(|error| unusable(&error))?;
    let (key, hash) = new_key()?;
    let now = now();
    let author = Author {
        by: LOCAL.to_owned(),
        from: LOCAL.to_owned(),
        at: now,
    };
    let change = Change::CreateKey(grant(args, hash, now));
    let records = registry.change(change, &author).await;
    let records = records.map_err(|error| match error {
        ChangeError::Refused(refusal) => Failure::new(Exit::Input, refusal),
        error => unusable(&error),
    })?;
    let mut made = json!({
        "id": args.id,
        "key": key,
        "roles": args.roles,
        "subject": args.subject(),
        "expires": records.key(&args.id).and_then(|key| key.expires).map(|end| rfc3339(end.into())),
    });
    if !has_admin(&records, now) {
        made["warnings"] = json!([
            "no key in this folder has the role `admin`: unless the configuration has one, make one with --role admin"
        ]);
    }
    Ok(made)
}

fn grant(args: &Create, hash: String, now: Stamp) -> Grant {
    let subject = args.subject().into_iter();
    Grant {
        id: args.id.clone(),
        hash,
        subject: subject
            .filter_map(|(label, value)| Some((label, value.as_str()?.to_owned())))
            .collect(),
        roles: args.roles.clone(),
        downgrade: args.downgrade.clone().filter(|word| word != "allow"),
        expires: match &args.expires {
            Some(Until::Instant(text)) => read_stamp(text),
            Some(Until::Length(length)) => Some(now.plus(*length)),
            None => None,
        },
    }
}

fn has_admin(records: &Records, now: Stamp) -> bool {
    let admin = |role: &String| role == Role::Admin.word();
    records
        .keys()
        .any(|key| key.state(now) == KeyState::Live && key.roles.iter().any(admin))
}

fn now() -> Stamp {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    Time::ZERO
        .plus(Span::from(since.unwrap_or_default()))
        .into()
}
