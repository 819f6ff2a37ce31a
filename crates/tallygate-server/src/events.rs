//! What happened that somebody wants to be told of: a quota that is nearly used up, the first denial by it, the first call that
//! was sent down a ladder for it. Each is told once for a counter and its window, however many calls follow.
//!
//! An event's id follows from what it tells of, so that all nodes that share a store give it the same one, and who is told twice
//! can know it.

use std::sync::Arc;

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use serde::Serialize;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tallygate_core::{Shape, Span, Standing, Time};
use tokio::sync::{broadcast, watch};

use crate::config::{Alert, Alerts, Config, Webhook};
use crate::wire::{millis, rfc3339};

mod memory;
mod replacement;
mod signature;
mod webhook;

use memory::{Memory, Name, News, What};
pub use signature::{SigningKey, SigningKeyError};
pub(crate) use webhook::{HookLog, Hooks, Pace, Told as HookTold};

/// Events that wait for a slow reader; it is told how many it missed.
const WAITING: usize = 1_024;

/// Counters of which it is remembered what was told.
const REMEMBERED: usize = 100_000;

/// What kind of thing happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
pub enum EventKind {
    /// So many percent of a limit are used.
    #[serde(rename = "limit.threshold")]
    Threshold,
    /// A quota denied a call.
    #[serde(rename = "limit.denied")]
    Denied,
    /// A call was served by a cheaper model.
    #[serde(rename = "call.downgraded")]
    Downgraded,
}

/// The kinds by the names they have in a configuration.
pub(crate) const KINDS: [(&str, EventKind); 3] = [
    ("threshold", EventKind::Threshold),
    ("denied", EventKind::Denied),
    ("downgraded", EventKind::Downgraded),
];

/// Something that happened, as it is sent to webhooks and told at `/api/events`.
#[derive(Clone, Debug, Serialize)]
pub struct Event {
    /// The same for all nodes that tell of the same.
    pub id: String,
    /// Its kind.
    #[serde(rename = "type")]
    pub kind: EventKind,
    /// When, RFC 3339.
    pub timestamp: String,
    /// The particulars.
    pub data: Value,
}

/// Where events are noticed and told on.
pub(crate) struct Events {
    alerts: ArcSwap<Alerts>,
    /// The names under `models`.
    models: ArcSwap<Vec<String>>,
    memory: Mutex<Memory>,
    log: Arc<dyn EventsLog>,
    channel: broadcast::Sender<Arc<Event>>,
    hooks: watch::Sender<Vec<Arc<Webhook>>>,
    over: watch::Sender<bool>,
}

/// What is told of the events themselves.
pub(crate) trait EventsLog: Send + Sync {
    /// What was told of a counter was forgotten because there is too much to remember: it may be told again.
    fn forgot(&self);
}

/// A counter, and what is told of it.
#[derive(Clone)]
struct Subject {
    kind: EventKind,
    limit: Arc<str>,
    metric: usize,
    percent: u8,
    /// The values that the limit counts apart.
    labels: Vec<(String, String)>,
    models: Option<(String, String)>,
}

impl Events {
    /// Of the limits of a configuration.
    pub(crate) fn new(config: &Config, log: Arc<dyn EventsLog>) -> Arc<Self> {
        Arc::new(Self {
            alerts: ArcSwap::new(Arc::clone(config.alerts())),
            models: ArcSwap::from_pointee(names(config)),
            memory: Mutex::new(Memory::new(REMEMBERED)),
            log,
            channel: broadcast::channel(WAITING).0,
            hooks: watch::Sender::new(config.webhooks().to_vec()),
            over: watch::Sender::new(false),
        })
    }

    /// Another configuration is in force.
    pub(crate) fn follow(&self, config: &Config) {
        self.alerts.store(Arc::clone(config.alerts()));
        self.models.store(Arc::new(names(config)));
        let hooks = config.webhooks().to_vec();
        self.hooks.send_if_modified(|known| {
            let changed = *known != hooks;
            *known = hooks;
            changed
        });
    }

    /// Ends all listening: the server does.
    pub(crate) fn end(&self) {
        self.over.send_replace(true);
    }

    /// Done once listening ends.
    pub(crate) async fn ended(&self) {
        let mut over = self.over.subscribe();
        // The sender is this one's own.
        let _ = over.wait_for(|over| *over).await;
    }

    /// The webhooks in force.
    pub(crate) fn hooks(&self) -> watch::Receiver<Vec<Arc<Webhook>>> {
        self.hooks.subscribe()
    }

    /// All that happens from now on.
    pub(crate) fn subscribe(&self) -> broadcast::Receiver<Arc<Event>> {
        self.channel.subscribe()
    }

