//! How large a call is, before it leaves.

use std::sync::Arc;

use bytes::Bytes;
use tallygate_tokens::{
    Call, CallError, Count, Counter, Endpoint, Estimate, Method, OutputClass, OutputEstimate,
    OutputPolicy, output_estimate,
};

use super::Pipeline;
use crate::wire::ApiError;

/// Bodies above this are parsed and counted off the async workers, which are to be held for no more than a
/// millisecond: parsing and counting run at 100 MB/s or so.
const COUNTED_IN_PLACE: usize = 64 * 1024;

/// A call as it was asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Asked {
    /// What is called.
    pub(crate) endpoint: Endpoint,
    /// The model, where the path names it.
    pub(crate) path_model: Option<Box<str>>,
}

impl Pipeline {
    /// Reads a body as a call and counts its input.
    ///
    /// # Errors
    /// When the body is no such call.
    pub(crate) async fn count(
        &self,
        asked: &Asked,
        body: &Bytes,
    ) -> Result<(Call, Count), ApiError> {
        if body.len() <= COUNTED_IN_PLACE {
            return Ok(count(
                &self.counter,
                asked.endpoint,
                asked.path_model.as_deref(),
                body,
            )?);
        }
        let _turn = self.counting.acquire().await;
        let (body, endpoint, counter) = (body.clone(), asked.endpoint, Arc::clone(&self.counter));
        let path_model = asked.path_model.clone();
        let counting = tokio::task::spawn_blocking(move || {
            count(&counter, endpoint, path_model.as_deref(), &body)
        });
        Ok(counting.await.map_err(|_| ApiError::Internal)??)
    }

    /// What to hold for the output of `call`.
    pub(crate) fn estimate(
        &self,
        call: &Call,
        input: u64,
        class: &OutputClass<'_>,
        policy: &OutputPolicy,
    ) -> Estimate {
        let learned = match policy.estimate {
            OutputEstimate::Learned {
                quantile_per_mille, ..
            } => self
                .learner
                .lock()
                .quantile(class, input, quantile_per_mille),
            _ => None,
        };
        output_estimate(call, input, policy, learned)
    }
}

fn count(
    counter: &Counter,
    endpoint: Endpoint,
    path_model: Option<&str>,
    body: &[u8],
) -> Result<(Call, Count), CallError> {
    let call = Call::parse(endpoint, path_model, body)?;
    let input = match endpoint {
        // Counting is free of tokens, at the provider too.
        Endpoint::CountTokens => Count {
            tokens: 0,
            method: Method::Exact,
        },
        _ => counter.input(&call),
    };
    Ok((call, input))
}
