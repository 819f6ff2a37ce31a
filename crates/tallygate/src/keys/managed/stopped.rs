//! A key made in the data folder of a server that is stopped: the first one, with which the others are made.

use std::path::Path;
use std::time::SystemTime;

use serde_json::{Value, json};
use tallygate_core::{Span, Time};
use tallygate_server::Config;
use tallygate_server::identify::{GrantError, read_grant};
use tallygate_server::wire::rfc3339;
use tallygate_store::folder::{DataFolder, Purpose};
use tallygate_store::registry::{
    Author, Change, ChangeError, FolderRegistry, Keeper, LOCAL, Records, Refusal, Registry, Right,
    Stamp,
};

use super::super::new_key;
use super::Create;
use crate::exit::{Exit, Failure};
use crate::settings::Settings;

/// Makes the key, while nobody else has the folder.
pub(super) async fn create(folder: &Path, args: &Create) -> Result<Value, Failure> {
    let unusable = |error: &dyn std::fmt::Display| Failure::new(Exit::Store, error);
    let folder = DataFolder::open(folder, Purpose::Own).map_err(|error| unusable(&error))?;
    let registry = FolderRegistry::open(folder).map_err(|error| unusable(&error))?;
    let config = args.whom.config.as_deref().map(configured).transpose()?;
    if let Some(config) = &config {
        check(args, config)?;
    }
    let (key, hash) = new_key()?;
    let now = now();
    let elsewhere = config.map_or(Keeper::Nobody, |config| config.keyring().keeper(now));
    let records = registry.load().await.map_err(|error| unusable(&error))?;
    let author = Author {
        by: LOCAL.to_owned(),
        from: LOCAL.to_owned(),
        at: now,
        right: right(&records, elsewhere),
        elsewhere,
    };
    let asked = args.body().to_string();
    let grant = read_grant(asked.as_bytes(), (now, hash)).map_err(refused)?;
    let change = Change::CreateKey(grant);
    let records = registry.change(change, &author).await;
    let records = records.map_err(|error| match error {
        ChangeError::Refused(refusal @ Refusal::First(_)) => {
            Failure::new(Exit::Input, refusal).mend(FIRST)
        }
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
    if let Some(warning) = warning(records.keeper(now).max(elsewhere)) {
        made["warnings"] = json!([warning]);
    }
    Ok(made)
}

const FIRST: &str = "from then on every caller needs a key: make one with --role admin and without --expires first, or name the \
                     configuration, if it has a key with that role, by --config FILE";

fn configured(file: &Path) -> Result<Config, Failure> {
    Settings::read(file)?.config()
}

/// The first key of all has the bounds that it has at a running server: nobody could make another one.
fn right(records: &Records, elsewhere: Keeper) -> Right {
    match (records.keys().next(), elsewhere) {
        (None, Keeper::Nobody) => Right::Keyless,
        _ => Right::Elsewhere,
    }
}

/// Whether the key goes with the configuration.
fn check(args: &Create, config: &Config) -> Result<(), Failure> {
    if config.has_key(&args.id) {
        let message = format!("the key id `{}` is taken by the configuration", args.id);
        return Err(Failure::new(Exit::Input, message)
            .mend("choose another id, or remove the key from the configuration"));
    }
    match &args.tier {
        Some(tier) if !config.may_be_tier(tier) => {
            let names: Vec<&str> = config.tier_names().collect();
            let message = format!("the tier `{tier}` is not under `tiers`");
            Err(Failure::new(Exit::Input, message).mend(format!("there are: {}", names.join(", "))))
        }
        _ => Ok(()),
    }
}

fn refused(error: GrantError) -> Failure {
    let failure = Failure::new(Exit::Input, &error);
    match error.mend {
        Some(mend) => failure.mend(mend),
        None => failure,
    }
}

/// What is to be known of who may administer, as far as the folder tells, and the configuration if it was named.
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
