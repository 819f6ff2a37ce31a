//! One keyring of the configuration's keys and the registry's.

use tallygate_store::registry::KeyRecord;

use crate::config::Config;
use crate::identify::{Downgrade, End, Identity, KeyHash, Keyring, Pass, Role, Roles};

/// All keys. An id stands in one place only; where it stands in both all the same, the configuration's is good.
pub(crate) fn keyring<'a>(config: &Config, keys: impl Iterator<Item = &'a KeyRecord>) -> Keyring {
    let mut any = false;
    let own = keys
        .inspect(|_| any = true)
        .filter(|key| !config.has_key(&key.id));
    let keyring = config.keyring().clone().with(own.flat_map(passes));
    // A record that cannot be read was a key once: nobody is let in for the damage.
    match any {
        true => keyring.closed(),
        false => keyring,
    }
}

/// The key of a record, and the one before it while that is good.
fn passes(key: &KeyRecord) -> impl Iterator<Item = Pass> {
    let end = match (key.revoked, key.expires) {
        (Some(_), _) => End::Revoked,
        (None, Some(end)) => End::At(end),
        (None, None) => End::Never,
    };
    let former = key.former.as_ref().map(|former| {
        let until = key
            .expires
            .map_or(former.until, |end| end.min(former.until));
        (&former.hash, End::At(until))
    });
    let hashes = std::iter::once((&key.hash, end)).chain(former);
    let passes = hashes.filter_map(|(hash, end)| {
        // A hash that cannot be read is that of no key.
        let hash = hash.parse::<KeyHash>().ok()?;
        Some(Pass::new(hash, identity(key), end))
    });
    passes.collect::<Vec<_>>().into_iter()
}

fn identity(key: &KeyRecord) -> Identity {
    let labels = key.subject.iter();
    let labels = labels.map(|(label, value)| (label.clone(), value.clone()));
    // A role that a newer version knows is none here.
    let known = Role::WORDS.into_iter();
    let roles: Vec<Role> = known
        .filter(|(word, _)| key.roles.iter().any(|role| role == word))
        .map(|(_, role)| role)
        .collect();
    let downgrade = key.downgrade.as_deref().map_or(Downgrade::Allow, |said| {
        let mut known = Downgrade::WORDS.into_iter();
        let found = known.find(|(word, _)| *word == said);
        found.map_or(Downgrade::Never, |(_, downgrade)| downgrade)
    });
    Identity::of_key(&key.id, labels.collect(), Roles::of(&roles)).with_downgrade(downgrade)
}

#[cfg(test)]
mod tests {
    use tallygate_store::registry::KeyRecord;

    use super::keyring;
    use crate::Config;

    #[test]
    fn a_record_whose_hash_is_damaged_lets_in_nobody_else() {
        let config = Config::parse("limits: []", "keys.yaml", &|_| None).expect("a good file");
        assert!(keyring(&config, std::iter::empty()).is_open());
        let damaged = r#"{ "id": "root", "hash": "sha256:Zz", "roles": ["admin"], "created": 0, "by": "local" }"#;
        let record: KeyRecord = serde_json::from_str(damaged).expect("a record");
        assert!(!keyring(&config, std::iter::once(&record)).is_open());
    }
}
