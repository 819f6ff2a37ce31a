//! How a webhook's receiver knows who sent it: the scheme of Standard Webhooks (standardwebhooks.com, version 1), which many
//! libraries verify. Signed are the event's id, the time of sending and the body, so that none can be changed or sent again later.

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

/// What a shared secret of the scheme begins with; the rest is Base64.
const PREFIX: &str = "whsec_";

/// The fewest bytes of a key.
const LEAST: usize = 16;

/// What events are signed with. It is never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct SigningKey(Vec<u8>);

/// Why a secret is no key. It does not repeat it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SigningKeyError {
    /// It says that it is Base64, and is not.
    #[error("begins with `whsec_`, and what follows is no Base64")]
    Coded,
    /// It is easily guessed.
    #[error("has fewer than 16 characters")]
    Short,
}

impl SigningKey {
    /// The key that a secret stands for: Base64 behind `whsec_`, else the bytes of the text itself.
    ///
    /// # Errors
    /// [`SigningKeyError`].
    pub fn read(secret: &str) -> Result<Self, SigningKeyError> {
        let key = match secret.strip_prefix(PREFIX) {
            Some(coded) => STANDARD
                .decode(coded)
                .or_else(|_| STANDARD_NO_PAD.decode(coded))
                .map_err(|_| SigningKeyError::Coded)?,
            None => secret.as_bytes().to_vec(),
        };
        match key.len() < LEAST {
            true => Err(SigningKeyError::Short),
            false => Ok(Self(key)),
        }
    }

    /// The value of the header `webhook-signature`: `v1,` and the Base64 of an HMAC-SHA256 over `id.timestamp.body`.
    pub(super) fn sign(&self, id: &str, timestamp: i64, body: &[u8]) -> String {
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.0)
            .expect("invariant: HMAC takes keys of any length");
        mac.update(format!("{id}.{timestamp}.").as_bytes());
        mac.update(body);
        format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes()))
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("***")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of the scheme's specification.
    #[test]
    fn as_specified() {
        let key = SigningKey::read("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").expect("a key");
        let body = br#"{"test": 2432232314}"#;
        let signed = key.sign("msg_p5jXN8AQM9LWM0D4loKWxJek", 1_614_265_330, body);
        assert_eq!(signed, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
    }

    #[test]
    fn a_plain_text_is_a_secret_too() {
        let sign = |secret: &str, body: &[u8]| {
            let key = SigningKey::read(secret).expect("a key");
            key.sign("a", 1, body)
        };
        let (one, two) = ("the first of two", "the second of two");
        assert_ne!(sign(one, b"x"), sign(two, b"x"));
        assert_ne!(sign(one, b"x"), sign(one, b"y"));
        assert_eq!(sign(one, b"x"), sign(one, b"x"));
    }

    #[test]
    fn what_says_it_is_base64_is_never_taken_as_text() {
        let coded = Err(SigningKeyError::Coded);
        for secret in [
            "whsec_not base64, but long",
            "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaS!",
            "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw=",
        ] {
            assert_eq!(SigningKey::read(secret), coded, "{secret}");
        }
        let short = Err(SigningKeyError::Short);
        for secret in ["", "whsec_", "fifteen chars..", "whsec_MfKQ9r8GKYqrTwjU"] {
            assert_eq!(SigningKey::read(secret), short, "{secret}");
        }
        assert!(
            SigningKey::read("whsec_MfKQ9r8GKYqrTwjUPD8ILA").is_ok(),
            "without its padding"
        );
        assert_eq!(
            format!("{:?}", SigningKey::read("sixteen letters!")),
            "Ok(***)"
        );
    }
}
