//! `/v1/messages` and `/v1/messages/count_tokens`.

use std::sync::Arc;

use super::{Piece, Voice, pad, put};
use crate::mock::plan::{Finish, Plan, Reported};

/// The whole answer.
pub(super) fn whole(plan: &Plan, out: &mut String) {
    let text = plan
        .choices
        .first()
        .map(|choice| choice.text())
        .unwrap_or_default();
    put!(
        out,
        r#"{{"id":"msg_{}","type":"message","role":"assistant","model":{},"content":[{{"type":"text","text":"{text}"}}],"stop_reason":"{}","stop_sequence":null"#,
        plan.id,
        plan.model_json,
        stop_reason(plan)
    );
    if let Some(told) = &plan.reported {
        put!(out, r#","usage":{}"#, usage(told, told.output));
    }
    out.push('}');
}

/// The answer of `count_tokens`.
pub(super) fn count(plan: &Plan, out: &mut String) {
    put!(out, r#"{{"input_tokens":{}}}"#, plan.input);
}

/// The streamed answer.
pub(super) struct Messages(Arc<Plan>);

impl Messages {
    pub(super) fn new(plan: Arc<Plan>) -> Self {
        Self(plan)
    }
}

impl Voice for Messages {
    fn head(&self, out: &mut String) {
        put!(
            out,
            "event: message_start\ndata: {{\"type\":\"message_start\",\"message\":{{\"id\":\"msg_{}\",\"type\":\"message\",\"role\":\"assistant\",\"model\":{},\"content\":[],\"stop_reason\":null,\"stop_sequence\":null",
            self.0.id,
            self.0.model_json
        );
        if let Some(told) = &self.0.reported {
            put!(out, r#","usage":{}"#, usage(told, told.output.min(1)));
        }
        out.push_str("}}\n\nevent: content_block_start\ndata: {\"type\":\"content_block_start\",\"index\":0,\"content_block\":{\"type\":\"text\",\"text\":\"\"}}\n\nevent: ping\ndata: {\"type\":\"ping\"}\n\n");
    }

    fn delta(&self, piece: &Piece<'_>, out: &mut String) {
        put!(
            out,
            "event: content_block_delta\ndata: {{\"type\":\"content_block_delta\",\"index\":0,\"delta\":{{\"type\":\"text_delta\",\"text\":\"{}\"}}}}\n\n",
            piece.text
        );
    }

    fn tail(&self, _deltas: u64, out: &mut String) {
        out.push_str(
            "event: content_block_stop\ndata: {\"type\":\"content_block_stop\",\"index\":0}\n\n",
        );
        put!(
            out,
            "event: message_delta\ndata: {{\"type\":\"message_delta\",\"delta\":{{\"stop_reason\":\"{}\",\"stop_sequence\":null}}",
            stop_reason(&self.0)
        );
        if let Some(told) = &self.0.reported {
            put!(out, r#","usage":{{"output_tokens":{}}}"#, told.output);
        }
        out.push_str("}\n\n");
    }

    fn terminal(&self, _deltas: u64, out: &mut String) {
        out.push_str("event: message_stop\ndata: {\"type\":\"message_stop\"}\n\n");
    }

    fn padding(&self, bytes: usize, out: &mut String) {
        out.push_str("event: ping\ndata: {\"type\":\"ping\",\"padding\":\"");
        pad(bytes, out);
        out.push_str("\"}\n\n");
    }

    fn error(&self, out: &mut String) {
        out.push_str("event: error\ndata: {\"type\":\"error\",\"error\":{\"type\":\"overloaded_error\",\"message\":\"Overloaded\"}}\n\n");
    }
}

/// Usage with `input_tokens` without cache, as Anthropic tells it.
fn usage(told: &Reported, output: u64) -> String {
    format!(
        r#"{{"input_tokens":{},"cache_creation_input_tokens":0,"cache_read_input_tokens":{},"output_tokens":{output},"service_tier":"standard"}}"#,
        told.input - told.cached,
        told.cached
    )
}

fn stop_reason(plan: &Plan) -> &'static str {
    match plan.choices.first().map(|choice| choice.finish) {
        Some(Finish::Length) => "max_tokens",
        _ => "end_turn",
    }
}
