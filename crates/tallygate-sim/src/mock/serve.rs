//! The life of a request in the mock.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, header, request};
use http_body::Body as _;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use tallygate_tokens::{Call, Dialect, Endpoint};

use super::asked::{Asked, BadCall};
use super::body::{Breaking, Broken, Cut, Flush, MockBody};
use super::gzip::Gzip;
use super::ledger::{Ask, End, Quotas};
use super::plan::{Plan, Source};
use super::quota_headers;
use super::refusal::Problem;
use super::route::{Route, dialect_of};
use super::shared::Shared;
use super::stream::{Manner, Pace, Stream};
use super::switches::{Encoding, Fault, SwitchError, Switches};
use super::tab::Tab;
use super::voice::{self, Framing, Vectors};
use crate::books::KeyPrint;
use crate::clock::At;

/// An answer, or the connection is to be closed.
pub(crate) type Answer = Result<Response<MockBody>, Cut>;

/// Answers one request.
pub(crate) async fn serve(shared: Arc<Shared>, request: Request<Incoming>) -> Answer {
    let number = shared.number();
    let (parts, body) = request.into_parts();
    let desk = Desk {
        dialect: dialect_of(parts.uri.path()),
        request_id: format!("req_{number:020x}"),
    };
    let body = match read(&shared, &parts, body).await {
        Ok(body) => body,
        Err(problem) => return Ok(desk.stray(&shared, &problem)),
    };
    shared.keep(&parts, &body);
    match Route::of(&parts.method, parts.uri.path()) {
        Route::Call(endpoint, model) => {
            let order = Order {
                shared: &shared,
                desk: &desk,
                parts: &parts,
                endpoint,
                path_model: model,
            };
            order.answer(&body).await
        }
        Route::Books => Ok(desk.page(books(&shared))),
        Route::Unknown => Ok(desk.stray(&shared, &Problem::UnknownPath)),
        Route::WrongMethod => Ok(desk.stray(&shared, &Problem::WrongMethod)),
        route => Ok(models(&shared, &desk, &parts, route)),
    }
}

/// How answers to one request look.
struct Desk {
    dialect: Dialect,
    request_id: String,
}

impl Desk {
    /// A page of JSON.
    fn page(&self, body: String) -> Response<MockBody> {
        let mut response = Response::new(MockBody::Whole(Some(body.into())));
        self.sign(response.headers_mut());
        response
    }

    /// The answer to a problem.
    fn problem(&self, problem: &Problem) -> Response<MockBody> {
        let mut response = self.page(problem.body(self.dialect, &self.request_id));
        *response.status_mut() = problem.status();
        problem.headers(self.dialect, response.headers_mut());
        response
    }

    /// The answer to a problem of a call that belongs to no account.
    fn stray(&self, shared: &Shared, problem: &Problem) -> Response<MockBody> {
        shared.ledger.lock().stray();
        self.problem(problem)
    }

    fn sign(&self, headers: &mut HeaderMap) {
        let name = match self.dialect {
            Dialect::Anthropic => "request-id",
            Dialect::OpenAi | Dialect::Gemini => "x-request-id",
        };
        headers.insert(
            header::CONTENT_TYPE,
            HeaderValue::from_static("application/json"),
        );
        if let Ok(id) = HeaderValue::try_from(&self.request_id) {
            headers.insert(HeaderName::from_static(name), id);
        }
    }
}

/// A call to a model, on its way.
struct Order<'a> {
    shared: &'a Arc<Shared>,
    desk: &'a Desk,
    parts: &'a request::Parts,
    endpoint: Endpoint,
    path_model: Option<&'a str>,
}

