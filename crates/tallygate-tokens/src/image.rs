//! The size of an image from the first bytes of its file.
//!
//! Only the formats that providers accept are read: PNG, JPEG, GIF and WebP. Nothing is decoded.

use base64::Engine;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};

/// Width and height in pixels; both at least 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Size {
    pub(crate) width: u64,
    pub(crate) height: u64,
}

impl Size {
    fn new(width: u64, height: u64) -> Self {
        Self {
            width: width.max(1),
            height: height.max(1),
        }
    }
}

/// The size of an image in base64. More of it is decoded only while the header asks for more: a
/// JPEG's size stands behind its metadata, which may be large.
pub(crate) fn size_of_base64(data: &str) -> Option<Size> {
    for characters in [256, 64 << 10, 1 << 20, usize::MAX] {
        match read(&decode_start(data, characters)?) {
            Header::Size(size) => return Some(size),
            Header::Unknown => return None,
            Header::Longer if characters >= data.len() => return None,
            Header::Longer => {}
        }
    }
    None
}

/// The bytes behind about the first `characters` of base64 text.
pub(crate) fn decode_start(data: &str, characters: usize) -> Option<Vec<u8>> {
    let end = if characters < data.len() {
        characters & !3
    } else {
        data.len()
    };
    LENIENT.decode(data.as_bytes().get(..end)?).ok()
}

