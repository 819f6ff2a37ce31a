//! What the files of the counters look like; docs/durability.md says it for everybody.
//!
//! A segment is a header and frames. Its header says how much of the segment before it counts, so that what was written in vain
//! behind that need not be cut off. Each frame says how much of its segment was synced before it was written: a frame that
//! cannot be read at the end was torn off with the power, but one before something that was synced is damage.
use crate::pack::{Pack, Unpack};

/// The folder of the counters, and the names in it: a number and what it is.
const FOLDER: &str = "counters/";
const STATE: &str = ".state";
const SEGMENT: &str = ".journal";

/// What files begin with: their name and version.
const STATE_MARK: &[u8; 8] = b"TGSTAT01";
const SEGMENT_MARK: &[u8; 8] = b"TGJRNL01";

/// What a frame begins with.
const FRAME_MARK: &[u8; 4] = b"TGFR";

/// The length of a segment's header and of a frame's.
pub(super) const HEADER: u64 = 28;
const FRAME: usize = 20;

/// The name of a state: the ledger as it is before the segment of the same number.
pub(super) fn state_name(number: u64) -> String {
    format!("{FOLDER}{number:012}{STATE}")
}

/// The name of a segment.
pub(super) fn segment_name(number: u64) -> String {
    format!("{FOLDER}{number:012}{SEGMENT}")
}

/// The number of a state, if it is the name of one.
pub(super) fn state_number(name: &str) -> Option<u64> {
    number(name, STATE)
}

/// The number of a segment, if it is the name of one.
pub(super) fn segment_number(name: &str) -> Option<u64> {
    number(name, SEGMENT)
}

fn number(name: &str, kind: &str) -> Option<u64> {
    let number = name.strip_prefix(FOLDER)?.strip_suffix(kind)?;
    number.parse().ok()
}

/// A state's file, of the bytes of a ledger.
pub(super) fn state(number: u64, ledger: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(ledger.len() + 32);
    out.extend_from_slice(STATE_MARK);
    out.uint(number, 8);
    out.uint(ledger.len() as u64, 8);
    out.extend_from_slice(&checksum(&[&out, ledger]));
    out.extend_from_slice(ledger);
    out
}

/// The ledger's bytes in a state's file; nothing if it is damaged.
pub(super) fn read_state(number: u64, file: &[u8]) -> Option<&[u8]> {
    let (head, mut rest) = file.split_at_checked(24).map(|(a, b)| (a, Unpack(b)))?;
    let sum: [u8; 4] = rest.array()?;
    let mut fields = Unpack(head.strip_prefix(STATE_MARK)?);
    let whole = (number, rest.0.len() as u64);
    let fits = (fields.uint(8)?, fields.uint(8)?) == whole && checksum(&[head, rest.0]) == sum;
    fits.then_some(rest.0)
}

/// The header of a segment; of the one before it `prior` bytes count.
pub(super) fn header(number: u64, prior: u64) -> Vec<u8> {
    let mut out = Vec::with_capacity(28);
    out.extend_from_slice(SEGMENT_MARK);
    out.uint(number, 8);
    out.uint(prior, 8);
    out.extend_from_slice(&checksum(&[&out]));
    out
}

/// How much of the segment before this one counts; nothing if the header is damaged.
pub(super) fn read_header(number: u64, file: &[u8]) -> Option<u64> {
    let head = file.get(..24)?;
    let sum = file.get(24..28)?;
    let mut fields = Unpack(head.strip_prefix(SEGMENT_MARK)?);
    let fits = fields.uint(8)? == number && checksum(&[head]) == sum;
    fits.then(|| fields.uint(8)).flatten()
}

/// Where a frame stands.
#[derive(Debug, Clone, Copy)]
pub(super) struct Spot {
    /// Its segment.
    pub(super) segment: u64,
    /// Its first byte in it.
    pub(super) at: u64,
}

/// A frame of records; `synced` bytes of its segment were synced before it.
pub(super) fn frame(spot: Spot, synced: u64, records: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(records.len() + FRAME);
    out.extend_from_slice(FRAME_MARK);
    out.uint(records.len() as u64, 4);
    out.uint(synced, 8);
    let sum = frame_sum(spot, &out, records);
    out.extend_from_slice(&sum);
    out.extend_from_slice(records);
    out
}

/// A frame that is whole.
pub(super) struct Frame<'a> {
    pub(super) records: &'a [u8],
    pub(super) synced: u64,
    /// Where the next one begins.
    pub(super) next: u64,
}

/// The frame at `spot`; nothing if it is not whole.
pub(super) fn read_frame(spot: Spot, file: &[u8]) -> Option<Frame<'_>> {
    let at = usize::try_from(spot.at).ok()?;
    let mut rest = Unpack(file.get(at..)?);
    let head = rest.bytes(FRAME - 4)?;
    let sum: [u8; 4] = rest.array()?;
    let mut fields = Unpack(head.strip_prefix(FRAME_MARK)?);
    let length = usize::try_from(fields.uint(4)?).ok()?;
    let synced = fields.uint(8)?;
    let records = rest.bytes(length)?;
    (frame_sum(spot, head, records) == sum).then_some(Frame {
        records,
        synced,
        next: spot.at + (FRAME + length) as u64,
    })
}

/// Whether something that was synced stands behind byte `at`, where no frame could be read.
pub(super) fn is_synced_behind(spot: Spot, file: &[u8]) -> bool {
    let from = usize::try_from(spot.at).unwrap_or(usize::MAX);
    let Some(rest) = file.get(from..) else {
        return false;
    };
    let marks = rest.windows(FRAME_MARK.len()).enumerate();
    let mut places = marks.filter(|(_, bytes)| bytes == FRAME_MARK);
    places.any(|(offset, _)| {
        let at = spot.at + offset as u64;
        let frame = read_frame(Spot { at, ..spot }, file);
        frame.is_some_and(|frame| frame.synced > spot.at)
    })
}

/// The place goes into the sum, so that a frame that stood elsewhere is none here.
fn frame_sum(spot: Spot, head: &[u8], records: &[u8]) -> [u8; 4] {
    let (segment, at) = (spot.segment.to_le_bytes(), spot.at.to_le_bytes());
    checksum(&[&segment, &at, head, records])
}

fn checksum(parts: &[&[u8]]) -> [u8; 4] {
    let mut sum = crc32fast::Hasher::new();
    parts.iter().for_each(|part| sum.update(part));
    sum.finalize().to_le_bytes()
}
