//! Sending an answer, whole or streamed, with the faults it is to have.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Response, header};
use tallygate_tokens::Endpoint;

use super::body::{Breaking, Broken, Flush, MockBody};
use super::desk::Desk;
use super::gzip::Gzip;
use super::ledger::End;
use super::plan::Plan;
use super::refusal::Problem;
use super::stream::{Manner, Pace, Stream};
use super::switches::{Encoding, Fault, Switches};
use super::tab::Tab;
use super::voice::{self, Framing, Vectors};

/// How one answer is sent.
pub(crate) struct Delivery<'a> {
    pub(crate) desk: &'a Desk,
    pub(crate) switches: Switches,
    pub(crate) framing: Framing,
    pub(crate) vectors: Vectors,
    pub(crate) max_stall: Duration,
}

impl Delivery<'_> {
    /// The answer as a stream, produced while it is sent.
    pub(crate) fn stream(&self, plan: Plan, tab: Tab) -> Response<MockBody> {
        let plan = Arc::new(plan);
        let manner = Manner {
            pace: self.pace(),
            fault: self.switches.fault,
            gzip: self.gzips().then(Gzip::default),
            chunk_tokens: self.switches.chunk_tokens.unwrap_or(1),
            max_stall: self.max_stall,
        };
        let stream = Stream::new(&plan, voice::voice(&plan, self.framing), tab, manner);
        let mut response = self.encoded(MockBody::Stream(Box::new(stream)));
        if self.framing == Framing::Sse {
            let kind = HeaderValue::from_static("text/event-stream; charset=utf-8");
            response.headers_mut().insert(header::CONTENT_TYPE, kind);
        }
        response
    }

    /// The answer at once, after the time that producing it takes. `tab` is `None` for a call that no
    /// limit counts.
    pub(crate) async fn whole(&self, plan: Plan, tab: Option<Tab>) -> Response<MockBody> {
        if let Some(pace) = self.pace() {
            pace.wait_for(plan.output()).await;
        }
        if let Some(tab) = &tab {
            tab.produce(plan.output());
        }
        let text = match plan.endpoint {
            Endpoint::Embeddings => voice::embeddings(&plan, self.vectors),
            _ => voice::whole(&plan),
        };
        let body = self.body(text);
        if let Some(mut tab) = tab {
            tab.end(self.end());
        }
        if matches!(self.switches.fault, Some(Fault::ErrorAfter(_))) {
            return self.desk.problem(&Problem::FAILED);
        }
        let body = match self.breaking() {
            Some(breaking) => MockBody::Broken(Broken::half(body, breaking)),
            None => MockBody::Whole(Some(body)),
        };
        self.encoded(body)
    }

    /// How a whole answer ends in the books.
    fn end(&self) -> End {
        match self.switches.fault {
            Some(Fault::CutAfter(_) | Fault::StallAfter(_) | Fault::ErrorAfter(_)) => End::Cut,
            _ => End::Served,
        }
    }

    fn breaking(&self) -> Option<Breaking> {
        match self.switches.fault {
            Some(Fault::CutAfter(_)) => Some(Breaking::Now(Flush::Due)),
            Some(Fault::StallAfter(_)) => Some(Breaking::stalled(self.max_stall)),
            _ => None,
        }
    }

    fn body(&self, text: String) -> Bytes {
        let text = spoiled(text, self.switches.fault);
        if self.gzips() {
            Gzip::pack(text.as_bytes()).into()
        } else {
            text.into()
        }
    }

    fn encoded(&self, body: MockBody) -> Response<MockBody> {
        let mut response = self.desk.signed(body);
        if self.gzips() {
            let gzip = HeaderValue::from_static("gzip");
            response
                .headers_mut()
                .insert(header::CONTENT_ENCODING, gzip);
        }
        response
    }

    fn gzips(&self) -> bool {
        self.switches.encoding == Some(Encoding::Gzip)
    }

    fn pace(&self) -> Option<Pace> {
        let (first, each) = (self.switches.first_token, self.switches.per_token);
        Pace::new(first.unwrap_or_default(), each.unwrap_or_default())
    }
}

/// The body with its fault in it.
fn spoiled(mut body: String, fault: Option<Fault>) -> String {
    match fault {
        Some(Fault::Malformed) => body.truncate(body.len() * 2 / 3),
        Some(Fault::HugeEvent(bytes)) => {
            body.pop();
            body.push_str(r#","padding":""#);
            voice::pad(usize::try_from(bytes).unwrap_or(0), &mut body);
            body.push_str("\"}");
        }
        _ => {}
    }
    body
}
