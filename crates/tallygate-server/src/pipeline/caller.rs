//! Who sent a request, and what the configuration says of it.

use std::sync::Arc;

use http::{HeaderMap, Uri};
use tallygate_core::text::is_printable;
use tallygate_tokens::Endpoint;

use super::{Attempt, Pipeline, Setup, Step};
use crate::config::{Config, Forbidden, Route, Rung};
use crate::identify::{Downgrade, Identity, MAX_LABEL_VALUE, Role};
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
    match is_printable(model) {
        _ if model.len() > MAX_LABEL_VALUE => refused("the model's name is longer than 256 bytes"),
        true => Ok(()),
        false => refused("the model's name has control characters"),
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

    /// Who it is, for as long as an answer passes.
    pub(crate) fn owner(&self) -> Arc<Identity> {
        Arc::clone(&self.identity)
    }

    /// Who it is.
    pub(crate) fn identity(&self) -> &Arc<Identity> {
        &self.identity
    }

    /// Whether cheaper models are taken for the one asked for, by whoever wants less.
    pub(crate) fn takes(&self, willing: Downgrade) -> Downgrade {
        match willing {
            Downgrade::Never => Downgrade::Never,
            Downgrade::Allow => self.identity.downgrade(),
        }
    }

    /// The ways in which a call for the model `asked` may be served, the best first. There is at least one.
    ///
    /// # Errors
    /// When nobody serves it, or the caller's tier does not have it and nothing in its place.
    pub(crate) fn attempts<'a>(
        &'a self,
        endpoint: Endpoint,
        asked: &'a str,
        willing: Downgrade,
    ) -> Result<Vec<Attempt<'a>>, ApiError> {
        check_name(asked)?;
        let config = self.config();
        let route = config.route(endpoint, asked)?;
        let model = route.model;
        let tier = self.identity.label("tier");
        let mut rungs = match self.takes(willing) {
            Downgrade::Allow => config.ladder(tier, model),
            Downgrade::Never => Vec::new(),
        };
        rungs.retain(|rung| rung.serves(endpoint));
        let spelt = |rung: &Rung<'a>| match rung.route.model == model {
            true => asked,
            false => rung.name,
        };
        let first = match (config.permits(&self.identity, model), rungs.first()) {
            (Ok(()), _) => self.attempt(Step::Asked, (asked, model), route)?,
            (Err(Forbidden::Model { .. }), Some(best)) => {
                self.attempt(Step::Instead, (best.name, model), best.route.clone())?
            }
            (Err(forbidden), _) => return Err(forbidden.into()),
        };
        // Its own model again, where that makes a difference.
        let again = config.tells_downgraded(tier);
        rungs.retain(|rung| again || rung.route.model != first.model);
        let below = rungs.into_iter().map(|rung| {
            let name = spelt(&rung);
            self.attempt(Step::Below, (name, model), rung.route)
        });
        std::iter::once(Ok(first)).chain(below).collect()
    }

    fn attempt<'a>(
        &'a self,
        step: Step,
        (name, asked): (&'a str, &'a str),
        route: Route<'a>,
    ) -> Result<Attempt<'a>, ApiError> {
        let provider = self.setup.provider(route.upstream);
        Ok(Attempt {
            step,
            name,
            asked,
            model: route.model,
            provider: provider.ok_or(ApiError::Internal)?,
            output: route.output,
        })
    }
}

/// A caller's say in whether it takes a cheaper model: `never`, or `allow` if it says nothing.
const DOWNGRADE: &str = "x-tallygate-downgrade";

/// What the headers of a request say of cheaper models.
///
/// # Errors
/// When they say something else than they may.
pub(crate) fn willing(headers: &HeaderMap) -> Result<Downgrade, ApiError> {
    let Some(value) = headers.get(DOWNGRADE) else {
        return Ok(Downgrade::Allow);
    };
    let said = Downgrade::WORDS
        .into_iter()
        .find(|(word, _)| value.as_bytes().eq_ignore_ascii_case(word.as_bytes()));
    let wrong = || ApiError::invalid(format!("the header {DOWNGRADE} takes never or allow"), None);
    said.map(|(_, downgrade)| downgrade).ok_or_else(wrong)
}
