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

/// What is left of a column.
#[derive(Debug, Clone, Copy)]
pub(super) enum Column<'a> {
    Same(u64),
    Each(Reader<'a>),
}

impl<'a> Column<'a> {
    /// Where it begins and ends is known after this; what is in it is not looked at.
    pub(super) fn find(from: &mut Reader<'a>) -> Option<Self> {
        match from.byte()? {
            form::SAME => Some(Self::Same(from.varint()?)),
            form::EACH => Some(Self::Each(Reader(from.counted()?))),
            _ => None,
        }
    }

    /// Reads the next numbers; `None` where there are fewer.
    #[inline]
    pub(super) fn fill(&mut self, out: &mut [u64]) -> Option<()> {
        match self {
            Self::Same(number) => out.fill(*number),
            Self::Each(reader) => {
                for number in out {
                    *number = reader.varint()?;
                }
            }
        }
        Some(())
    }

    /// Whether nothing is left that should not be.
    pub(super) fn is_read(&self) -> bool {
        match self {
            Self::Same(_) => true,
            Self::Each(reader) => reader.0.is_empty(),
        }
    }
}