    /// Whether something may be told of a limit of these.
    pub(crate) fn watches(&self, standings: &[Standing]) -> bool {
        let alerts = self.alerts.load();
        let mut names = standings.iter().map(|standing| &standing.limit.name);
        names.any(|name| alerts.of(name).is_some())
    }

    /// Whether something may be told of any limit.
    pub(crate) fn tells(&self) -> bool {
        self.alerts.load().any()
    }

    /// This is how limits of a call stand.
    pub(crate) fn seen(&self, subject: &[(&str, &str)], standings: &[Standing], now: Time) {
        let alerts = self.alerts.load();
        for standing in standings {
            let Some(alert) = alerts.of(&standing.limit.name) else {
                continue;
            };
            let percent = percent(standing);
            // Who jumps over two thresholds is told of the higher one.
            let passed = alert.at.iter().rev().find(|at| percent >= u64::from(**at));
            let of = (standing, alert, subject);
            match passed {
                Some(passed) => self.tell(Told::of(EventKind::Threshold, of, *passed), now),
                None => self.goes_on(of, now),
            }
        }
    }

    /// A counter below its thresholds is used: a bucket is full again the later for it.
    fn goes_on(&self, (standing, alert, subject): (&Standing, &Alert, &[(&str, &str)]), now: Time) {
        let mut memory = self.memory.lock();
        if memory.is_empty() {
            return;
        }
        let limit = (&*standing.limit.name, standing.limit.metric.index());
        let name = memory.name(limit, counted_apart(alert, subject));
        memory.goes_on(name, (remembered_until(standing, now), now));
    }

    /// Limits denied a call.
    pub(crate) fn denied(&self, subject: &[(&str, &str)], blocked_by: &[Standing], now: Time) {
        let alerts = self.alerts.load();
        for standing in blocked_by {
            if let Some(alert) = alerts.of(&standing.limit.name) {
                self.tell(
                    Told::of(EventKind::Denied, (standing, alert, subject), 100),
                    now,
                );
            }
        }
    }

    /// A call for one model was admitted for another, because of the limits that denied it first.
    pub(crate) fn downgraded(
        &self,
        subject: &[(&str, &str)],
        blocked_by: &[Standing],
        models: (&str, &str),
        now: Time,
    ) {
        let alerts = self.alerts.load();
        for standing in blocked_by {
            if let Some(alert) = alerts.of(&standing.limit.name) {
                let mut told = Told::of(EventKind::Downgraded, (standing, alert, subject), 100);
                told.subject.models = Some((models.0.to_owned(), models.1.to_owned()));
                self.tell(told, now);
            }
        }
    }

    /// A call for a model that its caller's tier does not have was admitted for another.
    pub(crate) fn replaced(&self, tier: &str, (asked, served): (&str, &str), now: Time) {
        // Callers may ask for anything: what nobody configured is one name, so that they cannot make it told of for ever.
        let asked = match self.models.load().iter().any(|name| name == asked) {
            true => asked,
            false => replacement::OTHER,
        };
        let until = replacement::until(now);
        let news = {
            let mut memory = self.memory.lock();
            let name = memory.name(replacement::COUNTER, std::iter::once(("tier", tier)));
            memory.note(name, What::Downgraded(asked, served), (until, now))
        };
        self.tell_if(news, || replacement::event(tier, (asked, served), now));
    }

    /// Tells of it, unless that was done in this window.
    fn tell(&self, told: Told<'_>, now: Time) {
        let news = {
            let mut memory = self.memory.lock();
            let name = told.subject.name(&memory);
            let times = (remembered_until(told.standing, now), now);
            memory.note(name, told.subject.what(), times)
        };
        self.tell_if(news, || told.event(now));
    }

    fn tell_if(&self, news: News, event: impl FnOnce() -> Event) {
        if news == News::NewForOld {
            self.log.forgot();
        }
        if news != News::Known {
            // Nobody may be listening.
            let _ = self.channel.send(Arc::new(event()));
        }
    }
}

fn names(config: &Config) -> Vec<String> {
    config.model_names().map(str::to_owned).collect()
}

impl Subject {
    fn name(&self, memory: &Memory) -> Name {
        let labels = self.labels.iter();
        let labels = labels.map(|(label, value)| (label.as_str(), value.as_str()));
        memory.name((&self.limit, self.metric), labels)
    }

    fn what(&self) -> What<'_> {
        match (self.kind, &self.models) {
            (EventKind::Threshold, _) => What::Percent(self.percent),
            (EventKind::Denied, _) => What::Denied,
            (EventKind::Downgraded, models) => {
                let (asked, served) = models.as_ref().map_or(("", ""), |(asked, served)| {
                    (asked.as_str(), served.as_str())
                });
                What::Downgraded(asked, served)
            }
        }
    }
}