const LENIENT: GeneralPurpose = GeneralPurpose::new(
    &base64::alphabet::STANDARD,
    GeneralPurposeConfig::new()
        .with_decode_allow_trailing_bits(true)
        .with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// What the first bytes of a file tell.
#[derive(Debug, PartialEq, Eq)]
enum Header {
    Size(Size),
    /// The size stands further on.
    Longer,
    /// No known format, or broken.
    Unknown,
}

fn read(file: &[u8]) -> Header {
    if file.starts_with(b"\x89PNG\r\n\x1A\n") {
        let size = big_endian(file, 16, 4).zip(big_endian(file, 20, 4));
        return found(size);
    }
    if file.starts_with(b"GIF8") {
        return found(little_endian(file, 6, 2).zip(little_endian(file, 8, 2)));
    }
    if file.starts_with(b"RIFF") && file.get(8..12) == Some(b"WEBP") {
        return read_webp(file);
    }
    if file.starts_with(b"\xFF\xD8") {
        return read_jpeg(file);
    }
    Header::Unknown
}

fn found(size: Option<(u64, u64)>) -> Header {
    size.map_or(Header::Longer, |(width, height)| {
        Header::Size(Size::new(width, height))
    })
}

/// WebP (RFC 9649): the size stands in the first chunk, in a form of its own for each kind.
fn read_webp(file: &[u8]) -> Header {
    match file.get(12..16) {
        Some(b"VP8 ") => {
            let size = little_endian(file, 26, 2).zip(little_endian(file, 28, 2));
            found(size.map(|(width, height)| (width & 0x3FFF, height & 0x3FFF)))
        }
        Some(b"VP8L") => {
            let bits = little_endian(file, 21, 4);
            found(bits.map(|bits| ((bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1)))
        }
        Some(b"VP8X") => {
            let size = little_endian(file, 24, 3).zip(little_endian(file, 27, 3));
            found(size.map(|(width, height)| (width + 1, height + 1)))
        }
        Some(_) => Header::Unknown,
        None => Header::Longer,
    }
}

/// JPEG (ITU T.81): segments are skipped until a frame header.
fn read_jpeg(file: &[u8]) -> Header {
    let mut at = 2;
    loop {
        let Some(&[mark, kind]) = file.get(at..at + 2) else {
            return Header::Longer;
        };
        match (mark, kind) {
            (0xFF, 0xFF) => at += 1,
            (0xFF, 0xC4 | 0xC8 | 0xCC) => at += segment(file, at),
            (0xFF, 0xC0..=0xCF) => {
                let size = big_endian(file, at + 7, 2).zip(big_endian(file, at + 5, 2));
                return found(size);
            }
            (0xFF, 0x01 | 0xD0..=0xD8) => at += 2,
            (0xFF, 0xD9 | 0xDA) => return Header::Unknown,
            (0xFF, _) => at += segment(file, at),
            _ => return Header::Unknown,
        }
    }
}

/// The length of the segment at `at`, its marker included; past the end where it is cut off.
fn segment(file: &[u8], at: usize) -> usize {
    let length = big_endian(file, at + 2, 2).unwrap_or(u64::from(u16::MAX));
    2 + usize::try_from(length.max(2)).unwrap_or(usize::MAX - 2)
}

fn big_endian(file: &[u8], at: usize, length: usize) -> Option<u64> {
    let bytes = file.get(at..at + length)?;
    Some(
        bytes
            .iter()
            .fold(0, |sum, &byte| sum << 8 | u64::from(byte)),
    )
}

fn little_endian(file: &[u8], at: usize, length: usize) -> Option<u64> {
    let bytes = file.get(at..at + length)?;
    Some(
        bytes
            .iter()
            .rev()
            .fold(0, |sum, &byte| sum << 8 | u64::from(byte)),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn size(width: u64, height: u64) -> Header {
        Header::Size(Size { width, height })
    }

    fn png(width: u32, height: u32) -> Vec<u8> {
        let mut file = b"\x89PNG\r\n\x1A\n\0\0\0\rIHDR".to_vec();
        file.extend_from_slice(&width.to_be_bytes());
        file.extend_from_slice(&height.to_be_bytes());
        file
    }

    fn jpeg(metadata: usize) -> Vec<u8> {
        let mut file = b"\xFF\xD8".to_vec();
        for _ in 0..metadata {
            file.extend_from_slice(b"\xFF\xE1\xFF\xFF");
            file.extend(std::iter::repeat_n(7, 0xFFFF - 2));
        }
        file.extend_from_slice(b"\xFF\xC4\x00\x03\x00\xFF\xFF\xC2\x00\x11\x08\x03\x00\x04\x00\x03");
        file
    }

    #[test]
    fn sizes_stand_in_the_first_bytes() {
        assert_eq!(read(&png(1_024, 768)), size(1_024, 768));
        assert_eq!(read(b"GIF89a\x40\x01\xC8\x00"), size(320, 200));
        assert_eq!(read(&jpeg(0)), size(1_024, 768));
        let lossy = b"RIFF\0\0\0\0WEBPVP8 \0\0\0\0\0\0\0\x9D\x01\x2A\x40\x41\xC8\x00";
        assert_eq!(read(lossy), size(320, 200));
        let lossless = b"RIFF\0\0\0\0WEBPVP8L\0\0\0\0\x2F\x3F\xC1\x31\x00";
        assert_eq!(read(lossless), size(320, 200));
        let extended = b"RIFF\0\0\0\0WEBPVP8X\x0A\0\0\0\0\0\0\0\x3F\x01\0\xC7\0\0";
        assert_eq!(read(extended), size(320, 200));
    }

    #[test]
    fn metadata_before_the_size_is_read_past() {
        for metadata in [0, 1, 3, 20] {
            let text = LENIENT.encode(jpeg(metadata));
            let found = size_of_base64(&text);
            assert_eq!(found, Some(Size::new(1_024, 768)), "{metadata} segments");
        }
    }

    #[test]
    fn what_is_no_image_or_cut_off_has_no_size() {
        for file in [png(8, 8), jpeg(1), b"GIF89a\x40\x01\xC8\x00".to_vec()] {
            let step = file.len() / 64 + 1;
            for end in (0..file.len()).step_by(step) {
                let text = LENIENT.encode(&file[..end]);
                let cut = size_of_base64(&text);
                let known = read(&file[..end]);
                assert_eq!(cut.is_some(), matches!(known, Header::Size(_)));
            }
        }
        assert_eq!(size_of_base64("not base64 at all!"), None);
        assert_eq!(size_of_base64("AAAA"), None);
        assert_eq!(
            read(b"\xFF\xD8\xFF\xE1\x00\x00\xFF\xE1\x00\x00"),
            Header::Longer
        );
    }

    #[test]
    fn an_image_without_extent_has_one_pixel() {
        assert_eq!(read(&png(0, 0)), size(1, 1));
    }
}
