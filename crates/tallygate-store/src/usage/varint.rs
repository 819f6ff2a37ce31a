//! Integers in as few bytes as they need: seven bits a byte, the lowest first, the high bit says that more follow (LEB128).

/// Writes `value`.
pub(super) fn put(mut value: u64, out: &mut Vec<u8>) {
    while value >= 0x80 {
        out.push(low_byte(value) | 0x80);
        value >>= 7;
    }
    out.push(low_byte(value));
}

fn low_byte(value: u64) -> u8 {
    value.to_le_bytes()[0] & 0x7f
}

/// What is left of some bytes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Reader<'a>(pub(super) &'a [u8]);

impl<'a> Reader<'a> {
    /// The next integer; `None` where the bytes end inside it or it is above 64 bits.
    #[inline]
    pub(super) fn varint(&mut self) -> Option<u64> {
        match *self.0 {
            [one, ref rest @ ..] if one < 0x80 => {
                self.0 = rest;
                Some(u64::from(one))
            }
            [one, two, ref rest @ ..] if two < 0x80 => {
                self.0 = rest;
                Some(u64::from(one & 0x7f) | u64::from(two) << 7)
            }
            _ => self.long(),
        }
    }

    fn long(&mut self) -> Option<u64> {
        let mut value = 0_u64;
        for (place, byte) in self.0.iter().take(10).enumerate() {
            let bits = u64::from(byte & 0x7f);
            let shift = 7 * u32::try_from(place).ok()?;
            if bits.checked_shl(shift)? >> shift != bits {
                return None;
            }
            value |= bits << shift;
            if byte & 0x80 == 0 {
                self.0 = self.0.get(place + 1..)?;
                return Some(value);
            }
        }
        None
    }

    /// The next integer as a length or an index; `None` too where it is above `most`.
    pub(super) fn index(&mut self, most: usize) -> Option<usize> {
        let value = usize::try_from(self.varint()?).ok()?;
        (value <= most).then_some(value)
    }

    pub(super) fn byte(&mut self) -> Option<u8> {
        let (byte, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(*byte)
    }

    pub(super) fn bytes(&mut self, length: usize) -> Option<&'a [u8]> {
        let (bytes, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(bytes)
    }

    /// A length and so many bytes.
    pub(super) fn counted(&mut self) -> Option<&'a [u8]> {
        let length = self.index(self.0.len())?;
        self.bytes(length)
    }
}
