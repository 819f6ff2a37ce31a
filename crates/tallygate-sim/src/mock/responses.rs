//! What the Responses dialect remembers from call to call.

use std::collections::HashMap;

use super::plan::Plan;

/// Most responses remembered; one more makes all be forgotten.
pub const MAX_RESPONSES: usize = 4_096;

/// The tokens of earlier responses, which `previous_response_id` adds to an input.
#[derive(Debug, Default)]
pub(crate) struct Responses(HashMap<String, u64>);

impl Responses {
    /// Input and output of the response with this id.
    pub(crate) fn tokens_of(&self, id: &str) -> Option<u64> {
        self.0.get(id).copied()
    }

    pub(crate) fn remember(&mut self, plan: &Plan) {
        if self.0.len() >= MAX_RESPONSES {
            self.0.clear();
        }
        self.0
            .insert(format!("resp_{}", plan.id), plan.input + plan.output());
    }
}
