//! A key's making and its hash.

use std::fmt;
use std::str::FromStr;

use sha2::{Digest, Sha256};

/// What every key made here starts with, so that a leaked one is recognised.
pub const KEY_PREFIX: &str = "tg-";

/// Makes a new key: `tg-` and 256 random bits of the operating system in 43 characters of base 62.
///
/// # Errors
/// When the operating system has no randomness to give.
pub fn generate() -> Result<String, getrandom::Error> {
    let mut bits = [0_u8; 32];
    getrandom::fill(&mut bits)?;
    Ok(format!("{KEY_PREFIX}{}", base62(bits)))
}

const DIGITS: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
/// 62^43 is the first power of 62 above 2^256.
const LENGTH: usize = 43;

/// The number written in base 62, always [`LENGTH`] characters: schoolbook division, the last digit first.
fn base62(mut number: [u8; 32]) -> String {
    let mut digits = [b'0'; LENGTH];
    for digit in digits.iter_mut().rev() {
        let mut remainder = 0_u16;
        for byte in &mut number {
            let value = (remainder << 8) | u16::from(*byte);
            *byte = (value / 62).to_le_bytes()[0];
            remainder = value % 62;
        }
        *digit = DIGITS.get(usize::from(remainder)).copied().unwrap_or(b'0');
    }
    digits.iter().copied().map(char::from).collect()
}

/// The SHA-256 of a whole key, written `sha256:` and 64 lower-case hex digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct KeyHash([u8; 32]);

impl KeyHash {
    /// The hash of `key`.
    #[must_use]
    pub fn of(key: &[u8]) -> Self {
        Self(Sha256::digest(key).into())
    }

    /// The 32 bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    pub(super) fn prefix(&self) -> u64 {
        let [a, b, c, d, e, f, g, h, ..] = self.0;
        u64::from_be_bytes([a, b, c, d, e, f, g, h])
    }
}

impl fmt::Display for KeyHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sha256:{}", hex::encode(self.0))
    }
}

impl fmt::Debug for KeyHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

/// Why a text is not a key's hash.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum KeyHashError {
    /// It does not start with `sha256:`.
    #[error("does not start with `sha256:`")]
    Prefix,
    /// Behind the prefix are not 64 lower-case hex digits.
    #[error("has {0} characters behind `sha256:`, not 64 lower-case hex digits")]
    Length(usize),
    /// Upper-case or other characters.
    #[error("has characters other than 0-9 and a-f behind `sha256:`")]
    Digits,
}

impl FromStr for KeyHash {
    type Err = KeyHashError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let digits = text.strip_prefix("sha256:").ok_or(KeyHashError::Prefix)?;
        if digits.chars().count() != 64 {
            return Err(KeyHashError::Length(digits.chars().count()));
        }
        if !digits
            .bytes()
            .all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
        {
            return Err(KeyHashError::Digits);
        }
        let mut bytes = [0_u8; 32];
        hex::decode_to_slice(digits, &mut bytes).map_err(|_| KeyHashError::Digits)?;
        Ok(Self(bytes))
    }
}

#[cfg(test)]
mod tests {
    use super::{KeyHash, KeyHashError, base62, generate};

    #[test]
    fn keys_are_new_each_time_and_hash_as_sha256_does() {
        let (one, other) = (
            generate().expect("randomness"),
            generate().expect("randomness"),
        );
        assert_ne!(one, other);
        assert_eq!(one.len(), 46);
        assert_eq!(
            KeyHash::of(b"abc").to_string(),
            "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
        );
    }

    #[test]
    fn base62_writes_the_whole_number() {
        assert!(base62([0; 32]).bytes().all(|b| b == b'0'));
        let mut one_more_than_61 = [0; 32];
        one_more_than_61[31] = 62;
        assert!(base62(one_more_than_61).ends_with("010"));
        // 2^256 - 1 in base 62, by bc.
        assert_eq!(
            base62([0xff; 32]),
            "yhjskwdA6OZ1AL1YmHWZWm8LLG7HjnuCA2j5rOw8Xp1"
        );
    }

    #[test]
    fn a_hash_reads_back_and_says_what_is_wrong() {
        let hash = KeyHash::of(b"key");
        assert_eq!(hash.to_string().parse(), Ok(hash));
        assert_eq!("md5:00".parse::<KeyHash>(), Err(KeyHashError::Prefix));
        assert_eq!("sha256:00".parse::<KeyHash>(), Err(KeyHashError::Length(2)));
        assert_eq!(
            format!("sha256:{}", "A".repeat(64)).parse::<KeyHash>(),
            Err(KeyHashError::Digits)
        );
    }
}
