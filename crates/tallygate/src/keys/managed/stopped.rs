//! The keys in a data folder: those of a server that is stopped. The first one is made there, with which the others are.

use std::fmt::Display;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use serde_json::{Value, json};
use tallygate_core::{Span, Time};
use tallygate_server::Config;
use tallygate_server::identify::{GrantError, key_shown, read_end, read_grant, untiered};
use tallygate_server::wire::stamp_rfc3339;
use tallygate_store::folder::{DataFolder, Purpose};
use tallygate_store::registry::{
    Author, Change, ChangeError, FolderRegistry, Grant, Keeper, LOCAL, Records, Refusal, Registry,
    Right, Stamp,
};

use super::super::new_key;
use super::Create;
use crate::exit::{Exit, Failure};
use crate::remote::Whom;
use crate::settings::Settings;

/// All keys of a folder, as a running server lists them; it may be in use.
pub(super) fn list(folder: &Path, whom: &Whom) -> Result<Value, Failure> {
    let folder = DataFolder::open(folder, Purpose::Read).map_err(|error| unusable(&error))?;
    let records = FolderRegistry::peek(&folder).map_err(|error| unusable(&error))?;
    let config = whom.config.as_deref().map(configured).transpose()?;
    let of_file: Vec<&str> = config.iter().flat_map(Config::key_ids).collect();
    let now = now();
    let keys: Vec<Value> = records.keys().map(|key| key_shown(key, now)).collect();
    Ok(json!({ "keys": keys, "of_configuration": of_file }))
}

/// The keys of a folder that nobody else has.
pub(super) struct Stopped {
    registry: Arc<FolderRegistry>,
    config: Option<Config>,
    records: Arc<Records>,
    now: Stamp,
}

impl Stopped {
    pub(super) async fn open(folder: &Path, whom: &Whom) -> Result<Self, Failure> {
        // Before the folder, which is made where it is missing.
        let config = whom.config.as_deref().map(configured).transpose()?;
        if let Some(config) = &config {
            keeps_in_folders(config)?;
        }
        let folder = DataFolder::open(folder, Purpose::Own).map_err(|error| unusable(&error))?;
        let registry = FolderRegistry::open(folder).map_err(|error| unusable(&error))?;
        let records = registry.load().await.map_err(|error| unusable(&error))?;
        Ok(Self {
            registry,
            config,
            records,
            now: now(),
        })
    }

    /// One that is there already.
    pub(super) async fn existing(folder: &Path, whom: &Whom) -> Result<Self, Failure> {
        // To own one makes it where it is missing.
        drop(DataFolder::open(folder, Purpose::Read).map_err(|error| unusable(&error))?);
        Self::open(folder, whom).await
    }

    /// Makes a key.
    pub(super) async fn create(&self, args: &Create) -> Result<Value, Failure> {
        let (key, hash) = new_key()?;
        let asked = args.body().to_string();
        let grant = read_grant(asked.as_bytes(), (self.now, hash)).map_err(refused)?;
        let no_tier = match &self.config {
            Some(config) => {
                check(&grant, config)?;
                untiered(&grant, config)
            }
            None => None,
        };
        let records = self.change(Change::CreateKey(grant)).await?;
        let end = records.key(&args.id).and_then(|key| key.expires);
        let mut made = json!({
            "id": args.id,
            "key": key,
            "roles": args.roles,
            "subject": args.subject(),
            "expires": end.map(stamp_rfc3339),
        });
        let keeper = records.keeper(self.now).max(self.elsewhere());
        let warnings: Vec<String> = warning(keeper)
            .map(str::to_owned)
            .into_iter()
            .chain(no_tier)
            .collect();
        if !warnings.is_empty() {
            made["warnings"] = warnings.into();
        }
        Ok(made)
    }

    /// Gives a key the end that `body` asks for, as the API has it.
    pub(super) async fn expire(&self, id: &str, body: &str) -> Result<Value, Failure> {
        let end = read_end(body.as_bytes(), self.now).map_err(refused)?;
        let id = self.own(id)?;
        self.changed(Change::ExpireKey { id, end }).await
    }

