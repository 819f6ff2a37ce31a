//! `/v1/responses`.

use std::sync::Arc;

use super::{Piece, Voice, pad, put};
use crate::mock::plan::{Finish, Plan, Reported};

/// Events before the first piece of text.
const HEAD_EVENTS: u64 = 4;
/// Events between the last piece and the terminal event.
const TAIL_EVENTS: u64 = 3;

/// The whole answer.
pub(super) fn whole(plan: &Plan, out: &mut String) {
    response(plan, State::of(plan), out);
}

/// The streamed answer: typed, numbered events; the last one embeds the whole response.
pub(super) struct Responses {
    plan: Arc<Plan>,
    /// What every piece of text begins with.
    delta: String,
}

impl Responses {
    pub(super) fn new(plan: Arc<Plan>) -> Self {
        let delta = format!(
            "event: response.output_text.delta\ndata: {{\"type\":\"response.output_text.delta\",\"item_id\":\"msg_{}\",\"output_index\":0,\"content_index\":0,\"logprobs\":[],\"delta\":\"",
            plan.id
        );
        Self { plan, delta }
    }

    fn text(&self) -> String {
        self.plan
            .choices
            .first()
            .map(|choice| choice.text())
            .unwrap_or_default()
    }
}

impl Voice for Responses {
    fn head(&self, out: &mut String) {
        for (number, kind) in ["response.created", "response.in_progress"]
            .into_iter()
            .enumerate()
        {
            put!(
                out,
                "event: {kind}\ndata: {{\"type\":\"{kind}\",\"sequence_number\":{number},\"response\":"
            );
            response(&self.plan, State::InProgress, out);
            out.push_str("}\n\n");
        }
        let id = &self.plan.id;
        put!(
            out,
            "event: response.output_item.added\ndata: {{\"type\":\"response.output_item.added\",\"sequence_number\":2,\"output_index\":0,\"item\":{{\"id\":\"msg_{id}\",\"type\":\"message\",\"status\":\"in_progress\",\"content\":[],\"role\":\"assistant\"}}}}\n\n"
        );
        put!(
            out,
            "event: response.content_part.added\ndata: {{\"type\":\"response.content_part.added\",\"sequence_number\":3,\"item_id\":\"msg_{id}\",\"output_index\":0,\"content_index\":0,\"part\":{{\"type\":\"output_text\",\"annotations\":[],\"logprobs\":[],\"text\":\"\"}}}}\n\n"
        );
    }

    fn delta(&self, piece: &Piece<'_>, out: &mut String) {
        put!(
            out,
            "{}{}\",\"sequence_number\":{}}}\n\n",
            self.delta,
            piece.text,
            HEAD_EVENTS + piece.number
        );
    }

    fn tail(&self, deltas: u64, out: &mut String) {
        let (id, text) = (&self.plan.id, self.text());
        let number = HEAD_EVENTS + deltas;
        put!(
            out,
            "event: response.output_text.done\ndata: {{\"type\":\"response.output_text.done\",\"sequence_number\":{number},\"item_id\":\"msg_{id}\",\"output_index\":0,\"content_index\":0,\"logprobs\":[],\"text\":\"{text}\"}}\n\n"
        );
        put!(
            out,
            "event: response.content_part.done\ndata: {{\"type\":\"response.content_part.done\",\"sequence_number\":{},\"item_id\":\"msg_{id}\",\"output_index\":0,\"content_index\":0,\"part\":{{\"type\":\"output_text\",\"annotations\":[],\"logprobs\":[],\"text\":\"{text}\"}}}}\n\n",
            number + 1
        );
        put!(
            out,
            "event: response.output_item.done\ndata: {{\"type\":\"response.output_item.done\",\"sequence_number\":{},\"output_index\":0,\"item\":",
            number + 2
        );
        message(&self.plan, State::of(&self.plan), out);
        out.push_str("}\n\n");
    }

    fn terminal(&self, deltas: u64, out: &mut String) {
        let state = State::of(&self.plan);
        let kind = format!("response.{}", state.name());
        put!(
            out,
            "event: {kind}\ndata: {{\"type\":\"{kind}\",\"sequence_number\":{},\"response\":",
            HEAD_EVENTS + deltas + TAIL_EVENTS
        );
        response(&self.plan, state, out);
        out.push_str("}\n\n");
    }

    fn padding(&self, bytes: usize, out: &mut String) {
        out.push_str("event: response.in_progress\ndata: {\"type\":\"response.in_progress\",\"sequence_number\":3,\"response\":");
        response(&self.plan, State::InProgress, out);
        out.push_str(r#","padding":""#);
        pad(bytes, out);
        out.push_str("\"}\n\n");
    }

    fn error(&self, out: &mut String) {
        out.push_str("event: error\ndata: {\"type\":\"error\",\"sequence_number\":4,\"code\":\"server_error\",\"message\":\"The server had an error while processing your request. Sorry about that!\",\"param\":null}\n\n");
    }
}

/// How far a response is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    InProgress,
    Completed,
    Incomplete,
}

impl State {
    fn of(plan: &Plan) -> Self {
        match plan.choices.first().map(|choice| choice.finish) {
            Some(Finish::Length) => Self::Incomplete,
            _ => Self::Completed,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::InProgress => "in_progress",
            Self::Completed => "completed",
            Self::Incomplete => "incomplete",
        }
    }
}

/// The response object.
fn response(plan: &Plan, state: State, out: &mut String) {
    let details = if state == State::Incomplete {
        r#"{"reason":"max_output_tokens"}"#
    } else {
        "null"
    };
    put!(
        out,
        r#"{{"id":"resp_{}","object":"response","created_at":{},"status":"{}","background":false,"error":null,"incomplete_details":{details},"instructions":null,"max_output_tokens":"#,
        plan.id,
        plan.created,
        state.name()
    );
    match plan.max_output {
        Some(most) => put!(out, "{most}"),
        None => out.push_str("null"),
    }
    put!(out, r#","model":{},"output":["#, plan.model_json);
    if state != State::InProgress {
        message(plan, state, out);
    }
    out.push_str(r#"],"parallel_tool_calls":true,"previous_response_id":null,"reasoning":{"effort":null,"summary":null},"service_tier":"default","store":false,"temperature":1.0,"text":{"format":{"type":"text"}},"tool_choice":"auto","tools":[],"top_p":1.0,"truncation":"disabled","usage":"#);
    match &plan.reported {
        Some(told) if state != State::InProgress => usage(told, out),
        _ => out.push_str("null"),
    }
    out.push_str(r#","user":null,"metadata":{}}"#);
}

fn message(plan: &Plan, state: State, out: &mut String) {
    let text = plan
        .choices
        .first()
        .map(|choice| choice.text())
        .unwrap_or_default();
    put!(
        out,
        r#"{{"id":"msg_{}","type":"message","status":"{}","content":[{{"type":"output_text","annotations":[],"logprobs":[],"text":"{text}"}}],"role":"assistant"}}"#,
        plan.id,
        state.name()
    );
}

fn usage(told: &Reported, out: &mut String) {
    put!(
        out,
        r#"{{"input_tokens":{},"input_tokens_details":{{"cached_tokens":{}}},"output_tokens":{},"output_tokens_details":{{"reasoning_tokens":{}}},"total_tokens":{}}}"#,
        told.input,
        told.cached,
        told.output,
        told.reasoning,
        told.input.saturating_add(told.output)
    );
}
