//! Gzip (RFC 1952) with stored blocks (RFC 1951 §3.2.4): valid for every reader, and cheap.

/// Largest stored block.
const MAX_BLOCK: usize = 65_535;

/// Wraps a body piece by piece; each piece can be read as soon as it has arrived.
#[derive(Debug, Clone, Default)]
pub(crate) struct Gzip {
    started: bool,
    crc: Crc,
    length: u32,
}

impl Gzip {
    /// The compressed form of a whole body.
    pub(crate) fn pack(data: &[u8]) -> Vec<u8> {
        let (mut gzip, mut out) = (Self::default(), Vec::with_capacity(data.len() + 32));
        gzip.push(data, &mut out);
        gzip.finish(&mut out);
        out
    }

    /// Appends the compressed form of `data`.
    pub(crate) fn push(&mut self, data: &[u8], out: &mut Vec<u8>) {
        self.start(out);
        for block in data.chunks(MAX_BLOCK) {
            self.block(0, block, out);
        }
        self.crc.update(data);
        // The format counts modulo 2^32.
        self.length = self
            .length
            .wrapping_add(u32::try_from(data.len()).unwrap_or(u32::MAX));
    }

    /// Appends the end.
    pub(crate) fn finish(&mut self, out: &mut Vec<u8>) {
        self.start(out);
        self.block(1, &[], out);
        out.extend_from_slice(&self.crc.value().to_le_bytes());
        out.extend_from_slice(&self.length.to_le_bytes());
    }

    fn start(&mut self, out: &mut Vec<u8>) {
        if !self.started {
            self.started = true;
            out.extend_from_slice(&[0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255]);
        }
    }

    fn block(&self, last: u8, data: &[u8], out: &mut Vec<u8>) {
        let length = u16::try_from(data.len()).unwrap_or(u16::MAX);
        out.push(last);
        out.extend_from_slice(&length.to_le_bytes());
        out.extend_from_slice(&(!length).to_le_bytes());
        out.extend_from_slice(data);
    }
}

/// The CRC-32 of gzip.
#[derive(Debug, Clone)]
struct Crc(u32);

impl Default for Crc {
    fn default() -> Self {
        Self(u32::MAX)
    }
}

impl Crc {
    fn update(&mut self, data: &[u8]) {
        for &byte in data {
            let index = (self.0 ^ u32::from(byte)) & 0xff;
            self.0 = TABLE[index as usize] ^ (self.0 >> 8);
        }
    }

    fn value(&self) -> u32 {
        !self.0
    }
}

static TABLE: [u32; 256] = table();

const fn table() -> [u32; 256] {
    let mut table = [0; 256];
    let mut index = 0;
    while index < 256 {
        let mut value = index as u32;
        let mut bit = 0;
        while bit < 8 {
            value = if value & 1 == 1 {
                0xedb8_8320 ^ (value >> 1)
            } else {
                value >> 1
            };
            bit += 1;
        }
        table[index] = value;
        index += 1;
    }
    table
}
