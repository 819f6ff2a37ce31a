//! Amounts, accounts' names and what was used.
use super::{JournalError, Reader, put};
use crate::account::Key;
use crate::ledger::{Keys, Used};
use crate::metric::{Amounts, MAX_AMOUNT, Metric, Stated};
use crate::num;

impl Amounts {
    /// Writes which metrics are above zero, and their amounts.
    pub(crate) fn write(&self, out: &mut Vec<u8>) {
        put(out, mask(|metric| self.get(metric) > 0));
        self.iter().for_each(|(_, amount)| put(out, amount));
    }

    pub(crate) fn read(from: &mut Reader<'_>) -> Result<Self, JournalError> {
        let mut amounts = Self::ZERO;
        for metric in metrics(from)? {
            amounts.set(metric, amount(from)?);
        }
        Ok(amounts)
    }
}

impl Stated {
    fn write(&self, out: &mut Vec<u8>) {
        put(out, mask(|metric| self.get(metric).is_some()));
        let stated = Metric::all().filter_map(|metric| self.get(metric));
        stated.for_each(|amount| put(out, amount));
    }

    fn read(from: &mut Reader<'_>) -> Result<Self, JournalError> {
        let mut stated = Self::default();
        for metric in metrics(from)? {
            stated.set(metric, amount(from)?);
        }
        Ok(stated)
    }
}

impl Used {
    pub(crate) fn write(&self, out: &mut Vec<u8>) {
        match self {
            Self::Exactly(amounts) => {
                out.push(EXACTLY);
                amounts.write(out);
            }
            Self::Stated(stated) => {
                out.push(STATED);
                stated.write(out);
            }
            Self::AtLeast(amounts) => {
                out.push(AT_LEAST);
                amounts.write(out);
            }
        }
    }

    pub(crate) fn read(from: &mut Reader<'_>) -> Result<Self, JournalError> {
        match from.byte()? {
            EXACTLY => Ok(Self::Exactly(Amounts::read(from)?)),
            STATED => Ok(Self::Stated(Stated::read(from)?)),
            AT_LEAST => Ok(Self::AtLeast(Amounts::read(from)?)),
            _ => Err(from.damaged("kind of use")),
        }
    }
}

const EXACTLY: u8 = 0;
const STATED: u8 = 1;
const AT_LEAST: u8 = 2;

impl Keys {
    pub(crate) fn write(&self, out: &mut Vec<u8>) {
        put(out, num::length(self.0.len()));
        for key in &self.0 {
            put(out, num::wide32(key.slot));
            key.write_hash(out);
        }
    }

    pub(crate) fn read(from: &mut Reader<'_>) -> Result<Self, JournalError> {
        let mut keys = Self::default();
        for _ in 0..from.number()? {
            let slot = from.number32()?;
            keys.0.push(Key::read_hash(slot, from)?);
        }
        Ok(keys)
    }
}

impl Key {
    pub(crate) fn write_hash(self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.high.to_le_bytes());
        out.extend_from_slice(&self.low.to_le_bytes());
    }

    pub(crate) fn read_hash(slot: u32, from: &mut Reader<'_>) -> Result<Self, JournalError> {
        let high = u32::from_le_bytes(from.fixed()?);
        let low = u64::from_le_bytes(from.fixed()?);
        match low {
            // No account has it: it marks a place without one.
            0 => Err(from.damaged("account's name")),
            _ => Ok(Self { slot, high, low }),
        }
    }
}

/// A bit a metric, the first one's lowest.
fn mask(has: impl Fn(Metric) -> bool) -> u64 {
    let bits = Metric::all().map(|metric| u64::from(has(metric)));
    let placed = bits.zip(0u32..).map(|(bit, place)| bit.checked_shl(place));
    placed.flatten().fold(0, |mask, bit| mask | bit)
}

/// The metrics of a mask.
fn metrics(from: &mut Reader<'_>) -> Result<impl Iterator<Item = Metric> + use<>, JournalError> {
    let mask = from.number()?;
    let bit = move |place: u32| mask.checked_shr(place).unwrap_or(0) & 1 == 1;
    if (0..u64::BITS).skip(crate::metric::METRICS).any(bit) {
        return Err(from.damaged("set of metrics"));
    }
    let all = Metric::all().zip(0u32..);
    Ok(all
        .filter(move |(_, place)| bit(*place))
        .map(|(metric, _)| metric))
}

fn amount(from: &mut Reader<'_>) -> Result<u64, JournalError> {
    let amount = from.number()?;
    match amount <= MAX_AMOUNT {
        true => Ok(amount),
        false => Err(from.damaged("amount up to 2^53")),
    }
}
