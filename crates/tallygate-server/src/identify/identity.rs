//! A caller that was let in.

use tallygate_store::registry::ADMIN;

use super::{KEY_LABEL, KeyHash};

/// What a key may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Call models through the gateway.
    Call,
    /// Use the decision API.
    Decide,
    /// Use the admin API.
    Admin,
}

impl Role {
    /// All roles with their words in a configuration.
    pub const WORDS: [(&'static str, Self); 3] = [
        ("call", Self::Call),
        ("decide", Self::Decide),
        (ADMIN, Self::Admin),
    ];

    /// The word in a configuration.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Call => "call",
            Self::Decide => "decide",
            Self::Admin => ADMIN,
        }
    }
}

/// A set of [`Role`]s.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Roles(u8);

impl Roles {
    /// These roles and no others.
    #[must_use]
    pub fn of(roles: &[Role]) -> Self {
        Self(roles.iter().fold(0, |bits, role| bits | Self::bit(*role)))
    }

    /// Whether `role` is among them.
    #[must_use]
    pub fn contains(self, role: Role) -> bool {
        self.0 & Self::bit(role) != 0
    }

    const fn bit(role: Role) -> u8 {
        match role {
            Role::Call => 1,
            Role::Decide => 2,
            Role::Admin => 4,
        }
    }
}

impl Default for Roles {
    /// `call` and `decide`.
    fn default() -> Self {
        Self::of(&[Role::Call, Role::Decide])
    }
}

/// Whether a caller takes a cheaper model for the one it asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Downgrade {
    /// Where its tier has a ladder.
    #[default]
    Allow,
    /// It would rather be refused.
    Never,
}

impl Downgrade {
    /// Both with their words in a configuration and in a header.
    pub const WORDS: [(&'static str, Self); 2] = [("allow", Self::Allow), ("never", Self::Never)];
}

/// A caller that was let in: its labels, its key's id and what it may do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    labels: Vec<(String, String)>,
    key_id: Option<String>,
    hash: Option<KeyHash>,
    roles: Roles,
    downgrade: Downgrade,
}

impl Identity {
    /// The owner of the key `key_id`; the label `key` is added to its labels.
    #[must_use]
    pub fn of_key(key_id: &str, labels: Vec<(String, String)>, roles: Roles) -> Self {
        let mut labels = labels;
        labels.push((KEY_LABEL.to_owned(), key_id.to_owned()));
        Self {
            labels,
            key_id: Some(key_id.to_owned()),
            hash: None,
            roles,
            downgrade: Downgrade::default(),
        }
    }

    /// The same, with what its key says of cheaper models.
    #[must_use]
    pub fn with_downgrade(self, downgrade: Downgrade) -> Self {
        Self { downgrade, ..self }
    }

    /// Somebody without a key.
    #[must_use]
    pub fn anonymous() -> Self {
        Self {
            labels: Vec::new(),
            key_id: None,
            hash: None,
            roles: Roles::default(),
            downgrade: Downgrade::default(),
        }
    }

    /// The same caller with more labels.
    pub(super) fn with_labels(&self, more: Vec<(String, String)>) -> Self {
        let mut labels = self.labels.clone();
        labels.extend(more);
        Self {
            labels,
            key_id: self.key_id.clone(),
            hash: self.hash,
            roles: self.roles,
            downgrade: self.downgrade,
        }
    }

    /// The same caller, known by the hash of its key.
    pub(super) fn with_hash(mut self, hash: KeyHash) -> Self {
        self.hash = Some(hash);
        self
    }

    /// The hash of the key that was shown.
    pub(crate) fn hash(&self) -> Option<&KeyHash> {
        self.hash.as_ref()
    }

    /// The subject's labels: tenant, user, tier, key and whatever else its key names.
    #[must_use]
    pub fn labels(&self) -> &[(String, String)] {
        &self.labels
    }

    /// The value of one label.
    #[must_use]
    pub fn label(&self, name: &str) -> Option<&str> {
        self.labels
            .iter()
            .find(|(label, _)| label == name)
            .map(|(_, value)| value.as_str())
    }

    /// The id of the key that was shown.
    #[must_use]
    pub fn key_id(&self) -> Option<&str> {
        self.key_id.as_deref()
    }

    /// Whether it takes a cheaper model for the one it asked for.
    #[must_use]
    pub fn downgrade(&self) -> Downgrade {
        self.downgrade
    }

    /// Whether it has `role`.
    #[must_use]
    pub fn may(&self, role: Role) -> bool {
        self.roles.contains(role)
    }
}
