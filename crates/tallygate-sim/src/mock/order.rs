//! A call to a model: read, admitted or refused, delivered.

use std::sync::Arc;

use http::{HeaderMap, Response, header, request};
use tallygate_tokens::{Call, Dialect, Endpoint};

use super::asked::{Asked, BadCall};
use super::body::{Cut, MockBody};
use super::delivery::Delivery;
use super::desk::Desk;
use super::ledger::{Ask, Quotas};
use super::plan::{Plan, Source};
use super::quota_headers;
use super::refusal::Problem;
use super::serve::Answer;
use super::shared::Shared;
use super::switches::{Fault, Switches};
use super::tab::Tab;
use super::voice::{Framing, Vectors};
use crate::books::KeyPrint;
use crate::clock::At;

/// A call to a model, on its way.
pub(crate) struct Order<'a> {
    pub(crate) shared: &'a Arc<Shared>,
    pub(crate) desk: &'a Desk,
    pub(crate) parts: &'a request::Parts,
    pub(crate) endpoint: Endpoint,
    /// Gemini names the model in the path.
    pub(crate) path_model: Option<&'a str>,
}

/// A call that is well formed.
struct Ready<'b> {
    key: KeyPrint,
    switches: Switches,
    asked: Asked<'b>,
    call: Call,
}

/// A call that was let in, with what its headers will say.
struct Entry {
    /// `None`: a call that no limit counts.
    tab: Option<Tab>,
    quotas: Quotas,
    at: At,
}

/// A call that was not let in.
type Refused = Box<Response<MockBody>>;

