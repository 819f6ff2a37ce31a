//! The ways to serve a call, in the order in which they are tried.

use std::sync::Arc;

use tallygate_tokens::{Call, Endpoint, OutputClass, OutputEstimate, OutputPolicy};

use super::account::{AccountOf, Learning, Unattended, Uncounted};
use super::caller::Caller;
use super::descent::ServedBy;
use super::price::Price;
use super::size::{Certainty, Estimating, Size};
use crate::config::{Priced, Went};
use crate::gateway::Provider;

/// One way to serve a call.
pub(crate) struct Attempt<'a> {
    /// Where it stands.
    pub(crate) step: Step,
    /// The name its model is sent with.
    pub(crate) name: &'a str,
    /// What the model asked for counts as.
    pub(crate) asked: &'a str,
    /// What the model of this attempt counts as: the value of the label `model`.
    pub(crate) model: &'a str,
    /// The way to its upstream.
    pub(crate) provider: &'a Arc<Provider>,
    /// How its output is estimated.
    pub(crate) output: OutputPolicy,
}

/// Where an attempt stands below what was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// It is what was asked for.
    Asked,
    /// The caller's tier does not have what was asked for; this is the best it has instead.
    Instead,
    /// It is on the ladder below a quota of the tier.
    Below,
}

impl Step {
    /// Whether the tier's quotas count it like a call for what was asked.
    pub(crate) const fn went(self) -> Went {
        match self {
            Self::Asked | Self::Instead => Went::AsAsked,
            Self::Below => Went::Down,
        }
    }
}

/// A call of known size, as it is asked for.
pub(crate) struct Sized {
    pub(crate) call: Call,
    pub(crate) size: Size,
    pub(crate) price: Price,
}

impl<'a> Attempt<'a> {
    /// By which model it serves a caller of `tier`.
    pub(crate) fn served_by<'b>(&'b self, tier: Option<&'b str>) -> ServedBy<'b> {
        ServedBy {
            tier,
            step: self.step,
            from: self.asked,
            to: self.model,
        }
    }

    /// The labels that the server knows of `caller`'s call.
    pub(crate) fn labels(
        &self,
        caller: &Caller,
        endpoint: Endpoint,
    ) -> Vec<(&'static str, &'a str)> {
        let mut labels = vec![
            ("model", self.model),
            ("upstream", self.provider.upstream().name()),
            ("endpoint", endpoint.name()),
        ];
        labels.extend(caller.config().downgraded(self.step.went()));
        labels
    }

    /// How the output of `caller`'s call is estimated.
    pub(crate) fn estimating<'b>(
        &'b self,
        caller: &'b Caller,
        (endpoint, price): (Endpoint, &'b Price),
    ) -> Estimating<'b> {
        Estimating {
            class: OutputClass {
                model: self.model,
                tenant: caller.identity().label("tenant").unwrap_or_default(),
                endpoint,
            },
            policy: &self.output,
            price,
        }
    }

    /// What its tokens cost.
    pub(crate) fn price(&self, caller: &Caller) -> Price {
        caller.price(&Priced {
            name: self.name,
            label: self.model,
            upstream: Some(self.provider.upstream().name()),
        })
    }

    /// The account of `caller`'s call.
    pub(crate) fn account(&self, caller: &Caller, sized: Sized) -> AccountOf {
        let Sized { call, size, price } = sized;
        let learning = match self.output.estimate {
            OutputEstimate::Learned { .. } => Learning::On,
            _ => Learning::Off,
        };
        let unattended = match call.is_background() {
            true => Unattended::GoesOn,
            false => Unattended::Stops,
        };
        let model: Arc<str> = Arc::from(self.model);
        let asked = match self.asked == self.model {
            true => Arc::clone(&model),
            false => Arc::from(self.asked),
        };
        AccountOf {
            model,
            asked,
            identity: Arc::clone(caller.identity()),
            endpoint: call.endpoint(),
            upstream: Arc::clone(self.provider.upstream()),
            size,
            price,
            learning,
            unattended,
            uncounted: match size.certainty {
                Certainty::Counted => None,
                Certainty::Bounded => Some(Box::new(Uncounted {
                    call,
                    policy: self.output,
                })),
            },
        }
    }
}
