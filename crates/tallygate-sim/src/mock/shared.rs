//! What all connections of a mock share.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use http::{HeaderMap, Method, request};
use parking_lot::Mutex;
use tallygate_tokens::Counter;

use super::ledger::Ledger;
use super::options::{Chance, MockOptions};
use super::responses::Responses;
use super::switches::{Switches, Tries};
use crate::rng::Rng;

/// Most names of `x-mock-id` remembered; one more makes all be forgotten.
pub const MAX_TRIES: usize = 4_096;
/// Messages whose count is remembered.
const REMEMBERED_COUNTS: usize = 8_192;

/// The state of a mock.
pub(crate) struct Shared {
    pub(crate) options: MockOptions,
    pub(crate) counter: Counter,
    pub(crate) ledger: Mutex<Ledger>,
    pub(crate) responses: Mutex<Responses>,
    tries: Mutex<HashMap<String, u64>>,
    chances: Mutex<Rng>,
    received: Mutex<VecDeque<Received>>,
    requests: AtomicU64,
}

/// A request as it arrived.
#[derive(Debug, Clone)]
pub struct Received {
    /// Its method.
    pub method: Method,
    /// Its path, with the query.
    pub path: String,
    /// Its headers, keys included.
    pub headers: HeaderMap,
    /// Its body.
    pub body: Bytes,
}

impl Shared {
    pub(crate) fn new(options: MockOptions) -> Self {
        Self {
            counter: Counter::new([options.seed, !options.seed], REMEMBERED_COUNTS),
            ledger: Mutex::new(Ledger::new(&options)),
            responses: Mutex::default(),
            tries: Mutex::default(),
            chances: Mutex::new(Rng::new(options.seed ^ 0x6368_616e_6365)),
            received: Mutex::default(),
            requests: AtomicU64::new(0),
            options,
        }
    }

    /// The number of this request, from 1.
    pub(crate) fn number(&self) -> u64 {
        self.requests.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// Completes a call's own switches by chance and by the options.
    pub(crate) fn complete(&self, own: Switches) -> Switches {
        let mut switches = own;
        if !self.options.chances.is_empty() {
            switches = self
                .draw()
                .map_or(switches.clone(), |chance| switches.or(&chance.switches));
        }
        switches = switches.or(&self.options.switches);
        if switches
            .tries
            .as_ref()
            .is_some_and(|tries| self.are_used_up(tries))
        {
            switches.fault = None;
        }
        switches
    }

    /// Keeps a request, and forgets the oldest beyond the bound.
    pub(crate) fn keep(&self, parts: &request::Parts, body: &Bytes) {
        if self.options.keep_received == 0 {
            return;
        }
        let path = parts
            .uri
            .path_and_query()
            .map_or("/", |path| path.as_str())
            .to_owned();
        let (method, headers) = (parts.method.clone(), parts.headers.clone());
        let mut received = self.received.lock();
        received.push_back(Received {
            method,
            path,
            headers,
            body: body.clone(),
        });
        while received.len() > self.options.keep_received {
            received.pop_front();
        }
    }

    pub(crate) fn received(&self) -> Vec<Received> {
        self.received.lock().iter().cloned().collect()
    }

    fn draw(&self) -> Option<&Chance> {
        let mut rng = self.chances.lock();
        self.options
            .chances
            .iter()
            .find(|chance| rng.below(1_000) < u64::from(chance.per_mille))
    }

    /// Counts a try; says whether as many as may fail came before it.
    fn are_used_up(&self, tries: &Tries) -> bool {
        let mut counts = self.tries.lock();
        if counts.len() >= MAX_TRIES && !counts.contains_key(&tries.id) {
            counts.clear();
        }
        let count = counts.entry(tries.id.clone()).or_default();
        *count += 1;
        *count > tries.times
    }
}
