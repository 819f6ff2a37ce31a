//! Conversions between integer widths: the only file of the crate with `as`.
#![expect(
    clippy::as_conversions,
    reason = "every conversion of the crate is here, each saturating or lossless"
)]

/// The low 64 bits' worth of `n`, or the largest `u64`.
pub(crate) const fn saturate_u64(n: u128) -> u64 {
    if n > u64::MAX as u128 {
        u64::MAX
    } else {
        n as u64
    }
}

/// A signed quantity as an unsigned one: below zero is zero.
pub(crate) const fn positive(n: i128) -> u128 {
    if n < 0 { 0 } else { n as u128 }
}

/// An unsigned quantity as a signed one, saturating.
pub(crate) const fn signed(n: u128) -> i128 {
    if n > i128::MAX as u128 {
        i128::MAX
    } else {
        n as i128
    }
}

/// Widens without loss.
pub(crate) const fn wide(n: u64) -> u128 {
    n as u128
}

/// Widens without loss.
pub(crate) const fn wide32(n: u32) -> u64 {
    n as u64
}

/// A 32-bit index as a position in a slice.
pub(crate) const fn index(n: u32) -> usize {
    n as usize
}

/// A position as a 32-bit index, saturating.
pub(crate) const fn index32(n: usize) -> u32 {
    if n > u32::MAX as usize {
        u32::MAX
    } else {
        n as u32
    }
}

/// A length as a 64-bit number.
pub(crate) const fn length(n: usize) -> u64 {
    n as u64
}

/// The low 8 bits.
pub(crate) const fn low8(n: u64) -> u8 {
    (n & 0xFF) as u8
}

/// The low 32 bits.
pub(crate) const fn low32(n: u64) -> u32 {
    (n & 0xFFFF_FFFF) as u32
}

/// The low 32 bits of a signed number.
pub(crate) const fn wrapped32(n: i64) -> u32 {
    (n & 0xFFFF_FFFF) as u32
}

/// The upper half of a 128-bit number.
pub(crate) const fn high64(n: u128) -> u64 {
    (n >> 64) as u64
}

/// The lower half of a 128-bit number.
pub(crate) const fn low64(n: u128) -> u64 {
    (n & u64::MAX as u128) as u64
}

/// A signed number as an unsigned one that is small where it is near zero: 0, -1, 1, -2 become 0, 1, 2, 3.
pub(crate) const fn folded(n: i64) -> u64 {
    ((n << 1) ^ (n >> 63)) as u64
}

/// The number that was [`folded`].
pub(crate) const fn unfolded(n: u64) -> i64 {
    (n >> 1) as i64 ^ ((n & 1) as i64).wrapping_neg()
}

/// [`folded`] of twice the width.
pub(crate) const fn folded_wide(n: i128) -> u128 {
    ((n << 1) ^ (n >> 127)) as u128
}

/// The number that was [`folded_wide`].
pub(crate) const fn unfolded_wide(n: u128) -> i128 {
    (n >> 1) as i128 ^ ((n & 1) as i128).wrapping_neg()
}

/// How far `n` is from `base`, around the edge of the numbers if it is nearer that way.
pub(crate) const fn distance(n: u64, base: u64) -> i64 {
    n.wrapping_sub(base) as i64
}

/// The position in `0..length` that is to `length` what `n` is to 2^64.
#[inline]
pub(crate) const fn share(n: u64, length: usize) -> usize {
    ((n as u128).saturating_mul(length as u128) >> 64) as usize
}
