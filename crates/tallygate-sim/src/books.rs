//! What the provider admitted, refused and served.

use std::hash::Hasher;
use std::time::Duration;

use serde::{Serialize, Serializer};
use siphasher::sip::SipHasher13;

use crate::limit::MockMetric;
use crate::timeline::Use;

/// A fingerprint of an API key. Books hold it in place of the key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct KeyPrint(u64);

impl KeyPrint {
    /// The fingerprint of `key`.
    pub fn of(key: &str) -> Self {
        let mut hasher = SipHasher13::new_with_keys(0x7461_6c6c_7967_6174, 0x6d6f_636b);
        hasher.write(key.as_bytes());
        Self(hasher.finish())
    }

    pub(crate) fn bits(self) -> u64 {
        self.0
    }
}

impl std::fmt::Display for KeyPrint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl Serialize for KeyPrint {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// A copy of the books at one instant.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Books {
    /// One account for each API key and model, in the order of their first call.
    pub accounts: Vec<Account>,
    /// Calls that no limit counts: `count_tokens` and the lists of models.
    pub unlimited: u64,
    /// Calls turned away before they reached an account: no or unknown key (401), unknown path
    /// (404, 405), a body that is malformed (400), too large (413) or broken off.
    pub strays: u64,
}

impl Books {
    /// The sum over all accounts.
    pub fn totals(&self) -> Counts {
        self.accounts
            .iter()
            .fold(Counts::default(), |sum, account| sum.plus(&account.counts))
    }

    /// The account of this key and model.
    pub fn account(&self, key: &str, model: &str) -> Option<&Account> {
        let key = KeyPrint::of(key);
        self.accounts
            .iter()
            .find(|account| account.key == key && account.model == model)
    }

    /// The most of `metric` that any one account really used in a span of `window`, each call
    /// counted whole at its admission. `None`: the window is not watched.
    pub fn worst(&self, window: Duration, metric: MockMetric) -> Option<u64> {
        let spans = self.accounts.iter().flat_map(|account| &account.worst);
        spans
            .filter(|worst| worst.window == window)
            .map(|worst| worst.at_admission.of(metric))
            .max()
    }
}

/// The books of one API key and model.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Account {
    /// Fingerprint of the API key.
    pub key: KeyPrint,
    /// The model as asked for.
    pub model: String,
    /// What happened to its calls.
    pub counts: Counts,
    /// The worst real span of each watched window.
    pub worst: Vec<Worst>,
}

/// What one admitted call used, as its provider would bill it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Served {
    /// The model as asked for.
    pub model: String,
    /// True input tokens.
    pub input_tokens: u64,
    /// Those of them that were read from a cache.
    pub cached_tokens: u64,
    /// True output tokens produced so far, reasoning included.
    pub output_tokens: u64,
    /// Those of them that were reasoning.
    pub reasoning_tokens: u64,
}

/// Calls and tokens. `received = admitted + refused + failed`, and
/// `admitted = served + cut + left + in_flight`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Counts {
    /// Well-formed calls.
    pub received: u64,
    /// Calls let in by the limits.
    pub admitted: u64,
    /// Calls refused by the limits (429).
    pub refused: u64,
    /// Calls failed by a switch before the limits saw them. They charge nothing.
    pub failed: u64,
    /// Calls answered to the end.
    pub served: u64,
    /// Answers broken off by a switch.
    pub cut: u64,
    /// Answers whose caller went away first.
    pub left: u64,
    /// Calls admitted and neither served, cut nor left.
    pub in_flight: u64,
    /// The most calls ever in flight at once (in totals: the sum over the accounts).
    pub peak_in_flight: u64,
    /// True input tokens of the admitted calls.
    pub input_tokens: u64,
    /// True output tokens produced so far.
    pub output_tokens: u64,
}

impl Counts {
    /// Input and output tokens.
    pub fn tokens(&self) -> u64 {
        self.input_tokens + self.output_tokens
    }

    fn plus(self, other: &Self) -> Self {
        Self {
            received: self.received + other.received,
            admitted: self.admitted + other.admitted,
            refused: self.refused + other.refused,
            failed: self.failed + other.failed,
            served: self.served + other.served,
            cut: self.cut + other.cut,
            left: self.left + other.left,
            in_flight: self.in_flight + other.in_flight,
            peak_in_flight: self.peak_in_flight + other.peak_in_flight,
            input_tokens: self.input_tokens + other.input_tokens,
            output_tokens: self.output_tokens + other.output_tokens,
        }
    }
}

/// The worst spans of one window: no span `[t, t + window)` held more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Worst {
    /// Length of the spans.
    pub window: Duration,
    /// Each call's whole true use counted at its admission.
    pub at_admission: Use,
    /// Input counted at admission, output when it was produced.
    pub as_produced: Use,
    /// False when there were so many calls that spans were put together: the figures may then be
    /// too high, never too low.
    pub exact: bool,
}
