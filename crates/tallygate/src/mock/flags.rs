//! The mock's switches on the command line.

use std::time::Duration;

use clap::{Args, ValueEnum};
use tallygate_sim::mock::{Chance, Failure, Fault, Keys, Lie, MockOptions, Switches};
use tallygate_sim::{Charging, MockLimit, MockMetric, Sizes};

/// The provider's own limits. Each counts each key and model apart.
#[derive(Debug, Args)]
#[command(next_help_heading = "Limits")]
pub(super) struct Limits {
    /// Calls a minute
    #[arg(long, value_name = "N")]
    requests_per_minute: Option<u64>,

    /// Input and output tokens a minute
    #[arg(long, value_name = "N")]
    tokens_per_minute: Option<u64>,

    /// Input tokens a minute
    #[arg(long, value_name = "N")]
    input_tokens_per_minute: Option<u64>,

    /// Output tokens a minute
    #[arg(long, value_name = "N")]
    output_tokens_per_minute: Option<u64>,

    /// How the limits refill
    #[arg(long, value_enum, default_value_t = Refill::Bucket)]
    shape: Refill,

    /// When and what a call costs the token limits
    #[arg(long, value_enum, default_value_t = Charge::Admission)]
    charging: Charge,
}

/// How the mock's limits refill.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum Refill {
    /// Continuously, full at the start
    Bucket,
    /// Never more than the amount in any minute
    Sliding,
}

/// What a call costs the mock's limits.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum Charge {
    /// max(max_tokens, characters / 4) when it arrives, never corrected (OpenAI)
    Admission,
    /// Counted input and max_tokens when it arrives, never corrected (Azure)
    InputPlusMaxTokens,
    /// What is really used, as it is used (Anthropic)
    TrueUsage,
}

impl Limits {
    pub(super) fn list(&self) -> Vec<MockLimit> {
        let amounts = [
            (MockMetric::Requests, self.requests_per_minute),
            (MockMetric::Tokens, self.tokens_per_minute),
            (MockMetric::InputTokens, self.input_tokens_per_minute),
            (MockMetric::OutputTokens, self.output_tokens_per_minute),
        ];
        let limit = |(metric, amount): (MockMetric, Option<u64>)| Some(self.limit(metric, amount?));
        amounts.into_iter().filter_map(limit).collect()
    }

    fn limit(&self, metric: MockMetric, amount: u64) -> MockLimit {
        let limit = MockLimit::per_minute(metric, amount).charging(match self.charging {
            Charge::Admission => Charging::Admission,
            Charge::InputPlusMaxTokens => Charging::InputPlusMaxTokens,
            Charge::TrueUsage => Charging::TrueUsage,
        });
        match self.shape {
            Refill::Bucket => limit,
            Refill::Sliding => limit.sliding(),
        }
    }
}

/// How the provider answers, well or badly.
#[derive(Debug, Args)]
#[command(next_help_heading = "Answers and faults")]
pub(super) struct Behaviour {
    /// Output tokens of each answer, up to max_tokens; random lengths unless given
    #[arg(long, value_name = "N")]
    output_tokens: Option<u64>,

    /// Milliseconds to the first token
    #[arg(long, value_name = "MS")]
    first_token_ms: Option<u64>,

    /// Microseconds for each output token
    #[arg(long, value_name = "US")]
    token_us: Option<u64>,

    /// The only key that is known; may be repeated. Any key unless given
    #[arg(long, value_name = "KEY")]
    key: Vec<String>,

    /// What the usage says
    #[arg(long, value_enum)]
    usage: Option<Usage>,

    /// Answer calls with this error status
    #[arg(long, value_name = "STATUS", value_parser = clap::value_parser!(u16).range(400..600), group = "fault")]
    fail: Option<u16>,

    /// Close the connection after so many events of a stream
    #[arg(long, value_name = "EVENTS", group = "fault")]
    cut_after: Option<u64>,

    /// Send nothing more after so many events of a stream
    #[arg(long, value_name = "EVENTS", group = "fault")]
    stall_after: Option<u64>,

    /// Send the dialect's error event after so many events of a stream
    #[arg(long, value_name = "EVENTS", group = "fault")]
    error_after: Option<u64>,

    /// How many of a thousand calls the fault hits
    #[arg(
        long,
        value_name = "PER MILLE",
        default_value_t = 1000,
        requires = "fault"
    )]
    fault_share: u32,
}

/// What the mock says of its tokens.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum Usage {
    /// Nothing
    Missing,
    /// That there were none
    Zero,
    /// Half of the truth
    Half,
    /// Twice the truth
    Double,
}

impl Behaviour {
    pub(super) fn options(&self, seed: u64, limits: Vec<MockLimit>) -> MockOptions {
        let fault = self.fault();
        let chance = fault.map(|fault| Chance {
            per_mille: self.fault_share,
            switches: Switches {
                fault: Some(fault),
                ..Switches::default()
            },
        });
        let defaults = MockOptions::default();
        MockOptions {
            seed,
            limits,
            output: self.output_tokens.map_or(defaults.output, Sizes::fixed),
            switches: self.switches(),
            chances: chance.into_iter().collect(),
            keys: if self.key.is_empty() {
                Keys::Any
            } else {
                Keys::Only(self.key.clone())
            },
            ..defaults
        }
    }

    fn switches(&self) -> Switches {
        Switches {
            first_token: self.first_token_ms.map(Duration::from_millis),
            per_token: self.token_us.map(Duration::from_micros),
            usage: self.usage.map(|usage| match usage {
                Usage::Missing => Lie::Missing,
                Usage::Zero => Lie::Zero,
                Usage::Half => Lie::PerMille(500),
                Usage::Double => Lie::PerMille(2000),
            }),
            ..Switches::default()
        }
    }

    fn fault(&self) -> Option<Fault> {
        let status = self.fail.map(|status| Fault::Status(Failure::of(status)));
        status
            .or(self.cut_after.map(Fault::CutAfter))
            .or(self.stall_after.map(Fault::StallAfter))
            .or(self.error_after.map(Fault::ErrorAfter))
    }
}
