//! Who may make a change: held against the records that the change is made to, not those that its author once saw.
//!
//! Two administrators who revoke each other's key at once do so one after the other, and the second has no right any more. Somebody
//! must stay who may administer, and not only for a while: a last key that ends by itself would lock everybody out one day.
use super::audit::{Author, Right};
use super::change::{Grant, Refusal};
use super::records::{KeyRecord, KeyState, Records};
use super::stamp::Stamp;

/// The role that lets administer.
pub const ADMIN: &str = "admin";

/// What the audit log says in place of a key's id, of whoever changes something without one.
pub const NOBODY: &str = "anonymous";

/// What it says of whoever sits at the machine.
pub const LOCAL: &str = "local";

/// Who may administer, as far as one place knows. The later the better.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum Keeper {
    /// Nobody.
    #[default]
    Nobody,
    /// Somebody, for a while.
    Ending,
    /// Somebody, without an end.
    Lasting,
}

impl Records {
    /// Whether `author` may change anything.
    pub(super) fn check_right(&self, author: &Author) -> Result<(), Refusal> {
        match &author.right {
            Right::Elsewhere => Ok(()),
            Right::Keyless if self.keys.is_empty() => Ok(()),
            Right::Keyless => Err(Refusal::Closed),
            Right::Key(hash) => {
                let key = self.keys.get(&author.by);
                let opens = key.is_some_and(|key| key.is_admin() && key.opens(hash, author.at));
                let gone = || Refusal::NoAdmin(author.by.clone());
                opens.then_some(()).ok_or_else(gone)
            }
        }
    }

    /// The first key closes every door: it must open them again, at any time.
    pub(super) fn check_first(&self, grant: &Grant, author: &Author) -> Result<(), Refusal> {
        if author.right != Right::Keyless {
            return Ok(());
        }
        match (grant.roles.iter().any(|role| role == ADMIN), grant.expires) {
            (false, _) => Err(Refusal::First("must have the role `admin`")),
            (true, Some(_)) => Err(Refusal::First("must not end by itself")),
            (true, None) => Ok(()),
        }
    }

    /// Without the key `id` there must be a keeper as good as with it.
    pub(super) fn check_kept(&self, id: &str, author: &Author) -> Result<(), Refusal> {
        let with = self.keeper(author.at).max(author.elsewhere);
        let others = self.keeper_among(author.at, |key| key.id != id);
        match others.max(author.elsewhere) < with {
            true => Err(Refusal::LastAdmin(id.to_owned())),
            false => Ok(()),
        }
    }

    /// With the key `id` for a while only there must be a keeper as good as before.
    pub(super) fn check_lasting(&self, id: &str, author: &Author) -> Result<(), Refusal> {
        let with = self.keeper(author.at).max(author.elsewhere);
        let others = self.keeper_among(author.at, |key| key.id != id);
        let left = others.max(author.elsewhere).max(Keeper::Ending);
        match left < with {
            true => Err(Refusal::LastAdmin(id.to_owned())),
            false => Ok(()),
        }
    }

    /// Who may administer by these keys at `now`.
    #[must_use]
    pub fn keeper(&self, now: Stamp) -> Keeper {
        self.keeper_among(now, |_| true)
    }

    fn keeper_among(&self, now: Stamp, counts: impl Fn(&KeyRecord) -> bool) -> Keeper {
        let live = |key: &&KeyRecord| key.is_admin() && key.state(now) == KeyState::Live;
        let keys = self.keys.values().filter(live).filter(|key| counts(key));
        let keepers = keys.map(|key| match key.expires {
            Some(_) => Keeper::Ending,
            None => Keeper::Lasting,
        });
        keepers.max().unwrap_or_default()
    }
}

impl KeyRecord {
    fn is_admin(&self) -> bool {
        self.roles.iter().any(|role| role == ADMIN)
    }

    /// Whether the key with this hash lets in at `now`: the key itself, or the one before it in its grace.
    fn opens(&self, hash: &str, now: Stamp) -> bool {
        let former = self.former.as_ref();
        let in_grace = former.is_some_and(|former| former.hash == hash && former.until > now);
        self.state(now) == KeyState::Live && (self.hash == hash || in_grace)
    }
}
