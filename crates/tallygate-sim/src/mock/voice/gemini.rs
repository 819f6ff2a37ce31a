//! Gemini's `generateContent` and `streamGenerateContent`.

use std::sync::Arc;

use super::{Framing, Piece, Voice, pad, put};
use crate::mock::plan::{Choice, Finish, Plan};

/// The whole answer.
pub(super) fn whole(plan: &Plan, out: &mut String) {
    out.push_str(r#"{"candidates":["#);
    for (index, choice) in plan.choices.iter().enumerate() {
        let comma = if index == 0 { "" } else { "," };
        put!(
            out,
            r#"{comma}{{"content":{{"parts":[{{"text":"{}"}}],"role":"model"}},"finishReason":"{}","index":{index}}}"#,
            choice.text(),
            reason(choice)
        );
    }
    out.push(']');
    usage(plan, plan.output(), out);
    put!(
        out,
        r#","modelVersion":{},"responseId":"{}"}}"#,
        plan.model_json,
        plan.id
    );
}

/// The streamed answer. Its last chunk carries the finish reasons; there is no other sign of the end.
pub(super) struct Contents {
    plan: Arc<Plan>,
    before: &'static str,
    after: &'static str,
}

impl Contents {
    pub(super) fn new(plan: Arc<Plan>, framing: Framing) -> Self {
        let (before, after) = match framing {
            Framing::Sse => ("data: ", "\r\n\r\n"),
            Framing::JsonArray => ("", "\n,\r\n"),
        };
        Self {
            plan,
            before,
            after,
        }
    }

    fn is_array(&self) -> bool {
        self.before.is_empty()
    }
}

impl Voice for Contents {
    fn head(&self, out: &mut String) {
        if self.is_array() {
            out.push('[');
        }
    }

    fn delta(&self, piece: &Piece<'_>, out: &mut String) {
        put!(
            out,
            r#"{}{{"candidates":[{{"content":{{"parts":[{{"text":"{}"}}],"role":"model"}},"index":{}}}]"#,
            self.before,
            piece.text,
            piece.choice
        );
        usage(&self.plan, piece.produced, out);
        put!(
            out,
            r#","modelVersion":{},"responseId":"{}"}}{}"#,
            self.plan.model_json,
            self.plan.id,
            self.after
        );
    }

    fn tail(&self, _deltas: u64, _out: &mut String) {}

    fn terminal(&self, _deltas: u64, out: &mut String) {
        put!(out, r#"{}{{"candidates":["#, self.before);
        for (index, choice) in self.plan.choices.iter().enumerate() {
            let comma = if index == 0 { "" } else { "," };
            put!(
                out,
                r#"{comma}{{"content":{{"parts":[{{"text":""}}],"role":"model"}},"finishReason":"{}","index":{index}}}"#,
                reason(choice)
            );
        }
        out.push(']');
        usage(&self.plan, self.plan.output(), out);
        put!(
            out,
            r#","modelVersion":{},"responseId":"{}"}}"#,
            self.plan.model_json,
            self.plan.id
        );
        out.push_str(if self.is_array() { "]" } else { self.after });
    }

    fn padding(&self, bytes: usize, out: &mut String) {
        put!(out, r#"{}{{"padding":""#, self.before);
        pad(bytes, out);
        put!(out, r#""}}{}"#, self.after);
    }

    fn error(&self, out: &mut String) {
        put!(
            out,
            r#"{}{{"error":{{"code":503,"message":"The model is overloaded. Please try again later.","status":"UNAVAILABLE"}}}}{}"#,
            self.before,
            if self.is_array() { "]" } else { self.after }
        );
    }
}

/// Usage after `produced` output tokens. Thoughts are not part of the candidates.
fn usage(plan: &Plan, produced: u64, out: &mut String) {
    let Some(told) = &plan.reported else { return };
    let output = told
        .output
        .min(told.output * produced / plan.output().max(1));
    let candidates = output.saturating_sub(told.reasoning);
    put!(
        out,
        r#","usageMetadata":{{"promptTokenCount":{},"candidatesTokenCount":{candidates},"totalTokenCount":{}"#,
        told.input,
        told.input + candidates + told.reasoning
    );
    if told.cached > 0 {
        put!(out, r#","cachedContentTokenCount":{}"#, told.cached);
    }
    if told.reasoning > 0 {
        put!(out, r#","thoughtsTokenCount":{}"#, told.reasoning);
    }
    out.push('}');
}

fn reason(choice: &Choice) -> &'static str {
    match choice.finish {
        Finish::Stop => "STOP",
        Finish::Length => "MAX_TOKENS",
    }
}
