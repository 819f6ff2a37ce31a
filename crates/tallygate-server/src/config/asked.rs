//! What the gateway would say of a call, from its model alone.

use tallygate_tokens::Endpoint;

use super::{Config, NoRoute};

/// The usual endpoint of each dialect.
const USUAL: [Endpoint; 3] = [
    Endpoint::ChatCompletions,
    Endpoint::Messages,
    Endpoint::GenerateContent,
];

impl Config {
    /// The labels that the gateway gives a call for `model` at the usual endpoint of its dialect: `model`, and where there are
    /// upstreams also `upstream` and `endpoint`.
    ///
    /// # Errors
    /// When no upstream serves it.
    pub fn labels_of_call(&self, model: &str) -> Result<Vec<(&'static str, String)>, NoRoute> {
        if self.upstreams().is_empty() {
            return Ok(vec![("model", self.model_label(model).0.to_owned())]);
        }
        let endpoint = self.usual_endpoint(model);
        let route = self.route(endpoint, model)?;
        Ok(vec![
            ("model", route.model.to_owned()),
            ("upstream", route.upstream.name().to_owned()),
            ("endpoint", endpoint.name().to_owned()),
        ])
    }

    /// The usual endpoint of the dialect that serves the model.
    fn usual_endpoint(&self, model: &str) -> Endpoint {
        let named = self.model_label(model).1.map(|upstream| upstream.dialect());
        let by_name = match model {
            name if name.contains("claude") => Endpoint::Messages,
            name if name.contains("gemini") => Endpoint::GenerateContent,
            _ => Endpoint::ChatCompletions,
        };
        let served = |endpoint: &Endpoint| match named {
            Some(dialect) => endpoint.dialect() == dialect,
            None => *endpoint == by_name && self.upstream_for(endpoint.dialect()).is_some(),
        };
        let fallback = self.upstreams().first().map(|upstream| upstream.dialect());
        let first = |endpoint: &&Endpoint| Some(endpoint.dialect()) == fallback;
        USUAL
            .iter()
            .find(|endpoint| served(endpoint))
            .or_else(|| USUAL.iter().find(first))
            .copied()
            .unwrap_or(by_name)
    }
}
