//! Admission by the provider's limits, and the books it keeps.

use std::collections::HashMap;
use std::hash::Hasher;
use std::time::Duration;

use siphasher::sip::SipHasher13;

use super::options::MockOptions;
use crate::books::{Account, Books, Counts, KeyPrint, Served, Worst};
use crate::clock::{At, Clock};
use crate::limit::{Charging, Fit, Meter, MockLimit, MockMetric};
use crate::timeline::{Timeline, Use};

/// Everything the provider counts. One lock guards it; all of its work is short.
pub(crate) struct Ledger {
    clock: Clock,
    limits: Vec<MockLimit>,
    windows: Vec<Duration>,
    max_accounts: usize,
    numbers: HashMap<u64, usize>,
    accounts: Vec<Running>,
    unlimited: u64,
    strays: u64,
    latest: At,
    calls: Vec<Served>,
    keep_calls: usize,
}

/// An account with its running state.
struct Running {
    key: KeyPrint,
    model: String,
    counts: Counts,
    /// The meter of each limit that applies, by the limit's number.
    meters: Vec<(usize, Meter)>,
    at_admission: Timeline,
    as_produced: Timeline,
}

/// What a call asks for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ask {
    /// True input tokens.
    pub(crate) input: u64,
    /// Length of the prompt in bytes, for the provider's own guess.
    pub(crate) characters: u64,
    /// `max_tokens` times the number of choices; 0 if not given.
    pub(crate) max_output: u64,
    /// Input tokens read from a cache.
    pub(crate) cached: u64,
    /// Output tokens that will be reasoning.
    pub(crate) reasoning: u64,
}

/// An admitted call.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ticket {
    account: usize,
    entry: usize,
    /// Where its use is kept, if it is.
    call: Option<usize>,
}

/// Why a call was refused, and until when.
#[derive(Debug, Clone)]
pub(crate) struct Refusal {
    pub(crate) limit: MockLimit,
    pub(crate) used: u64,
    pub(crate) requested: u64,
    pub(crate) fit: Fit,
}

/// How an admitted call ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    Served,
    Cut,
    Left,
}

/// Where one limit stands, for the answer's headers.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Quota {
    pub(crate) limit: u64,
    pub(crate) remaining: u64,
    pub(crate) reset: Duration,
}

/// The most used limit of each metric.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Quotas {
    pub(crate) requests: Option<Quota>,
    pub(crate) tokens: Option<Quota>,
    pub(crate) input_tokens: Option<Quota>,
    pub(crate) output_tokens: Option<Quota>,
}

/// The books are full: one account more than the bound allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Full;

impl Ledger {
    pub(crate) fn new(options: &MockOptions) -> Self {
        let limits = options.limits.clone();
        let mut windows: Vec<Duration> = limits.iter().map(|limit| limit.every).collect();
        windows.extend_from_slice(&options.watch);
        windows.sort_unstable();
        windows.dedup();
        Self {
            clock: options.clock.clone(),
            limits,
            windows,
            max_accounts: options.max_accounts,
            numbers: HashMap::new(),
            accounts: Vec::new(),
            unlimited: 0,
            strays: 0,
            latest: options.clock.now(),
            calls: Vec::new(),
            keep_calls: options.keep_calls,
        }
    }

    /// The number of the account of this key and model, opened on its first call.
    pub(crate) fn account(&mut self, key: KeyPrint, model: &str) -> Result<usize, Full> {
        let id = account_id(key, model);
        if let Some(&number) = self.numbers.get(&id) {
            return Ok(number);
        }
        if self.accounts.len() >= self.max_accounts {
            return Err(Full);
        }
        let running = self.open(key, model);
        self.accounts.push(running);
        self.numbers.insert(id, self.accounts.len() - 1);
        Ok(self.accounts.len() - 1)
    }

