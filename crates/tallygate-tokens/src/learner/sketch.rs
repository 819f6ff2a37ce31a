//! A decayed, mergeable quantile sketch.

use super::HALF_LIFE;

/// Counts of values in logarithmic buckets: a DDSketch whose logarithm is read from a number's
/// bits (a power of two is cut into 32 equal parts), so that no float is needed. A quantile is
/// found to within one bucket, which is at most 1/32 of its value.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Sketch {
    /// Buckets in order, with their weights.
    weights: Vec<(u16, u64)>,
    /// Observations ever, decayed ones included.
    samples: u64,
    /// Observations since the weights were halved.
    since_halving: u64,
}

/// The weight of a new observation: it survives 20 halvings.
const UNIT: u64 = 1 << 20;

/// Larger outputs are counted as this; it bounds the buckets to 640.
const LARGEST: u64 = (1 << 24) - 1;

const SUB_BITS: u32 = 5;
const PARTS: u64 = 1 << SUB_BITS;

impl Sketch {
    pub(super) fn observe(&mut self, value: u64) {
        self.add(bucket(value.min(LARGEST)), UNIT);
        self.samples = self.samples.saturating_add(1);
        self.since_halving += 1;
        self.decay();
    }

    pub(super) fn merge(&mut self, other: &Self) {
        for &(bucket, weight) in &other.weights {
            self.add(bucket, weight);
        }
        self.samples = self.samples.saturating_add(other.samples);
        self.since_halving += other.since_halving;
        self.decay();
    }

    pub(super) fn samples(&self) -> u64 {
        self.samples
    }

    /// The largest value of the bucket below or in which `per_mille` of the weight lies; `None`
    /// of an empty sketch.
    pub(super) fn quantile(&self, per_mille: u32) -> Option<u64> {
        let total: u128 = self.weights.iter().map(|&(_, w)| u128::from(w)).sum();
        let wanted = (total * u128::from(per_mille.min(1_000))).div_ceil(1_000);
        let mut below = 0_u128;
        let found = self.weights.iter().find(|&&(_, weight)| {
            below += u128::from(weight);
            below >= wanted
        });
        found.map(|&(bucket, _)| upper_edge(bucket))
    }

    fn add(&mut self, bucket: u16, weight: u64) {
        match self.weights.binary_search_by_key(&bucket, |&(b, _)| b) {
            Ok(at) => {
                let held = &mut self.weights[at].1;
                *held = held.saturating_add(weight);
            }
            Err(at) => self.weights.insert(at, (bucket, weight)),
        }
    }

    /// Halves all weights for every half-life that has passed, and drops what has faded.
    fn decay(&mut self) {
        while self.since_halving >= HALF_LIFE {
            self.since_halving -= HALF_LIFE;
            for (_, weight) in &mut self.weights {
                *weight /= 2;
            }
            self.weights.retain(|&(_, weight)| weight > 0);
        }
    }
}

/// Values under 32 have a bucket each; above, 32 buckets a power of two.
fn bucket(value: u64) -> u16 {
    let shift = shift(value);
    let index = u64::from(shift) * PARTS + (value >> shift);
    u16::try_from(index).unwrap_or(u16::MAX)
}

/// How many low bits of a value its bucket ignores.
fn shift(value: u64) -> u32 {
    (u64::BITS - value.leading_zeros()).saturating_sub(SUB_BITS + 1)
}

/// The largest value that falls into a bucket.
fn upper_edge(bucket: u16) -> u64 {
    let bucket = u64::from(bucket);
    if bucket < 2 * PARTS {
        return bucket;
    }
    let shift = bucket / PARTS - 1;
    let top = bucket - shift * PARTS;
    ((top + 1) << shift) - 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_are_in_order_and_narrow() {
        let mut last = 0;
        for value in (0..5_000).chain((5_000..LARGEST).step_by(997)) {
            let at = bucket(value);
            assert!(at >= last, "{value} fell into bucket {at} after {last}");
            last = at;
            let edge = upper_edge(at);
            assert_eq!(bucket(edge), at, "the edge of {value}'s bucket is in it");
            assert!(
                edge >= value && edge - value <= value / 32,
                "{value} -> {edge}"
            );
            assert_ne!(bucket(edge + 1), at);
        }
    }

    #[test]
    fn quantiles_are_the_sorted_values_to_within_a_bucket() {
        let mut sketch = Sketch::default();
        for value in 1..=400 {
            sketch.observe(value);
        }
        for per_mille in [1, 250, 500, 900, 950, 1_000] {
            let exact = u64::from(per_mille * 400_u32).div_ceil(1_000);
            let found = sketch.quantile(per_mille).unwrap();
            assert!(
                found >= exact && found <= exact + exact / 32,
                "{per_mille}: {found}"
            );
        }
    }

    #[test]
    fn old_observations_fade() {
        let mut sketch = Sketch::default();
        (0..2_000).for_each(|_| sketch.observe(10));
        (0..2 * HALF_LIFE + 200).for_each(|_| sketch.observe(1_000));
        assert!(sketch.quantile(500).unwrap() >= 1_000);
        assert_eq!(sketch.quantile(1), Some(10), "and are not gone at once");
    }

    #[test]
    fn merging_is_observing_both() {
        let (mut left, mut right, mut both) = <(Sketch, Sketch, Sketch)>::default();
        for value in 0..200 {
            left.observe(value);
            right.observe(value * 7);
            both.observe(value);
            both.observe(value * 7);
        }
        left.merge(&right);
        assert_eq!(left, both);
    }

    #[test]
    fn memory_is_bounded() {
        let mut sketch = Sketch::default();
        for value in 0..200_000 {
            sketch.add(bucket((value * 7_919) & LARGEST), 1);
        }
        assert!(sketch.weights.len() <= 640, "{}", sketch.weights.len());
        sketch.observe(u64::MAX);
        assert_eq!(sketch.quantile(1_000), Some(LARGEST));
    }
}
