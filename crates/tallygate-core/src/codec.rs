//! State and records as bytes.
//!
//! Whole numbers are written seven bits a byte, the lowest first; signed ones are folded before, so that those near zero are
//! short. Hashes and names are written as they are, the lowest byte first. What is read may be anything: it is checked
//! where it is read, and nothing is allotted that the bytes do not pay for.
mod amounts;
mod policy;

use crate::num;
use crate::policy::PolicyError;
use crate::time::Time;

/// Why saved bytes or records cannot be read. The ledger that was to be made or changed is to be thrown away.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum JournalError {
    /// Written by a newer version, or no such bytes at all.
    #[error("version {0} of the ledger's bytes is unknown: versions 1 and 2 can be read")]
    Version(u8),
    /// The bytes end too early.
    #[error("the ledger's bytes end within an entry, after byte {0}")]
    Short(usize),
    /// Something stands there that was never written so.
    #[error("the ledger's bytes are damaged before byte {at}: no {wanted}")]
    Damaged {
        /// How many bytes were read by then.
        at: usize,
        /// What was expected.
        wanted: &'static str,
    },
    /// A record speaks of another state than the one it is applied to: one before it is missing, or it was applied already.
    #[error("the record that ends at byte {at} does not follow: {wanted} expected")]
    Stray {
        /// How many bytes were read by then.
        at: usize,
        /// What was expected.
        wanted: &'static str,
    },
    /// The policy that was written cannot be.
    #[error(transparent)]
    Policy(#[from] PolicyError),
    /// A calendar limit follows a time zone that this build does not know.
    #[error("the time zone `{0}` is unknown")]
    Zone(String),
}

/// Writes a whole number.
#[inline]
pub(crate) fn put(out: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        out.push(num::low8(number) | 0x80);
        number >>= 7;
    }
    out.push(num::low8(number));
}

/// Writes a signed number.
pub(crate) fn put_signed(out: &mut Vec<u8>, number: i64) {
    put(out, num::folded(number));
}

/// Writes a signed number of twice the width.
pub(crate) fn put_wide(out: &mut Vec<u8>, number: i128) {
    let mut left = num::folded_wide(number);
    while left >= 0x80 {
        out.push(num::low8(num::low64(left)) | 0x80);
        left >>= 7;
    }
    out.push(num::low8(num::low64(left)));
}

/// Writes an instant that is likely near `base`.
pub(crate) fn put_time(out: &mut Vec<u8>, time: Time, base: Time) {
    put_signed(out, num::distance(time.as_nanos(), base.as_nanos()));
}

/// Writes a length.
pub(crate) fn put_length(out: &mut Vec<u8>, length: usize) {
    put(out, num::length(length));
}

/// Writes a text.
pub(crate) fn put_text(out: &mut Vec<u8>, text: &str) {
    put_length(out, text.len());
    out.extend_from_slice(text.as_bytes());
}

/// Bytes that are read from the front.
#[derive(Debug)]
pub(crate) struct Reader<'a> {
    left: &'a [u8],
    read: usize,
}

impl<'a> Reader<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self {
            left: bytes,
            read: 0,
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.left.is_empty()
    }

    /// The bytes are not what was written.
    pub(crate) fn damaged(&self, wanted: &'static str) -> JournalError {
        JournalError::Damaged {
            at: self.read,
            wanted,
        }
    }

    /// The record just read does not follow what is there.
    pub(crate) fn stray(&self, wanted: &'static str) -> JournalError {
        JournalError::Stray {
            at: self.read,
            wanted,
        }
    }

    #[inline]
    pub(crate) fn byte(&mut self) -> Result<u8, JournalError> {
        let (first, rest) = self
            .left
            .split_first()
            .ok_or(JournalError::Short(self.read))?;
        self.left = rest;
        self.read = self.read.saturating_add(1);
        Ok(*first)
    }

    /// A whole number.
    #[inline]
    pub(crate) fn number(&mut self) -> Result<u64, JournalError> {
        let first = self.byte()?;
        if first < 0x80 {
            return Ok(u64::from(first));
        }
        let mut number = u64::from(first & 0x7F);
        for shift in (7..u64::BITS).step_by(7) {
            let byte = self.byte()?;
            let part = u64::from(byte & 0x7F);
            let placed = part.checked_shl(shift).unwrap_or(0);
            if placed.checked_shr(shift) != Some(part) {
                break;
            }
            number |= placed;
            if byte < 0x80 {
                return Ok(number);
            }
        }
        Err(self.damaged("whole number of 64 bits"))
    }

    /// A whole number of half the width.
    pub(crate) fn number32(&mut self) -> Result<u32, JournalError> {
        let number = self.number()?;
        u32::try_from(number).map_err(|_| self.damaged("whole number of 32 bits"))
    }

    /// A signed number.
    pub(crate) fn signed(&mut self) -> Result<i64, JournalError> {
        Ok(num::unfolded(self.number()?))
    }

    /// A signed number of twice the width.
    pub(crate) fn wide(&mut self) -> Result<i128, JournalError> {
        let mut number = 0u128;
        for shift in (0..u128::BITS).step_by(7) {
            let byte = self.byte()?;
            let part = u128::from(byte & 0x7F);
            let placed = part.checked_shl(shift).unwrap_or(0);
            if placed.checked_shr(shift) != Some(part) {
                break;
            }
            number |= placed;
            if byte < 0x80 {
                return Ok(num::unfolded_wide(number));
            }
        }
        Err(self.damaged("whole number of 128 bits"))
    }

    /// An instant written with this base.
    pub(crate) fn time(&mut self, base: Time) -> Result<Time, JournalError> {
        let nanos = base.as_nanos().wrapping_add_signed(self.signed()?);
        Ok(Time::from_nanos(nanos))
    }

    /// A text.
    pub(crate) fn text(&mut self) -> Result<&'a str, JournalError> {
        let length = usize::try_from(self.number()?).unwrap_or(usize::MAX);
        let bytes = self.bytes(length)?;
        std::str::from_utf8(bytes).map_err(|_| self.damaged("text"))
    }

    /// Bytes as they are.
    pub(crate) fn fixed<const LENGTH: usize>(&mut self) -> Result<[u8; LENGTH], JournalError> {
        let bytes = self.bytes(LENGTH)?;
        bytes.try_into().map_err(|_| JournalError::Short(self.read))
    }

    fn bytes(&mut self, length: usize) -> Result<&'a [u8], JournalError> {
        let split = self.left.split_at_checked(length);
        let (bytes, rest) = split.ok_or(JournalError::Short(self.read))?;
        self.left = rest;
        self.read = self.read.saturating_add(length);
        Ok(bytes)
    }
}

#[cfg(test)]
mod tests;
