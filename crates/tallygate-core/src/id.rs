//! The name of a reservation.
use crate::num;
use std::fmt;
use std::str::FromStr;

/// The name of a reservation: unguessable, so that nobody can settle what another holds.
///
/// It is written as 26 lower-case characters of Crockford's base 32.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ReservationId(u128);

impl ReservationId {
    /// The id of these bits.
    #[must_use]
    pub const fn from_bits(bits: u128) -> Self {
        Self(bits)
    }

    /// The bits of the id.
    #[must_use]
    pub const fn bits(self) -> u128 {
        self.0
    }

    pub(crate) const fn parts(self) -> (u64, u64) {
        (num::high64(self.0), num::low64(self.0))
    }

    pub(crate) const fn from_parts(high: u64, low: u64) -> Self {
        Self((num::wide(high) << 64) | num::wide(low))
    }
}

const ALPHABET: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";
const DIGITS: u32 = 26;

impl fmt::Display for ReservationId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for place in (0..DIGITS).rev() {
            let digit = self.0.checked_shr(place.saturating_mul(5)).unwrap_or(0) & 31;
            let at = num::index(num::low32(num::low64(digit)));
            fmt::Write::write_char(f, char::from(ALPHABET.get(at).copied().unwrap_or(b'0')))?;
        }
        Ok(())
    }
}

/// The text is not a reservation's name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a reservation: 26 characters of 0-9 and a-z without i, l, o, u are expected")]
pub struct ParseIdError;

impl FromStr for ReservationId {
    type Err = ParseIdError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.len() != num::index(DIGITS) {
            return Err(ParseIdError);
        }
        let mut bits = 0u128;
        for byte in text.bytes() {
            let digit = ALPHABET
                .iter()
                .position(|c| *c == byte)
                .ok_or(ParseIdError)?;
            if bits.leading_zeros() < 5 {
                return Err(ParseIdError);
            }
            bits = (bits << 5) | num::wide(num::length(digit));
        }
        Ok(Self(bits))
    }
}