impl Order<'_> {
    async fn answer(&self, body: &[u8]) -> Answer {
        let (key, switches, asked, call) = match self.read(body) {
            Ok(read) => read,
            Err(problem) => return Ok(self.desk.stray(self.shared, &problem)),
        };
        if switches.fault == Some(Fault::Close) {
            self.shared.ledger.lock().stray();
            return Err(Cut);
        }
        let source = Source {
            counter: &self.shared.counter,
            seed: self.shared.options.seed,
            sizes: self.shared.options.output,
            created: self.shared.options.clock.now().seconds(),
        };
        let plan = Plan::new(
            &asked,
            self.shared.counter.input(&call).tokens,
            &switches,
            &source,
        );
        let ask = ask(&asked, &call, plan.input);
        match self.admit(key, &plan, &ask, switches.fault) {
            Ok(entry) => self.deliver(&asked, plan, switches, entry).await,
            Err(refused) => Ok(*refused),
        }
    }

    /// Everything that can be wrong with a call before the limits see it.
    fn read<'b>(
        &'b self,
        body: &'b [u8],
    ) -> Result<(KeyPrint, Switches, Asked<'b>, Call), Problem> {
        let headers = &self.parts.headers;
        let key = api_key(&self.parts.headers).unwrap_or_default();
        if !self.shared.options.keys.knows(key) {
            return Err(Problem::UnknownKey);
        }
        if !is_json(headers) {
            return Err(Problem::NotJson);
        }
        if self.desk.dialect == Dialect::Anthropic && !headers.contains_key("anthropic-version") {
            return Err(bad("anthropic-version: header is required"));
        }
        let own = Switches::from_headers(headers).map_err(|error: SwitchError| bad(error))?;
        let asked = Asked::parse(self.endpoint, self.path_model, body).map_err(Problem::Bad)?;
        let call = Call::parse(self.endpoint, self.path_model, body).map_err(bad)?;
        Ok((KeyPrint::of(key), self.shared.complete(own), asked, call))
    }

    /// Lets the call in by the books, or answers why not.
    fn admit(
        &self,
        key: KeyPrint,
        plan: &Plan,
        ask: &Ask,
        fault: Option<Fault>,
    ) -> Result<Entry, Box<Response<MockBody>>> {
        let mut ledger = self.shared.ledger.lock();
        let Ok(account) = ledger.account(key, &plan.model) else {
            ledger.stray();
            return Err(Box::new(self.desk.problem(&Problem::Full)));
        };
        if let Some(Fault::Status {
            status,
            retry_after,
            should_retry,
        }) = fault
        {
            ledger.fail(account);
            return Err(Box::new(self.desk.problem(&Problem::Switched {
                status,
                retry_after,
                should_retry,
            })));
        }
        if self.endpoint == Endpoint::CountTokens {
            ledger.unlimited();
            return Ok(Entry {
                tab: None,
                quotas: Quotas::default(),
                at: ledger.latest(),
            });
        }
        let admitted = ledger.admit(account, ask);
        let (quotas, at) = (ledger.quotas(account), ledger.latest());
        drop(ledger);
        match admitted {
            Ok(ticket) => Ok(Entry {
                tab: Some(Tab::new(self.shared, ticket)),
                quotas,
                at,
            }),
            Err(refusal) => {
                let mut response = self
                    .desk
                    .problem(&Problem::Limited(Box::new(refusal), plan.model.clone()));
                quota_headers::add(self.desk.dialect, &quotas, at, response.headers_mut());
                Err(Box::new(response))
            }
        }
    }

    async fn deliver(
        &self,
        asked: &Asked<'_>,
        plan: Plan,
        switches: Switches,
        entry: Entry,
    ) -> Answer {
        let (quotas, at) = (entry.quotas, entry.at);
        let mut response = match entry.tab {
            Some(tab) if asked.streams() => self.stream(plan, &switches, tab),
            tab => self.whole(asked, &plan, &switches, tab).await,
        };
        quota_headers::add(self.desk.dialect, &quotas, at, response.headers_mut());
        if switches.encoding == Some(Encoding::Gzip) {
            response
                .headers_mut()
                .insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
        }
        Ok(response)
    }

    fn stream(&self, plan: Plan, switches: &Switches, tab: Tab) -> Response<MockBody> {
        let framing = self.framing();
        let plan = Arc::new(plan);
        let manner = Manner {
            pace: pace(switches),
            fault: switches.fault,
            gzip: (switches.encoding == Some(Encoding::Gzip)).then(Gzip::default),
            chunk_tokens: switches.chunk_tokens.unwrap_or(1),
            max_stall: self.shared.options.max_stall,
        };
        let stream = Stream::new(&plan, voice::voice(&plan, framing), tab, manner);
        let mut response = Response::new(MockBody::Stream(Box::new(stream)));
        self.desk.sign(response.headers_mut());
        if framing == Framing::Sse {
            let kind = HeaderValue::from_static("text/event-stream; charset=utf-8");
            response.headers_mut().insert(header::CONTENT_TYPE, kind);
        }
        response
    }

    fn framing(&self) -> Framing {
        let sse = self
            .parts
            .uri
            .query()
            .is_some_and(|query| query.split('&').any(|pair| pair == "alt=sse"));
        match self.endpoint {
            Endpoint::StreamGenerateContent if !sse => Framing::JsonArray,
            _ => Framing::Sse,
        }
    }

    async fn whole(
        &self,
        asked: &Asked<'_>,
        plan: &Plan,
        switches: &Switches,
        tab: Option<Tab>,
    ) -> Response<MockBody> {
        if let Some(pace) = pace(switches) {
            pace.wait_for(plan.output()).await;
        }
        if let Some(tab) = &tab {
            tab.produce(plan.output());
        }
        let body = match self.endpoint {
            Endpoint::Embeddings => voice::embeddings(plan, vectors(asked)),
            _ => voice::whole(plan),
        };
        let body = Bytes::from(encoded(spoiled(body, switches.fault), switches.encoding));
        self.close(body, switches.fault, tab)
    }

    /// The whole body, or as much of it as a fault lets through; ends the account.
    fn close(&self, body: Bytes, fault: Option<Fault>, tab: Option<Tab>) -> Response<MockBody> {
        let breaking = match fault {
            Some(Fault::CutAfter(_)) => Some(Breaking::Now(Flush::Due)),
            Some(Fault::StallAfter(_)) => Some(Breaking::Stalled(Box::pin(tokio::time::sleep(
                self.shared.options.max_stall,
            )))),
            _ => None,
        };
        let fails = matches!(fault, Some(Fault::ErrorAfter(_)));
        if let Some(mut tab) = tab {
            tab.end(if fails || breaking.is_some() {
                End::Cut
            } else {
                End::Served
            });
        }
        if fails {
            return self.desk.problem(&Problem::Switched {
                status: 500,
                retry_after: None,
                should_retry: None,
            });
        }
        let whole = MockBody::Whole(Some(body.clone()));
        let body = breaking.map_or(whole, |breaking| {
            let (announced, part) = (body.len() as u64, body.slice(..body.len() / 2));
            MockBody::Broken(Broken {
                part: Some(part),
                announced,
                breaking,
            })
        });
        let mut response = Response::new(body);
        self.desk.sign(response.headers_mut());
        response
    }
}

