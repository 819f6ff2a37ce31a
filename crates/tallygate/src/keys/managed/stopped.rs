//! A key made in the data folder of a server that is stopped: the first one, with which the others are made.

use std::path::Path;
use std::time::SystemTime;

use serde_json::{Value, json};
use tallygate_core::{Span, Time};
use tallygate_server::identify::{GrantError, read_grant};
use tallygate_server::wire::rfc3339;
use tallygate_store::folder::{DataFolder, Purpose};
use tallygate_store::registry::{
    Author, Change, ChangeError, FolderRegistry, Keeper, LOCAL, Registry, Right, Stamp,
};

use super::super::new_key;
use super::Create;
use crate::exit::{Exit, Failure};

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
        right: Right::Elsewhere,
        elsewhere: Keeper::Nobody,
    };
    let asked = args.body().to_string();
    let grant = read_grant(asked.as_bytes(), (now, hash)).map_err(refused)?;
    let change = Change::CreateKey(grant);
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
    if let Some(warning) = warning(records.keeper(now)) {
        made["warnings"] = json!([warning]);
    }
    Ok(made)
}

fn refused(error: GrantError) -> Failure {
    let failure = Failure::new(Exit::Input, &error);
    match error.mend {
        Some(mend) => failure.mend(mend),
        None => failure,
    }
}

/// What is to be known of who may administer, as far as the folder tells.
fn warning(keeper: Keeper) -> Option<&'static str> {
    match keeper {
        Keeper::Nobody => Some(
            "no key in this folder has the role `admin`: unless the configuration has one, make one with --role admin",
        ),
        Keeper::Ending => Some(
            "every key in this folder with the role `admin` ends by itself: unless the configuration has one that does not, make one without --expires",
        ),
        Keeper::Lasting => None,
    }
}

fn now() -> Stamp {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    Time::ZERO
        .plus(Span::from(since.unwrap_or_default()))
        .into()
}
