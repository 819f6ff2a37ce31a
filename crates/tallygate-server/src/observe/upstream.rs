//! What upstreams answered, and how well calls to them were sized.

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Unit;

use super::Answered;
use super::labels::{AnswerLabels, EstimateLabels, Named, TokenLabels, UpstreamLabels};
use super::telling::{Histograms, Telling};

/// Powers of 4 from 1 to 4^13: the buckets that OpenTelemetry advises for `gen_ai.client.token.usage`.
const TOKENS: [f64; 14] = [
    1.0,
    4.0,
    16.0,
    64.0,
    256.0,
    1_024.0,
    4_096.0,
    16_384.0,
    65_536.0,
    262_144.0,
    1_048_576.0,
    4_194_304.0,
    16_777_216.0,
    67_108_864.0,
];
/// OpenTelemetry's for `gen_ai.server.request.duration`.
const ANSWER_SECONDS: [f64; 14] = [
    0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92,
];
/// OpenTelemetry's for `gen_ai.server.time_to_first_token`.
const FIRST_TOKEN_SECONDS: [f64; 16] = [
    0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0,
];
/// Around 1, which is a perfect estimate.
const RATIOS: [f64; 14] = [
    0.25, 0.5, 0.75, 0.9, 0.95, 0.98, 1.0, 1.02, 1.05, 1.1, 1.25, 1.5, 2.0, 4.0,
];

#[derive(Debug)]
pub(super) struct UpstreamMetrics {
    responses: Family<UpstreamLabels, Counter>,
    durations: Histograms<AnswerLabels>,
    first_tokens: Histograms<AnswerLabels>,
    usage: Histograms<TokenLabels>,
    estimates: Histograms<EstimateLabels>,
}

impl UpstreamMetrics {
    pub(super) fn register(tell: &mut Telling<'_>) -> Self {
        let duration = (
            "gen_ai_server_request_duration",
            "Time from sending a call to the end of its answer",
            Unit::Seconds,
        );
        let first = (
            "gen_ai_server_time_to_first_token",
            "Time from sending a call to the first of a streamed answer",
            Unit::Seconds,
        );
        let estimate = (
            "tallygate_estimate",
            "Tokens estimated before the call, by tokens used",
            Unit::Ratios,
        );
        Self {
            responses: tell.counters(
                "tallygate_upstream_responses",
                "Answers of upstreams, by status or failure",
            ),
            durations: tell.histograms(duration, || Histogram::new(ANSWER_SECONDS)),
            first_tokens: tell.histograms(first, || Histogram::new(FIRST_TOKEN_SECONDS)),
            usage: tell.unitless(
                ("gen_ai_client_token_usage", "Tokens used by a call"),
                || Histogram::new(TOKENS),
            ),
            estimates: tell.histograms(estimate, || Histogram::new(RATIOS)),
        }
    }

    pub(super) fn answered(&self, answer: &Answered<'_>, status: Named, labels: &AnswerLabels) {
        let upstream = UpstreamLabels {
            upstream: answer.upstream.to_owned(),
            status,
        };
        self.responses.get_or_create(&upstream).inc();
        self.durations
            .get_or_create(labels)
            .observe(answer.took.as_secs_f64());
        if let Some(first) = answer.first_token {
            self.first_tokens
                .get_or_create(labels)
                .observe(first.as_secs_f64());
        }
    }

    pub(super) fn used(&self, labels: &TokenLabels, tokens: u64) {
        self.usage.get_or_create(labels).observe(float(tokens));
    }

    /// A call that used nothing says nothing of the estimate.
    pub(super) fn sized(&self, labels: &EstimateLabels, estimated: u64, used: u64) {
        if used > 0 {
            self.estimates
                .get_or_create(labels)
                .observe(float(estimated) / float(used));
        }
    }
}

/// A number as the histograms want it: exact up to 2^53, the largest amount.
#[expect(
    clippy::as_conversions,
    reason = "u64 has no other way to f64, and a metric may be rounded"
)]
fn float(number: u64) -> f64 {
    number as f64
}
