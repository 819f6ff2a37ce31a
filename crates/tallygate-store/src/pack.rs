//! Whole numbers as scripts and files have them: little-endian, as many bytes as are needed.

/// Writing.
pub(crate) trait Pack {
    /// The lowest `bytes` bytes of a number.
    fn uint(&mut self, n: u64, bytes: usize);

    /// A number below 2^56: an amount or an instant in microseconds.
    fn long(&mut self, n: u64) {
        self.uint(n.min((1 << 56) - 1), 7);
    }

    /// Bytes with their length before them, in three bytes.
    fn text(&mut self, bytes: &[u8]);
}

impl Pack for Vec<u8> {
    fn uint(&mut self, n: u64, bytes: usize) {
        self.extend(n.to_le_bytes().into_iter().take(bytes));
    }

    fn text(&mut self, bytes: &[u8]) {
        self.uint(bytes.len() as u64, 3);
        self.extend_from_slice(bytes);
    }
}

/// Reading; nothing where the bytes end too early.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Unpack<'a>(pub(crate) &'a [u8]);

impl<'a> Unpack<'a> {
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn bytes(&mut self, count: usize) -> Option<&'a [u8]> {
        let (read, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(read)
    }

    pub(crate) fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.bytes(N)?.try_into().ok()
    }

    pub(crate) fn uint(&mut self, bytes: usize) -> Option<u64> {
        let mut padded = [0; 8];
        padded.get_mut(..bytes)?.copy_from_slice(self.bytes(bytes)?);
        Some(u64::from_le_bytes(padded))
    }

    pub(crate) fn byte(&mut self) -> Option<u8> {
        self.array::<1>().map(|[byte]| byte)
    }

    /// A number of seven bytes.
    pub(crate) fn long(&mut self) -> Option<u64> {
        self.uint(7)
    }
}
