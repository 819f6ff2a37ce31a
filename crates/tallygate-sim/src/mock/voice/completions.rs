//! `/v1/completions`, the legacy endpoint.

use std::sync::Arc;

use super::{Piece, Voice, chat, pad, put};
use crate::mock::plan::Plan;

/// The whole answer.
pub(super) fn whole(plan: &Plan, out: &mut String) {
    put!(
        out,
        r#"{{"id":"cmpl-{}","object":"text_completion","created":{},"model":{},"choices":["#,
        plan.id,
        plan.created,
        plan.model_json
    );
    for (index, choice) in plan.choices.iter().enumerate() {
        let comma = if index == 0 { "" } else { "," };
        put!(
            out,
            r#"{comma}{{"text":"{}","index":{index},"logprobs":null,"finish_reason":"{}"}}"#,
            choice.text(),
            chat::finish(choice.finish)
        );
    }
    out.push(']');
    if let Some(reported) = &plan.reported {
        out.push_str(r#","usage":"#);
        chat::usage(reported, out);
    }
    out.push('}');
}

/// The streamed answer.
pub(super) struct Completions {
    plan: Arc<Plan>,
    start: String,
    end: &'static str,
}

impl Completions {
    pub(super) fn new(plan: Arc<Plan>) -> Self {
        let start = format!(
            r#"data: {{"id":"cmpl-{}","object":"text_completion","created":{},"model":{},"choices":["#,
            plan.id, plan.created, plan.model_json
        );
        let end = chat::chunk_end(&plan);
        Self { plan, start, end }
    }
}

impl Voice for Completions {
    fn head(&self, _out: &mut String) {}

    fn delta(&self, piece: &Piece<'_>, out: &mut String) {
        put!(
            out,
            r#"{}{{"text":"{}","index":{},"logprobs":null,"finish_reason":null}}{}"#,
            self.start,
            piece.text,
            piece.choice,
            self.end
        );
    }

    fn tail(&self, _deltas: u64, out: &mut String) {
        for (index, choice) in self.plan.choices.iter().enumerate() {
            put!(
                out,
                r#"{}{{"text":"","index":{index},"logprobs":null,"finish_reason":"{}"}}{}"#,
                self.start,
                chat::finish(choice.finish),
                self.end
            );
        }
        chat::usage_chunk(&self.plan, &self.start, out);
    }

    fn terminal(&self, _deltas: u64, out: &mut String) {
        out.push_str("data: [DONE]\n\n");
    }

    fn padding(&self, bytes: usize, out: &mut String) {
        out.push_str(&self.start);
        out.push_str(r#"{"text":"","index":0,"logprobs":null,"finish_reason":null}],"padding":""#);
        pad(bytes, out);
        out.push_str("\"}\n\n");
    }

    fn error(&self, out: &mut String) {
        chat::error_event(out);
    }
}
