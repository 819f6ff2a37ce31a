//! The label sets of metrics.

use std::fmt::{self, Write};
use std::sync::Arc;

use prometheus_client::encoding::{
    EncodeLabelSet, EncodeLabelValue, LabelSetEncoder, LabelValueEncoder,
};

/// Which door a request came through.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Door {
    /// The gateway.
    Gateway,
    /// The decision API.
    Decision,
}

/// A stage of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Stage {
    /// Finding out who asks.
    Identify,
    /// Parsing and counting.
    Size,
    /// Asking the limits.
    Admit,
    /// Preparing the request to the upstream.
    Forward,
    /// Closing the account.
    Settle,
}

impl Door {
    /// The label's value.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Gateway => "gateway",
            Self::Decision => "decision",
        }
    }
}

impl Stage {
    /// All of them, in the order of a request.
    pub const ALL: [Self; 5] = [
        Self::Identify,
        Self::Size,
        Self::Admit,
        Self::Forward,
        Self::Settle,
    ];

    /// The label's value.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Identify => "identify",
            Self::Size => "size",
            Self::Admit => "admit",
            Self::Forward => "forward",
            Self::Settle => "settle",
        }
    }
}

/// A value that is one of ours, or a status.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Named {
    Word(&'static str),
    Status(u16),
}

impl EncodeLabelValue for Named {
    fn encode(&self, encoder: &mut LabelValueEncoder) -> fmt::Result {
        match self {
            Self::Word(word) => encoder.write_str(word),
            Self::Status(status) => write!(encoder, "{status}"),
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct DecisionLabels {
    pub(super) door: &'static str,
    pub(super) decision: &'static str,
    pub(super) reason: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct RefusalLabels {
    pub(super) door: &'static str,
    pub(super) reason: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct DowngradeLabels {
    pub(super) from: Arc<str>,
    pub(super) to: Arc<str>,
    pub(super) reason: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct LimitLabels {
    pub(super) limit: Arc<str>,
    pub(super) metric: Arc<str>,
    pub(super) decision: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct MetricLabels {
    pub(super) metric: Arc<str>,
}

/// One label whose name is `decision`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct OutcomeLabels {
    pub(super) outcome: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct UpstreamLabels {
    pub(super) upstream: String,
    pub(super) status: Named,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct EstimateLabels {
    pub(super) model: Arc<str>,
    pub(super) kind: &'static str,
    pub(super) method: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct StageLabels {
    pub(super) stage: &'static str,
}

/// The attributes that OpenTelemetry's conventions for generative AI name.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct AnswerLabels {
    pub(super) operation: &'static str,
    pub(super) provider: &'static str,
    pub(super) request_model: Arc<str>,
    pub(super) response_model: Option<Arc<str>>,
    pub(super) error_type: Option<Named>,
}

impl EncodeLabelSet for AnswerLabels {
    fn encode(&self, encoder: &mut LabelSetEncoder) -> fmt::Result {
        use prometheus_client::encoding::EncodeLabel;
        ("gen_ai_operation_name", self.operation).encode(encoder.encode_label())?;
        ("gen_ai_provider_name", self.provider).encode(encoder.encode_label())?;
        ("gen_ai_request_model", &*self.request_model).encode(encoder.encode_label())?;
        if let Some(model) = &self.response_model {
            ("gen_ai_response_model", &**model).encode(encoder.encode_label())?;
        }
        match self.error_type {
            Some(error) => ("error_type", error).encode(encoder.encode_label()),
            None => Ok(()),
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct TokenLabels {
    pub(super) answer: AnswerLabels,
    pub(super) kind: &'static str,
}

impl EncodeLabelSet for TokenLabels {
    fn encode(&self, encoder: &mut LabelSetEncoder) -> fmt::Result {
        use prometheus_client::encoding::EncodeLabel;
        self.answer.encode(encoder)?;
        ("gen_ai_token_type", self.kind).encode(encoder.encode_label())
    }
}
