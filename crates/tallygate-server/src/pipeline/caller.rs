//! Who sent a request, and what the configuration says of it.

use std::sync::Arc;

use http::{HeaderMap, Uri};
use tallygate_tokens::{Call, Endpoint, OutputClass, OutputEstimate, OutputPolicy};

use super::account::{AccountOf, Learning, Unattended, Uncounted};
use super::size::{Certainty, Size};
use super::{Pipeline, Setup};
use crate::config::Config;
use crate::gateway::Provider;
use crate::identify::{Identity, MAX_LABEL_VALUE, Role};
use crate::wire::ApiError;

/// Who sent a request, and the configuration it is served by to its end, whatever is reloaded meanwhile.
#[derive(Clone)]
pub(crate) struct Caller {
    setup: Arc<Setup>,
    identity: Arc<Identity>,
}

/// Where a call goes.
pub(crate) struct Routed<'a> {
    /// What the model counts as.
    pub(crate) model: &'a str,
    /// The way to its upstream.
    pub(crate) provider: &'a Arc<Provider>,
    /// How its output is estimated.
    pub(crate) output: OutputPolicy,
}

impl Routed<'_> {
    /// Who calls what here, for a `call` of this size.
    pub(crate) fn account(&self, class: OutputClass<'_>, call: Call, size: Size) -> AccountOf {
        let learning = match self.output.estimate {
            OutputEstimate::Learned { .. } => Learning::On,
            _ => Learning::Off,
        };
        let unattended = match call.is_background() {
            true => Unattended::GoesOn,
            false => Unattended::Stops,
        };
        let uncounted = match size.certainty {
            Certainty::Counted => None,
            Certainty::Bounded => Some(Box::new(Uncounted {
                call,
                policy: self.output,
            })),
        };
        AccountOf {
            model: Arc::from(class.model),
            tenant: Arc::from(class.tenant),
            endpoint: class.endpoint,
            upstream: Arc::clone(self.provider.upstream()),
            size,
            learning,
            unattended,
            uncounted,
        }
    }
}

impl Pipeline {
    /// Finds out who sent a request, and whether it may do what it wants.
    ///
    /// # Errors
    /// When no key came, or one that is not known or has not the `role`.
    pub(crate) fn identify(
        &self,
        headers: &HeaderMap,
        uri: &Uri,
        role: Role,
    ) -> Result<Caller, ApiError> {
        let setup = self.setup();
        let identity = setup.config().keyring().identify(headers, uri.query())?;
        match identity.may(role) {
            true => Ok(Caller { setup, identity }),
            false => Err(ApiError::Role(role)),
        }
    }
}

/// A model's name becomes a label's value, and each makes counters: it has the bound of every such value. It is also shown
/// in metrics, which people read at terminals.
///
/// # Errors
/// When it is longer, or has control characters.
pub(crate) fn check_name(model: &str) -> Result<(), ApiError> {
    let refused = |why: &str| Err(ApiError::invalid(why, Some("model")));
    match model.chars().any(char::is_control) {
        _ if model.len() > MAX_LABEL_VALUE => refused("the model's name is longer than 256 bytes"),
        true => refused("the model's name has control characters"),
        false => Ok(()),
    }
}

impl Caller {
    /// The configuration.
    pub(crate) fn config(&self) -> &Config {
        self.setup.config()
    }

    /// The configuration with the ways to its upstreams.
    pub(crate) fn setup(&self) -> &Setup {
        &self.setup
    }

    /// Who it is.
    pub(crate) fn identity(&self) -> &Identity {
        &self.identity
    }

    /// Where a call for the model `asked` goes.
    ///
    /// # Errors
    /// When nobody serves it, or the caller's tier does not have it.
    pub(crate) fn route<'a>(
        &'a self,
        endpoint: Endpoint,
        asked: &'a str,
    ) -> Result<Routed<'a>, ApiError> {
        check_name(asked)?;
        let route = self.config().route(endpoint, asked)?;
        self.config().permits(&self.identity, route.model)?;
        let provider = self
            .setup
            .provider(route.upstream)
            .ok_or(ApiError::Internal)?;
        Ok(Routed {
            model: route.model,
            provider,
            output: route.output,
        })
    }

    /// The class of calls that a call of this caller is learnt in.
    pub(crate) fn class<'a>(&'a self, endpoint: Endpoint, model: &'a str) -> OutputClass<'a> {
        OutputClass {
            model,
            tenant: self.identity.label("tenant").unwrap_or_default(),
            endpoint,
        }
    }
}
