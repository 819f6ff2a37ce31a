//! One number of every record of a block, one after the other.

use super::varint::{self, Reader};

/// How a column is written.
mod form {
    /// One number for all records.
    pub(super) const SAME: u8 = 0;
    /// A length in bytes, and a varint a record.
    pub(super) const EACH: u8 = 1;
}

/// Writes `numbers`.
pub(super) fn put(numbers: &[u64], out: &mut Vec<u8>) {
    match numbers {
        [first, rest @ ..] if rest.iter().all(|number| number == first) => {
            out.push(form::SAME);
            varint::put(*first, out);
        }
        numbers => {
            let mut bytes = Vec::with_capacity(numbers.len() * 2);
            numbers
                .iter()
                .for_each(|number| varint::put(*number, &mut bytes));
            out.push(form::EACH);
            varint::put(bytes.len() as u64, out);
            out.extend_from_slice(&bytes);
        }
    }
}

/// A column that was not read yet.
#[derive(Debug, Clone, Copy)]
pub(super) enum Column<'a> {
    Same(u64),
    Each(&'a [u8]),
}

impl<'a> Column<'a> {
    /// Where it begins and ends is known after this; what is in it is not looked at.
    pub(super) fn find(from: &mut Reader<'a>) -> Option<Self> {
        match from.byte()? {
            form::SAME => Some(Self::Same(from.varint()?)),
            form::EACH => Some(Self::Each(from.counted()?)),
            _ => None,
        }
    }

    /// Puts its `count` numbers in the place of those in `out`; `None` where it has more or fewer.
    pub(super) fn read(self, count: usize, out: &mut Vec<u64>) -> Option<()> {
        out.clear();
        match self {
            Self::Same(number) => out.resize(count, number),
            Self::Each(bytes) => {
                let mut reader = Reader(bytes);
                out.reserve(count);
                for _ in 0..count {
                    out.push(reader.varint()?);
                }
                if !reader.0.is_empty() {
                    return None;
                }
            }
        }
        Some(())
    }
}
