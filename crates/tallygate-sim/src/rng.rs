//! A small seeded generator: the same seed gives the same numbers on every machine.

/// xoshiro256** seeded by splitmix64 (Blackman and Vigna, 2018; both in the public domain).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rng([u64; 4]);

impl Rng {
    /// A generator whose whole sequence follows from `seed`.
    pub fn new(seed: u64) -> Self {
        let mut state = seed;
        Self(std::array::from_fn(|_| splitmix(&mut state)))
    }

    /// The next 64 random bits.
    pub fn next_u64(&mut self) -> u64 {
        let s = &mut self.0;
        let result = s[1].wrapping_mul(5).rotate_left(7).wrapping_mul(9);
        let t = s[1] << 17;
        s[2] ^= s[0];
        s[3] ^= s[1];
        s[1] ^= s[2];
        s[0] ^= s[3];
        s[2] ^= t;
        s[3] = s[3].rotate_left(45);
        result
    }

    /// A number below `bound`; 0 when `bound` is 0. Its bias is below `bound` / 2^64.
    pub fn below(&mut self, bound: u64) -> u64 {
        let product = u128::from(self.next_u64()) * u128::from(bound);
        u64::try_from(product >> 64).unwrap_or(0)
    }

    /// A number in `[0, 1)` with 53 random bits.
    pub fn unit(&mut self) -> f64 {
        const STEP: f64 = 1.0 / 9_007_199_254_740_992.0;
        // 53 bits always fit a double exactly.
        (self.next_u64() >> 11) as f64 * STEP
    }

    /// A standard normal number (Box and Muller, 1958).
    pub fn normal(&mut self) -> f64 {
        let radius = (-2.0 * (1.0 - self.unit()).ln()).sqrt();
        radius * (std::f64::consts::TAU * self.unit()).cos()
    }
}

/// A lognormal distribution of sizes in tokens, cut off at both ends.
///
/// Lengths of prompts and answers in production traces are close to lognormal; floats are used for
/// drawing only, the amounts are integers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
pub struct Sizes {
    /// Half of all sizes are below it.
    pub median: u64,
    /// Spread: the standard deviation of the logarithm, in thousandths (0: always the median).
    pub sigma_per_mille: u32,
    /// Smallest size drawn.
    pub min: u64,
    /// Largest size drawn.
    pub max: u64,
}

impl Sizes {
    /// Always the same size.
    pub const fn fixed(tokens: u64) -> Self {
        Self {
            median: tokens,
            sigma_per_mille: 0,
            min: tokens,
            max: tokens,
        }
    }

    /// Draws one size.
    pub fn draw(&self, rng: &mut Rng) -> u64 {
        if self.sigma_per_mille == 0 {
            return self.median.clamp(self.min, self.max.max(self.min));
        }
        let sigma = f64::from(self.sigma_per_mille) / 1000.0;
        let size = self.median as f64 * (sigma * rng.normal()).exp();
        (size.round() as u64).clamp(self.min, self.max.max(self.min))
    }
}

impl Default for Sizes {
    /// Answers of a chat service: median 128, a tail to 4,096.
    fn default() -> Self {
        Self {
            median: 128,
            sigma_per_mille: 900,
            min: 1,
            max: 4_096,
        }
    }
}

/// One step of splitmix64: advances `state` and returns a well mixed value of it.
pub(crate) fn splitmix(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let mut z = *state;
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}
