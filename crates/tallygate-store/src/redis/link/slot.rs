//! The slot of a key (<https://redis.io/docs/latest/operate/oss_and_stack/reference/cluster-spec/>, read 2026-11).

/// How many slots a Cluster has.
pub(super) const SLOTS: u16 = 16384;

/// The slot of the keys with the hash tag that `tag` is written as.
pub(super) fn of_tag(tag: u32) -> u16 {
    of(format!("{tag:08x}").as_bytes())
}

/// Some tag of `slot`: one in 16384 is.
pub(super) fn a_tag_of(slot: u16) -> u32 {
    (0..).find(|tag| of_tag(*tag) == slot).unwrap_or_default()
}

fn of(tag: &[u8]) -> u16 {
    crc16(tag) % SLOTS
}

/// CRC-16/XMODEM.
fn crc16(bytes: &[u8]) -> u16 {
    bytes.iter().fold(0, |crc, byte| {
        let mut crc = crc ^ (u16::from(*byte) << 8);
        for _ in 0..8 {
            let carry = crc & 0x8000 != 0;
            crc <<= 1;
            if carry {
                crc ^= 0x1021;
            }
        }
        crc
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The check value of the specification, and slots that a server gave with `CLUSTER KEYSLOT`.
    #[test]
    fn slots_are_those_of_the_servers() {
        assert_eq!(crc16(b"123456789"), 0x31c3);
        assert_eq!(of(b"foo"), 12182);
        assert_eq!(of(b"user1000"), 3443);
        assert_eq!(of_tag(0x123), of(b"00000123"));
    }

    #[test]
    fn every_slot_has_a_tag() {
        for slot in (0..SLOTS).step_by(1024).chain([SLOTS - 1]) {
            assert_eq!(of_tag(a_tag_of(slot)), slot);
        }
    }
}
