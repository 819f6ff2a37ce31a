//! Seeded workloads: who asks for how much, and when.
//!
//! The same options give the same calls on every run. Sizes are lognormal, as in production traces;
//! arrivals are all at once, evenly spaced or random (Poisson).

use std::sync::Arc;
use std::time::Duration;

use crate::client::ApiCall;
use crate::rng::{Rng, Sizes};
use crate::words;

/// What a workload is made of. It is endless; `take` as many jobs as are needed.
#[derive(Debug, Clone)]
pub struct WorkloadOptions {
    /// Everything follows from it.
    pub seed: u64,
    /// The tiers and how many users each has. Users are numbered through all tiers in this order.
    pub tiers: Vec<Tier>,
    /// Which of the users ask how often.
    pub skew: Skew,
    /// When jobs arrive.
    pub arrival: Arrival,
    /// How many of 1,000 jobs ask for a stream.
    pub streamed_per_mille: u32,
    /// The `max_tokens` that calls set; `None`: they set none.
    pub max_tokens: Option<u64>,
}

/// Users of one kind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tier {
    /// Its name.
    pub name: Arc<str>,
    /// How many users it has.
    pub users: u32,
    /// The model they call.
    pub model: Arc<str>,
    /// Tokens of their prompts' texts; framing comes on top.
    pub input: Sizes,
    /// Tokens of the answers, before `max_tokens` caps them.
    pub output: Sizes,
}

/// How work is spread over users.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Skew {
    /// Every user asks equally often.
    #[default]
    Even,
    /// The user of rank k asks in proportion to 1/k (Zipf's law), rank by number.
    Zipf,
}

/// When jobs arrive.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Arrival {
    /// All at the start.
    #[default]
    AtOnce,
    /// One each so often.
    Every(Duration),
    /// At random, on average one each so often.
    Poisson(Duration),
}

/// One call to make.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Job {
    /// Its number, from 0.
    pub number: u64,
    /// When it arrives, from the start.
    pub at: Duration,
    /// Number of the user.
    pub user: u32,
    /// Name of the user's tier.
    pub tier: Arc<str>,
    /// The model it calls.
    pub model: Arc<str>,
    /// Tokens of the prompt's text.
    pub input_tokens: u64,
    /// Tokens of the answer, before `max_tokens` caps it.
    pub output_tokens: u64,
    /// The cap it asks for.
    pub max_tokens: Option<u64>,
    /// Whether it asks for a stream.
    pub streamed: bool,
    seed: u64,
}

/// An endless sequence of jobs, in order of arrival.
#[derive(Debug, Clone)]
pub struct Workload {
    options: WorkloadOptions,
    rng: Rng,
    /// The sum of the weights of users 0 to k, scaled to whole numbers.
    shares: Vec<u64>,
    number: u64,
    at: Duration,
}

impl Tier {
    /// A tier whose prompts and answers are lognormal around these medians, up to 16 times as large.
    pub fn new(name: &str, users: u32, model: &str, medians: (u64, u64)) -> Self {
        let sizes = |median: u64| Sizes {
            median,
            sigma_per_mille: 800,
            min: 1,
            max: median.saturating_mul(16),
        };
        let (input, output) = (sizes(medians.0), sizes(medians.1));
        Self {
            name: name.into(),
            users,
            model: model.into(),
            input,
            output,
        }
    }
}

impl Default for WorkloadOptions {
    /// Three tiers on `gpt-4o-mini` and `gpt-4o`, 20 jobs a second at random, half of them streamed.
    fn default() -> Self {
        let tiers = vec![
            Tier::new("free", 16, "gpt-4o-mini", (200, 100)),
            Tier::new("pro", 8, "gpt-4o", (400, 150)),
            Tier::new("enterprise", 4, "gpt-4o", (1_000, 250)),
        ];
        Self {
            seed: 0,
            tiers,
            skew: Skew::default(),
            arrival: Arrival::Poisson(Duration::from_millis(50)),
            streamed_per_mille: 500,
            max_tokens: None,
        }
    }
}

impl Workload {
    /// The workload of these options. Without users it is empty.
    pub fn new(options: WorkloadOptions) -> Self {
        let users: u64 = options.tiers.iter().map(|tier| u64::from(tier.users)).sum();
        let weight = |rank: u64| match options.skew {
            Skew::Even => 1,
            Skew::Zipf => (1 << 32) / rank,
        };
        let mut sum = 0;
        let shares = (1..=users)
            .map(|rank| {
                sum += weight(rank);
                sum
            })
            .collect();
        let rng = Rng::new(options.seed);
        Self {
            options,
            rng,
            shares,
            number: 0,
            at: Duration::ZERO,
        }
    }

    fn user(&mut self) -> Option<u32> {
        let drawn = self.rng.below(*self.shares.last()?);
        let user = self.shares.partition_point(|&share| share <= drawn);
        u32::try_from(user).ok()
    }

    fn tier(&self, user: u32) -> Option<Tier> {
        let mut first = 0;
        let mut tiers = self.options.tiers.iter();
        let holds = |tier: &&Tier| {
            first += tier.users;
            user < first
        };
        tiers.find(holds).cloned()
    }

    /// Moves on to the next arrival.
    fn arrive(&mut self) -> Duration {
        let gap = match self.options.arrival {
            Arrival::AtOnce => Duration::ZERO,
            Arrival::Every(gap) => gap,
            Arrival::Poisson(mean) => mean.mul_f64(-(1.0 - self.rng.unit()).ln()),
        };
        self.at = self.at.saturating_add(gap);
        self.at
    }
}

impl Iterator for Workload {
    type Item = Job;

    fn next(&mut self) -> Option<Job> {
        let at = self.arrive();
        let user = self.user()?;
        let tier = self.tier(user)?;
        let number = self.number;
        self.number += 1;
        Some(Job {
            number,
            at,
            user,
            tier: tier.name,
            model: tier.model,
            input_tokens: tier.input.draw(&mut self.rng),
            output_tokens: tier.output.draw(&mut self.rng),
            max_tokens: self.options.max_tokens,
            streamed: self.rng.below(1_000) < u64::from(self.options.streamed_per_mille),
            seed: self.rng.next_u64(),
        })
    }
}

impl Job {
    /// The prompt's text: exactly `input_tokens` tokens of the OpenAI encodings.
    pub fn prompt(&self) -> String {
        words::text(&mut Rng::new(self.seed), self.input_tokens)
    }

    /// The call as OpenAI chat, with the header by which a mock answers at this length.
    pub fn call(&self) -> ApiCall {
        let mut call = ApiCall::chat(&self.model, &self.prompt()).output(self.output_tokens);
        if let Some(tokens) = self.max_tokens {
            call = call.max_tokens(tokens);
        }
        if self.streamed { call.streamed() } else { call }
    }
}