    /// Lets a call in if every limit has room for it, and charges it; or changes no limit at all.
    pub(crate) fn admit(&mut self, account: usize, ask: &Ask) -> Result<Ticket, Refusal> {
        let now = self.now();
        let Some(running) = self.accounts.get_mut(account) else {
            return Ok(Ticket {
                account,
                entry: 0,
                call: None,
            });
        };
        running.counts.received += 1;
        if let Some(refusal) = running.blocker(&self.limits, now, ask) {
            running.counts.refused += 1;
            return Err(refusal);
        }
        for (number, meter) in &mut running.meters {
            meter.charge(now, at_admission(&self.limits[*number], ask));
        }
        let entry = running.enter(now, ask.input, !self.windows.is_empty());
        let keeps = self.calls.len() < self.keep_calls;
        let call = keeps.then_some(self.calls.len());
        if keeps {
            self.calls.push(Served {
                model: running.model.clone(),
                input_tokens: ask.input,
                cached_tokens: ask.cached,
                output_tokens: 0,
                reasoning_tokens: ask.reasoning,
            });
        }
        Ok(Ticket {
            account,
            entry,
            call,
        })
    }

    /// What the first admitted calls used so far.
    pub(crate) fn calls(&self) -> &[Served] {
        &self.calls
    }

    /// Enters output at the moment it is produced.
    pub(crate) fn produce(&mut self, ticket: Ticket, tokens: u64) {
        let now = self.now();
        if let Some(call) = ticket.call.and_then(|call| self.calls.get_mut(call)) {
            call.output_tokens += tokens;
        }
        let Some(running) = self.accounts.get_mut(ticket.account) else {
            return;
        };
        running.counts.output_tokens += tokens;
        for (number, meter) in &mut running.meters {
            meter.charge(now, at_production(&self.limits[*number], tokens));
        }
        if !self.windows.is_empty() {
            running.at_admission.add(ticket.entry, Use::output(tokens));
            running.as_produced.push(now, Use::output(tokens));
        }
    }

    /// Ends an admitted call; call it once.
    pub(crate) fn end(&mut self, ticket: Ticket, end: End) {
        let Some(running) = self.accounts.get_mut(ticket.account) else {
            return;
        };
        let counts = &mut running.counts;
        counts.in_flight = counts.in_flight.saturating_sub(1);
        match end {
            End::Served => counts.served += 1,
            End::Cut => counts.cut += 1,
            End::Left => counts.left += 1,
        }
    }

    /// Enters a call that a switch failed before the limits saw it.
    pub(crate) fn fail(&mut self, account: usize) {
        if let Some(running) = self.accounts.get_mut(account) {
            running.counts.received += 1;
            running.counts.failed += 1;
        }
    }

    /// Enters a call that belongs to no account.
    pub(crate) fn stray(&mut self) {
        self.strays += 1;
    }

    /// Enters a call that no limit counts.
    pub(crate) fn unlimited(&mut self) {
        self.unlimited += 1;
    }

    /// The time of the latest entry.
    pub(crate) fn latest(&self) -> At {
        self.latest
    }

    /// Where the limits of an account stand now.
    pub(crate) fn quotas(&mut self, account: usize) -> Quotas {
        let now = self.now();
        let mut quotas = Quotas::default();
        let Some(running) = self.accounts.get_mut(account) else {
            return quotas;
        };
        for (number, meter) in &mut running.meters {
            let limit = &self.limits[*number];
            let quota = Quota {
                limit: limit.amount,
                remaining: meter.remaining(now),
                reset: meter.reset(now),
            };
            quotas.take(limit.metric, quota);
        }
        quotas
    }

    /// A copy of the books.
    pub(crate) fn books(&self) -> Books {
        let copy = |running: &Running| running.copy(&self.windows);
        let accounts = self.accounts.iter().map(copy).collect();
        Books {
            accounts,
            unlimited: self.unlimited,
            strays: self.strays,
        }
    }

    fn open(&self, key: KeyPrint, model: &str) -> Running {
        let applies = |limit: &MockLimit| limit.model.as_deref().is_none_or(|only| only == model);
        let numbered = self
            .limits
            .iter()
            .enumerate()
            .filter(|(_, limit)| applies(limit));
        Running {
            key,
            model: model.to_owned(),
            counts: Counts::default(),
            meters: numbered
                .map(|(number, limit)| (number, Meter::new(limit, self.latest)))
                .collect(),
            at_admission: Timeline::new(),
            as_produced: Timeline::new(),
        }
    }

