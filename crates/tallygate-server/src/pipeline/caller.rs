//! Who sent a request, and what the configuration says of it.

use std::sync::Arc;

use http::{HeaderMap, Uri};
use tallygate_tokens::Endpoint;

use super::{Attempt, Pipeline, Setup};
use crate::config::{Config, Route};
use crate::identify::{Identity, MAX_LABEL_VALUE, Role};
use crate::wire::ApiError;

/// Who sent a request, and the configuration it is served by to its end, whatever is reloaded meanwhile.
#[derive(Clone)]
pub(crate) struct Caller {
    setup: Arc<Setup>,
    identity: Arc<Identity>,
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
        let now = || self.stamp();
        let identity = setup.keyring().identify(headers, uri.query(), now)?;
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
    pub(crate) fn identity(&self) -> &Arc<Identity> {
        &self.identity
    }

    /// The ways in which a call for the model `asked` may be served, the best first. There is at least one.
    ///
    /// # Errors
    /// When nobody serves it, or the caller's tier does not have it.
    pub(crate) fn attempts<'a>(
        &'a self,
        endpoint: Endpoint,
        asked: &'a str,
    ) -> Result<Vec<Attempt<'a>>, ApiError> {
        check_name(asked)?;
        let route = self.config().route(endpoint, asked)?;
        self.config().permits(&self.identity, route.model)?;
        Ok(vec![self.attempt(route.model, route)?])
    }

    fn attempt<'a>(&'a self, asked: &'a str, route: Route<'a>) -> Result<Attempt<'a>, ApiError> {
        let provider = self.setup.provider(route.upstream);
        Ok(Attempt {
            asked,
            model: route.model,
            provider: provider.ok_or(ApiError::Internal)?,
            output: route.output,
        })
    }
}