/// An admitted call, with what its headers will say.
struct Entry {
    /// `None`: a call that no limit counts.
    tab: Option<Tab>,
    quotas: Quotas,
    at: At,
}

async fn read(
    shared: &Shared,
    parts: &request::Parts,
    mut body: Incoming,
) -> Result<Bytes, Problem> {
    let most = shared.options.max_body;
    let announced = usize::try_from(body.size_hint().lower()).unwrap_or(usize::MAX);
    if announced > most {
        return Err(Problem::TooLarge);
    }
    if parts.method != http::Method::POST {
        return Ok(Bytes::new());
    }
    let mut whole = BytesMut::with_capacity(announced.min(1 << 20));
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|_| Problem::BrokenBody)?;
        let Ok(data) = frame.into_data() else {
            continue;
        };
        if whole.len() + data.len() > most {
            return Err(Problem::TooLarge);
        }
        whole.extend_from_slice(&data);
    }
    Ok(whole.freeze())
}

fn ask(asked: &Asked<'_>, call: &Call, input: u64) -> Ask {
    Ask {
        input,
        characters: call.text_bytes() as u64,
        max_output: asked
            .max_output()
            .unwrap_or(0)
            .saturating_mul(asked.texts().max(1)),
    }
}

fn vectors(asked: &Asked<'_>) -> Vectors {
    Vectors {
        inputs: asked.inputs(),
        dimensions: asked.dimensions(),
        base64: asked.wants_base64(),
    }
}

fn pace(switches: &Switches) -> Option<Pace> {
    Pace::new(
        switches.first_token.unwrap_or_default(),
        switches.per_token.unwrap_or_default(),
    )
}

/// The body with its fault in it.
fn spoiled(mut body: String, fault: Option<Fault>) -> String {
    match fault {
        Some(Fault::Malformed) => body.truncate(body.len() * 2 / 3),
        Some(Fault::HugeEvent(bytes)) => {
            body.pop();
            body.push_str(r#","padding":""#);
            body.extend(std::iter::repeat_n(
                'x',
                usize::try_from(bytes).unwrap_or(0),
            ));
            body.push_str("\"}");
        }
        _ => {}
    }
    body
}

fn encoded(body: String, encoding: Option<Encoding>) -> Vec<u8> {
    if encoding != Some(Encoding::Gzip) {
        return body.into_bytes();
    }
    let (mut gzip, mut out) = (Gzip::default(), Vec::with_capacity(body.len() + 32));
    gzip.push(body.as_bytes(), &mut out);
    gzip.finish(&mut out);
    out
}

/// The key, wherever its dialect puts it.
fn api_key(headers: &HeaderMap) -> Option<&str> {
    let bearer = || {
        headers
            .get(header::AUTHORIZATION)?
            .to_str()
            .ok()?
            .strip_prefix("Bearer ")
    };
    let named = |name| headers.get(name).and_then(|key| key.to_str().ok());
    bearer()
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

fn books(shared: &Shared) -> String {
    serde_json::to_string(&shared.ledger.lock().books()).unwrap_or_default()
}

/// The list of models, or one of them.
fn models(
    shared: &Shared,
    desk: &Desk,
    parts: &request::Parts,
    route: Route<'_>,
) -> Response<MockBody> {
    if !shared
        .options
        .keys
        .knows(api_key(&parts.headers).unwrap_or_default())
    {
        return desk.stray(shared, &Problem::UnknownKey);
    }
    let describe = |id: &str| serde_json::json!({ "id": id, "object": "model", "created": 1_700_000_000, "owned_by": "mock" });
    let known = &shared.options.models;
    let page = match route {
        Route::Model(id) if !known.iter().any(|model| model == id) => {
            return desk.stray(shared, &Problem::UnknownPath);
        }
        Route::Model(id) => describe(id),
        _ => {
            serde_json::json!({ "object": "list", "data": known.iter().map(|id| describe(id)).collect::<Vec<_>>() })
        }
    };
    shared.ledger.lock().unlimited();
    desk.page(page.to_string())
}