    /// The clock, read under the lock: entries are in order of time.
    fn now(&mut self) -> At {
        self.latest = self.latest.max(self.clock.now());
        self.latest
    }
}

impl Running {
    /// The limit that keeps the call out longest, if any does.
    fn blocker(&mut self, limits: &[MockLimit], now: At, ask: &Ask) -> Option<Refusal> {
        let mut worst: Option<Refusal> = None;
        for (number, meter) in &mut self.meters {
            let limit = &limits[*number];
            let requested = asked_of(limit, ask);
            let fit = meter.fit(now, requested);
            if rank(fit)
                <= worst
                    .as_ref()
                    .map_or(rank(Fit::Now), |refusal| rank(refusal.fit))
            {
                continue;
            }
            let used = limit.amount.saturating_sub(meter.remaining(now));
            worst = Some(Refusal {
                limit: limit.clone(),
                used,
                requested,
                fit,
            });
        }
        worst
    }

    fn enter(&mut self, now: At, input: u64, watched: bool) -> usize {
        self.counts.admitted += 1;
        self.counts.input_tokens += input;
        self.counts.in_flight += 1;
        self.counts.peak_in_flight = self.counts.peak_in_flight.max(self.counts.in_flight);
        if !watched {
            return 0;
        }
        self.as_produced.push(now, Use::call(input));
        self.at_admission.push(now, Use::call(input))
    }

    fn copy(&self, windows: &[Duration]) -> Account {
        let worst = |&window: &Duration| Worst {
            window,
            at_admission: self.at_admission.worst(window),
            as_produced: self.as_produced.worst(window),
            exact: self.at_admission.is_exact() && self.as_produced.is_exact(),
        };
        Account {
            key: self.key,
            model: self.model.clone(),
            counts: self.counts,
            worst: windows.iter().map(worst).collect(),
        }
    }
}

impl Quotas {
    /// Keeps the limit of a metric of which the least is left.
    fn take(&mut self, metric: MockMetric, quota: Quota) {
        let slot = match metric {
            MockMetric::Requests => &mut self.requests,
            MockMetric::Tokens => &mut self.tokens,
            MockMetric::InputTokens => &mut self.input_tokens,
            MockMetric::OutputTokens => &mut self.output_tokens,
        };
        if slot.is_none_or(|held| quota.remaining < held.remaining) {
            *slot = Some(quota);
        }
    }
}

/// What must fit for the call to be let in.
fn asked_of(limit: &MockLimit, ask: &Ask) -> u64 {
    match (limit.charging, limit.metric) {
        // Output is charged as it comes: it is enough that something is left.
        (Charging::TrueUsage, MockMetric::OutputTokens) => 1,
        _ => at_admission(limit, ask),
    }
}

/// What the call costs when it is let in.
fn at_admission(limit: &MockLimit, ask: &Ask) -> u64 {
    match (limit.metric, limit.charging) {
        (MockMetric::Requests, _) => 1,
        (MockMetric::InputTokens, _) => ask.input,
        (MockMetric::OutputTokens, Charging::TrueUsage) => 0,
        (MockMetric::OutputTokens, _) => ask.max_output,
        (MockMetric::Tokens, Charging::TrueUsage) => ask.input,
        (MockMetric::Tokens, Charging::InputPlusMaxTokens) => {
            ask.input.saturating_add(ask.max_output)
        }
        (MockMetric::Tokens, Charging::Admission) => ask.max_output.max(ask.characters.div_ceil(4)),
    }
}

/// What produced output costs.
fn at_production(limit: &MockLimit, tokens: u64) -> u64 {
    match (limit.charging, limit.metric) {
        (Charging::TrueUsage, MockMetric::Tokens | MockMetric::OutputTokens) => tokens,
        _ => 0,
    }
}

fn rank(fit: Fit) -> Duration {
    match fit {
        Fit::Now => Duration::ZERO,
        Fit::After(wait) => wait,
        Fit::Never => Duration::MAX,
    }
}

fn account_id(key: KeyPrint, model: &str) -> u64 {
    let mut hasher = SipHasher13::new_with_keys(key.bits(), 0x6163_636f_756e_7473);
    hasher.write(model.as_bytes());
    hasher.finish()
}
