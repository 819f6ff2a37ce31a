//! `/v1/chat/completions`.

use std::sync::Arc;

use super::{Piece, Voice, pad, put};
use crate::mock::plan::{Finish, Plan, Reported};

/// The whole answer.
pub(super) fn whole(plan: &Plan, out: &mut String) {
    put!(
        out,
        r#"{{"id":"chatcmpl-{}","object":"chat.completion","created":{},"model":{},"choices":["#,
        plan.id,
        plan.created,
        plan.model_json
    );
    for (index, choice) in plan.choices.iter().enumerate() {
        let comma = if index == 0 { "" } else { "," };
        put!(
            out,
            r#"{comma}{{"index":{index},"message":{{"role":"assistant","content":"{}","refusal":null,"annotations":[]}},"logprobs":null,"finish_reason":"{}"}}"#,
            choice.text(),
            finish(choice.finish)
        );
    }
    out.push(']');
    if let Some(reported) = &plan.reported {
        out.push_str(r#","usage":"#);
        usage(reported, out);
    }
    out.push_str(r#","service_tier":"default","system_fingerprint":"fp_mock"}"#);
}

/// The streamed answer.
pub(super) struct Chat {
    plan: Arc<Plan>,
    /// What every chunk begins with.
    start: String,
    /// What every chunk but that of the usage ends with.
    end: &'static str,
}

impl Chat {
    pub(super) fn new(plan: Arc<Plan>) -> Self {
        let start = format!(
            r#"data: {{"id":"chatcmpl-{}","object":"chat.completion.chunk","created":{},"model":{},"service_tier":"default","system_fingerprint":"fp_mock","choices":["#,
            plan.id, plan.created, plan.model_json
        );
        let end = chunk_end(&plan);
        Self { plan, start, end }
    }
}

impl Voice for Chat {
    fn head(&self, out: &mut String) {
        for index in 0..self.plan.choices.len() {
            put!(
                out,
                r#"{}{{"index":{index},"delta":{{"role":"assistant","content":"","refusal":null}},"logprobs":null,"finish_reason":null}}{}"#,
                self.start,
                self.end
            );
        }
    }

    fn delta(&self, piece: &Piece<'_>, out: &mut String) {
        put!(
            out,
            r#"{}{{"index":{},"delta":{{"content":"{}"}},"logprobs":null,"finish_reason":null}}{}"#,
            self.start,
            piece.choice,
            piece.text,
            self.end
        );
    }

    fn tail(&self, _deltas: u64, out: &mut String) {
        for (index, choice) in self.plan.choices.iter().enumerate() {
            put!(
                out,
                r#"{}{{"index":{index},"delta":{{}},"logprobs":null,"finish_reason":"{}"}}{}"#,
                self.start,
                finish(choice.finish),
                self.end
            );
        }
        usage_chunk(&self.plan, &self.start, out);
    }

    fn terminal(&self, _deltas: u64, out: &mut String) {
        out.push_str("data: [DONE]\n\n");
    }

    fn padding(&self, bytes: usize, out: &mut String) {
        out.push_str(&self.start);
        out.push_str(r#"{"index":0,"delta":{},"logprobs":null,"finish_reason":null}],"padding":""#);
        pad(bytes, out);
        out.push_str("\"}\n\n");
    }

    fn error(&self, out: &mut String) {
        error_event(out);
    }
}

/// The error that a chat or completions stream ends with.
pub(super) fn error_event(out: &mut String) {
    out.push_str("data: {\"error\":{\"message\":\"The server had an error while processing your request. Sorry about that!\",\"type\":\"server_error\",\"param\":null,\"code\":null}}\n\n");
}

pub(super) fn finish(finish: Finish) -> &'static str {
    match finish {
        Finish::Stop => "stop",
        Finish::Length => "length",
    }
}

/// Usage as chat and completions tell it.
pub(super) fn usage(told: &Reported, out: &mut String) {
    put!(
        out,
        r#"{{"prompt_tokens":{},"completion_tokens":{},"total_tokens":{},"prompt_tokens_details":{{"cached_tokens":{},"audio_tokens":0}},"completion_tokens_details":{{"reasoning_tokens":{},"audio_tokens":0,"accepted_prediction_tokens":0,"rejected_prediction_tokens":0}}}}"#,
        told.input,
        told.output,
        told.input.saturating_add(told.output),
        told.cached,
        told.reasoning
    );
}

/// The end of a chunk: OpenAI says `usage: null` in each where the last is to tell it.
pub(super) fn chunk_end(plan: &Plan) -> &'static str {
    match plan.include_usage {
        true => "],\"usage\":null}\n\n",
        false => "]}\n\n",
    }
}

/// The chunk that tells the usage, where it was asked for and is told.
pub(super) fn usage_chunk(plan: &Plan, start: &str, out: &mut String) {
    if let (true, Some(reported)) = (plan.include_usage, &plan.reported) {
        out.push_str(start);
        out.push_str(r#"],"usage":"#);
        usage(reported, out);
        out.push_str("}\n\n");
    }
}