    /// Puts another key in the place of one, and tells it.
    pub(super) async fn rotate(&self, id: &str, grace: Option<Duration>) -> Result<Value, Failure> {
        let (key, hash) = new_key()?;
        let change = Change::RotateKey {
            id: self.own(id)?,
            hash,
            grace: grace.map(|grace| self.now.plus(grace)),
        };
        let mut made = self.changed(change).await?;
        made["key"] = key.into();
        Ok(made)
    }

    /// Lets nobody in by a key any more.
    pub(super) async fn revoke(&self, id: &str) -> Result<Value, Failure> {
        let id = self.own(id)?;
        self.changed(Change::RevokeKey { id }).await
    }

    /// An id that is not the configuration's.
    fn own(&self, id: &str) -> Result<String, Failure> {
        match &self.config {
            Some(config) if config.has_key(id) => {
                let message = format!("the key `{id}` stands in the configuration");
                Err(Failure::new(Exit::Input, message).mend("change it there"))
            }
            _ => Ok(id.to_owned()),
        }
    }

    /// Makes a change of one key, and shows that.
    async fn changed(&self, change: Change) -> Result<Value, Failure> {
        let id = match &change {
            Change::ExpireKey { id, .. }
            | Change::RotateKey { id, .. }
            | Change::RevokeKey { id } => id.clone(),
            _ => String::new(),
        };
        let records = self.change(change).await?;
        let key = records.key(&id).map(|key| key_shown(key, self.now));
        Ok(key.unwrap_or_default())
    }

    async fn change(&self, change: Change) -> Result<Arc<Records>, Failure> {
        let elsewhere = self.elsewhere();
        let author = Author {
            by: LOCAL.to_owned(),
            from: LOCAL.to_owned(),
            at: self.now,
            right: right(&self.records, elsewhere),
            elsewhere,
        };
        let changed = self.registry.change(change, &author).await;
        changed.map_err(|error| match error {
            ChangeError::Refused(refusal) => {
                let mend = mend(&refusal);
                let failure = Failure::new(Exit::Input, refusal);
                match mend {
                    Some(mend) => failure.mend(mend),
                    None => failure,
                }
            }
            error => unusable(&error),
        })
    }

    /// Who may administer by the configuration.
    fn elsewhere(&self) -> Keeper {
        let config = self.config.as_ref();
        config.map_or(Keeper::Nobody, |config| config.keyring().keeper(self.now))
    }
}

fn unusable(error: &dyn Display) -> Failure {
    Failure::new(Exit::Store, error)
}

fn mend(refusal: &Refusal) -> Option<&'static str> {
    match refusal {
        Refusal::First(_) => Some(FIRST),
        Refusal::LastAdmin(_) => Some(LAST),
        Refusal::NoKey(_) => {
            Some("`tallygate keys list` with the same folder shows those there are")
        }
        _ => None,
    }
}

const LAST: &str = "make another one without an end first, or name the configuration, if it has one, by --config FILE";

const FIRST: &str = "from then on every caller needs a key: make one with --role admin and without --expires first, or name the \
                     configuration, if it has a key with that role, by --config FILE";

fn configured(file: &Path) -> Result<Config, Failure> {
    Settings::read(file)?.config()
}

/// A server that counts elsewhere keeps its keys there, and its `data` folder has none.
fn keeps_in_folders(config: &Config) -> Result<(), Failure> {
    if !config.store().is_elsewhere() {
        return Ok(());
    }
    let message = format!(
        "the keys of this configuration are kept on {}",
        config.store()
    );
    Err(Failure::new(Exit::Usage, message)
        .mend("start the server and ask it, without --data; or leave --config out"))
}

/// The first key of all has the bounds that it has at a running server: nobody could make another one.
fn right(records: &Records, elsewhere: Keeper) -> Right {
    match (records.keys().next(), elsewhere) {
        (None, Keeper::Nobody) => Right::Keyless,
        _ => Right::Elsewhere,
    }
}

/// Whether the key goes with the configuration.
fn check(grant: &Grant, config: &Config) -> Result<(), Failure> {
    if config.has_key(&grant.id) {
        let message = format!("the key id `{}` is taken by the configuration", grant.id);
        return Err(Failure::new(Exit::Input, message)
            .mend("choose another id, or remove the key from the configuration"));
    }
    match grant.subject.get("tier") {
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