/// How much of a limit is used, in percent, rounded down.
fn percent(standing: &Standing) -> u64 {
    let amount = u128::from(standing.limit.amount.max(1));
    u64::try_from(u128::from(standing.used) * 100 / amount).unwrap_or(u64::MAX)
}

/// Something to be told of.
struct Told<'a> {
    subject: Subject,
    standing: &'a Standing,
}

impl<'a> Told<'a> {
    fn of(
        kind: EventKind,
        (standing, alert, subject): (&'a Standing, &Alert, &[(&str, &str)]),
        percent: u8,
    ) -> Self {
        let owned = |(label, value): (&str, &str)| (label.to_owned(), value.to_owned());
        Self {
            subject: Subject {
                kind,
                limit: Arc::clone(&standing.limit.name),
                metric: standing.limit.metric.index(),
                percent,
                labels: counted_apart(alert, subject).map(owned).collect(),
                models: None,
            },
            standing,
        }
    }

    fn until(&self, now: Time) -> Time {
        until(self.standing, now)
    }

    /// A window of the calendar ends with a second of the clock; what has passed since the decision is no part of that.
    fn resets_at(&self, now: Time) -> Time {
        let until = self.until(now);
        match self.standing.limit.shape {
            Shape::Fixed { .. } => Time::from_secs(nearest_second(until)),
            _ => until,
        }
    }

    fn event(&self, now: Time) -> Event {
        let (subject, standing) = (&self.subject, self.standing);
        let labels: serde_json::Map<String, Value> = subject
            .labels
            .iter()
            .map(|(label, value)| (label.clone(), Value::from(value.as_str())))
            .collect();
        let mut data = json!({
            "limit": &*subject.limit,
            "metric": &*standing.limit.metric_name,
            "window": standing.limit.window(),
            "amount": standing.limit.amount,
            "used": standing.used,
            "resets_at": rfc3339(self.resets_at(now)),
            "reset_ms": millis(standing.reset),
            "subject": labels,
        });
        match (subject.kind, &subject.models) {
            (EventKind::Threshold, _) => data["percent"] = Value::from(subject.percent),
            (_, Some((asked, served))) => {
                data["asked"] = Value::from(asked.as_str());
                data["model"] = Value::from(served.as_str());
            }
            _ => {}
        }
        Event {
            id: self.id(now),
            kind: subject.kind,
            timestamp: rfc3339(now),
            data,
        }
    }

    /// Follows from all that makes this event another one than others. The end of the window is rounded to a second: clocks of
    /// nodes differ, and so does what was asked of them.
    fn id(&self, now: Time) -> String {
        let subject = &self.subject;
        let mut hash = Sha256::new();
        let mut text = |text: &str| {
            hash.update(text.len().to_le_bytes());
            hash.update(text);
        };
        text(subject.kind.name());
        text(&subject.limit);
        text(&self.standing.limit.metric_name);
        text(&subject.percent.to_string());
        for (label, value) in &subject.labels {
            text(label);
            text(value);
        }
        if let Some((asked, served)) = &subject.models {
            text(asked);
            text(served);
        }
        text(&nearest_second(self.until(now)).to_string());
        format!("evt_{}", hex::encode(&hash.finalize()[..16]))
    }
}

/// The labels that a limit counts apart, with the values of a subject.
fn counted_apart<'a>(
    alert: &'a Alert,
    subject: &'a [(&'a str, &'a str)],
) -> impl Iterator<Item = (&'a str, &'a str)> + Clone {
    alert.per.iter().map(move |label| {
        let found = subject.iter().find(|(known, _)| known == label);
        (label.as_str(), found.map_or("", |(_, value)| *value))
    })
}

/// When a counter's window ends, or its bucket is full again.
fn until(standing: &Standing, now: Time) -> Time {
    now.plus(Span::from(standing.reset))
}

/// Until when it is remembered what was told of a counter: of one without a window, for a moment.
fn remembered_until(standing: &Standing, now: Time) -> Time {
    until(standing, now).max(now.plus(LEAST))
}

/// How long anything is remembered at least.
const LEAST: Span = Span::from_secs(1);

fn nearest_second(at: Time) -> u64 {
    at.as_nanos().saturating_add(HALF_A_SECOND) / (2 * HALF_A_SECOND)
}

const HALF_A_SECOND: u64 = 500_000_000;

impl EventKind {
    /// Its name in an event's `type`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Threshold => "limit.threshold",
            Self::Denied => "limit.denied",
            Self::Downgraded => "call.downgraded",
        }
    }
}

#[cfg(test)]
mod tests;