impl Order<'_> {
    pub(crate) async fn answer(&self, body: &[u8]) -> Answer {
        let ready = match self.read(body) {
            Ok(ready) => ready,
            Err(problem) => return Ok(self.desk.stray(self.shared, &problem)),
        };
        if ready.switches.fault == Some(Fault::Close) {
            self.shared.ledger.lock().stray();
            return Err(Cut);
        }
        let plan = match self.plan(&ready) {
            Ok(plan) => plan,
            Err(problem) => return Ok(self.desk.stray(self.shared, &problem)),
        };
        match self.admit(&ready, &plan) {
            Ok(entry) => Ok(self.deliver(ready, plan, entry).await),
            Err(refused) => Ok(*refused),
        }
    }

    /// Finds everything that can be wrong with a call before the limits see it.
    fn read<'b>(&'b self, body: &'b [u8]) -> Result<Ready<'b>, Problem> {
        let headers = &self.parts.headers;
        let key = api_key(headers).unwrap_or_default();
        if !self.shared.options.keys.knows(key) {
            return Err(Problem::UnknownKey);
        }
        if !is_json(headers) {
            return Err(Problem::NotJson);
        }
        if self.desk.dialect == Dialect::Anthropic && !headers.contains_key("anthropic-version") {
            return Err(bad("anthropic-version: header is required"));
        }
        let own = Switches::from_headers(headers).map_err(bad)?;
        let asked = Asked::parse(self.endpoint, self.path_model, body).map_err(Problem::Bad)?;
        let call = Call::parse(self.endpoint, self.path_model, body).map_err(bad)?;
        Ok(Ready {
            key: KeyPrint::of(key),
            switches: self.shared.complete(own),
            asked,
            call,
        })
    }

    /// Works the answer out.
    fn plan(&self, ready: &Ready<'_>) -> Result<Plan, Problem> {
        let source = Source {
            counter: &self.shared.counter,
            seed: self.shared.options.seed,
            sizes: self.shared.options.output,
            created: self.shared.options.clock.now().seconds(),
        };
        let before = match ready.asked.previous_response() {
            Some(id) => self.shared.responses.lock().tokens_of(id).ok_or_else(|| {
                bad(format!(
                    "Previous response with id '{id}' not found. (previous_response_id)"
                ))
            })?,
            None => 0,
        };
        let input = before + self.shared.counter.input(&ready.call).tokens;
        let plan = Plan::new(&ready.asked, input, &ready.switches, &source);
        if self.endpoint == Endpoint::Responses {
            self.shared.responses.lock().remember(&plan);
        }
        Ok(plan)
    }

    /// Lets the call in by the books, or answers why not.
    fn admit(&self, ready: &Ready<'_>, plan: &Plan) -> Result<Entry, Refused> {
        let mut ledger = self.shared.ledger.lock();
        let Ok(account) = ledger.account(ready.key, &plan.model) else {
            ledger.stray();
            return Err(Box::new(self.desk.problem(&Problem::Full)));
        };
        if let Some(Fault::Status(failure)) = ready.switches.fault {
            ledger.fail(account);
            return Err(Box::new(self.desk.problem(&Problem::Switched(failure))));
        }
        if self.endpoint == Endpoint::CountTokens {
            ledger.unlimited();
            let (quotas, at) = (Quotas::default(), ledger.latest());
            return Ok(Entry {
                tab: None,
                quotas,
                at,
            });
        }
        let admitted = ledger.admit(account, &ask(ready, plan));
        let (quotas, at) = (ledger.quotas(account), ledger.latest());
        drop(ledger);
        match admitted {
            Ok(ticket) => Ok(Entry {
                tab: Some(Tab::new(self.shared, ticket)),
                quotas,
                at,
            }),
            Err(refusal) => {
                let problem = Problem::Limited(Box::new(refusal), plan.model.clone());
                let mut response = self.desk.problem(&problem);
                quota_headers::add(self.desk.dialect, &quotas, at, response.headers_mut());
                Err(Box::new(response))
            }
        }
    }

    async fn deliver(&self, ready: Ready<'_>, plan: Plan, entry: Entry) -> Response<MockBody> {
        let delivery = Delivery {
            desk: self.desk,
            switches: ready.switches,
            framing: self.framing(),
            vectors: Vectors::of(&ready.asked),
            max_stall: self.shared.options.max_stall,
        };
        let mut response = match entry.tab {
            Some(tab) if ready.asked.streams() => delivery.stream(plan, tab),
            tab => delivery.whole(plan, tab).await,
        };
        quota_headers::add(
            self.desk.dialect,
            &entry.quotas,
            entry.at,
            response.headers_mut(),
        );
        response
    }

    fn framing(&self) -> Framing {
        let query = self.parts.uri.query().unwrap_or_default();
        let sse = query.split('&').any(|pair| pair == "alt=sse");
        match self.endpoint {
            Endpoint::StreamGenerateContent if !sse => Framing::JsonArray,
            _ => Framing::Sse,
        }
    }
}

fn ask(ready: &Ready<'_>, plan: &Plan) -> Ask {
    let max_output = ready.asked.max_output().unwrap_or(0);
    Ask {
        input: plan.input,
        characters: ready.call.text_bytes() as u64,
        max_output: max_output.saturating_mul(ready.asked.texts().max(1)),
        cached: ready.switches.cached_tokens.unwrap_or(0).min(plan.input),
        reasoning: plan.reasoning,
    }
}

/// The key, wherever its dialect puts it.
pub(crate) fn api_key(headers: &HeaderMap) -> Option<&str> {
    let named = |name| headers.get(name).and_then(|key| key.to_str().ok());
    let bearer = named("authorization").and_then(|value| value.strip_prefix("Bearer "));
    bearer
        .or_else(|| named("x-api-key"))
        .or_else(|| named("x-goog-api-key"))
}

fn is_json(headers: &HeaderMap) -> bool {
    let kind = headers
        .get(header::CONTENT_TYPE)
        .and_then(|kind| kind.to_str().ok());
    kind.is_some_and(|kind| kind.to_ascii_lowercase().starts_with("application/json"))
}

fn bad(message: impl std::fmt::Display) -> Problem {
    Problem::Bad(BadCall {
        message: message.to_string(),
        param: None,
    })
}
