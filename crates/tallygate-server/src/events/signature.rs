//! How a webhook's receiver knows who sent it: the scheme of Standard Webhooks (standardwebhooks.com, version 1), which many
//! libraries verify. Signed are the event's id, the time of sending and the body, so that none can be changed or sent again later.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

use crate::config::Secret;

/// What a shared secret of the scheme begins with; the rest is Base64.
const PREFIX: &str = "whsec_";

/// The value of the header `webhook-signature`: `v1,` and the Base64 of an HMAC-SHA256 over `id.timestamp.body`.
pub(super) fn signature(secret: &Secret, id: &str, timestamp: i64, body: &[u8]) -> String {
    let key = key(secret.reveal());
    let mut mac =
        Hmac::<Sha256>::new_from_slice(&key).expect("invariant: HMAC takes keys of any length");
    mac.update(format!("{id}.{timestamp}.").as_bytes());
    mac.update(body);
    format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes()))
}

/// The bytes that a secret stands for: Base64 behind `whsec_`, else the text itself.
fn key(secret: &str) -> Vec<u8> {
    let coded = secret.strip_prefix(PREFIX);
    let decoded = coded.and_then(|coded| STANDARD.decode(coded).ok());
    decoded.unwrap_or_else(|| secret.as_bytes().to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of the scheme's specification.
    #[test]
    fn as_specified() {
        let secret = Secret::new("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw");
        let body = br#"{"test": 2432232314}"#;
        let signed = signature(&secret, "msg_p5jXN8AQM9LWM0D4loKWxJek", 1_614_265_330, body);
        assert_eq!(signed, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
    }

    #[test]
    fn a_plain_text_is_a_secret_too() {
        let sign = |secret: &str, body: &[u8]| signature(&Secret::new(secret), "a", 1, body);
        assert_ne!(sign("one", b"x"), sign("two", b"x"));
        assert_ne!(sign("one", b"x"), sign("one", b"y"));
        assert_eq!(sign("one", b"x"), sign("one", b"x"));
    }
}
