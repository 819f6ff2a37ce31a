//! What is told, and how often.

use std::time::Duration;

use tallygate_core::{Amounts, Decision, Metric, ReservationId};
use tallygate_store::{
    Clock, MemoryOptions, MemoryStore, Reserve, SettledBy, Settlement, Store, WaitsFor,
};

use super::*;

const LIMITS: &str = "
limits:
  - { name: day, per: [user], tokens: 1_000, every: day }
  - { name: minute, tokens: 1_000_000, every: 60s }
  - { name: told, per: [user], requests: 10, every: 60s, alerts: [50] }
  - { name: twice, per: [tenant], when: { tenant: pair }, requests: 10, every: 60s, alerts: [50, 80] }

";

struct Silent;

impl EventsLog for Silent {
    fn forgot(&self) {}
}

struct Town {
    store: std::sync::Arc<MemoryStore>,
    clock: Clock,
    events: std::sync::Arc<Events>,
    heard: broadcast::Receiver<Arc<Event>>,
    /// What passes between a decision and its telling.
    lag: Span,
}

impl Town {
    fn new() -> Self {
        let config = Config::parse(LIMITS, "events.yaml", &|_| None).expect("a good file");
        // A noon, so that nothing ends while the test goes on.
        let clock = Clock::manual(Time::from_nanos(1_800_014_400 * 1_000_000_000));
        let options = MemoryOptions {
            clock: clock.clone(),
            ..MemoryOptions::default()
        };
        let events = Events::new(&config, std::sync::Arc::new(Silent));
        Self {
            store: MemoryStore::new(config.policy(), options),
            clock,
            heard: events.subscribe(),
            events,
            lag: Span::ZERO,
        }
    }

    fn call(&self, user: &str, tokens: u64) {
        let subject = [("user", user), ("tenant", "acme")];
        self.ask(&subject, Amounts::call(tokens, 0));
    }

    /// So many requests of the tenant of two thresholds, each time by another user.
    fn requests(&self, requests: u64) {
        let user = self.store.now().as_nanos().to_string();
        let subject = [("tenant", "pair"), ("user", &*user)];
        self.ask(&subject, Amounts::ZERO.with(Metric::REQUESTS, requests));
    }

    fn ask(&self, subject: &[(&str, &str)], demand: Amounts) -> Option<ReservationId> {
        let ask = Reserve {
            subject,
            demand,
            ttl: Duration::from_secs(60),
            max_wait: Duration::ZERO,
            idempotency_key: None,
            waits_for: WaitsFor::Anything,
            settled_by: SettledBy::AnyNode,
        };
        let now = self.store.now().plus(self.lag);
        match self.store.try_reserve(&ask).unwrap() {
            Decision::Admit(admission) => {
                self.events.seen(subject, &admission.standings, now);
                return Some(admission.id);
            }
            Decision::Deny(denial) => {
                self.events.seen(subject, &denial.blocked_by, now);
                self.events.denied(subject, &denial.blocked_by, now);
            }
            Decision::Never(_) => {}
        }
        None
    }

    /// What was told of the limit of two thresholds since, in percent.
    fn told_twice(&mut self) -> Vec<u64> {
        let told = std::iter::from_fn(|| self.heard.try_recv().ok());
        let twice = told.filter(|event| event.data["limit"] == "twice");
        twice
            .filter_map(|event| event.data["percent"].as_u64())
            .collect()
    }

    /// `kind limit user percent` of all that was told since.
    fn told(&mut self) -> Vec<String> {
        let mut told = Vec::new();
        while let Ok(event) = self.heard.try_recv() {
            let data = &event.data;
            let text = |name: &str| data[name].to_string().replace('"', "");
            let user = data["subject"]["user"].as_str().unwrap_or("-").to_owned();
            let percent = text("percent");
            told.push(format!(
                "{} {} {user} {percent}",
                event.kind.name(),
                text("limit")
            ));
        }
        told
    }
}

#[test]
fn each_threshold_is_told_once_for_each_counter_and_window() {
    let mut town = Town::new();
    town.call("ann", 799);
    assert_eq!(town.told(), [""; 0]);
    town.call("ann", 1);
    town.call("ann", 100);
    assert_eq!(town.told(), ["limit.threshold day ann 80"]);
    town.call("bob", 950);
    assert_eq!(town.told(), ["limit.threshold day bob 95"]);
    town.call("ann", 50);
    town.call("ann", 50);
    assert_eq!(
        town.told(),
        ["limit.threshold day ann 95", "limit.threshold told ann 50"]
    );
    town.clock.pass(Duration::from_secs(86_400));
    town.call("ann", 800);
    assert_eq!(town.told(), ["limit.threshold day ann 80"]);
}

/// A bucket that is used on and on is not told of again and again: it has not been full.
#[test]
fn a_bucket_is_told_of_again_once_it_has_been_full() {
    let mut town = Town::new();
    town.requests(5);
    assert_eq!(town.told_twice(), [50]);
    for _ in 0..60 {
        town.clock.pass(Duration::from_secs(6));
        town.requests(1);
    }
    assert_eq!(town.told_twice(), [0; 0]);
    // Below its threshold too.
    town.clock.pass(Duration::from_secs(6));
    for _ in 0..60 {
        town.clock.pass(Duration::from_secs(6));
        town.requests(1);
    }
    town.requests(2);
    assert_eq!(town.told_twice(), [0; 0]);
    town.clock.pass(Duration::from_secs(60));
    town.requests(6);
    assert_eq!(town.told_twice(), [50]);
}

#[test]
fn a_lower_threshold_is_not_told_after_a_higher_one() {
    let mut town = Town::new();
    town.requests(9);
    assert_eq!(town.told_twice(), [80]);
    town.clock.pass(Duration::from_secs(30));
    town.requests(2);
    assert_eq!(town.told_twice(), [0; 0], "6 of 10, after 9");
    town.requests(3);
    assert_eq!(town.told_twice(), [0; 0], "80 % was told");
}

/// What is used above its hold passes a threshold that no admission saw.
#[test]
fn a_denial_tells_of_the_thresholds_that_an_overrun_passed() {
    let mut town = Town::new();
    let subject = [("user", "ann")];
    let held = town.ask(&subject, Amounts::call(10, 0)).unwrap();
    let used = Settlement::Exact(Amounts::call(1_200, 0));
    town.store.settle_now(held, used).unwrap();
    assert_eq!(town.told(), [""; 0]);
    town.call("ann", 1);
    let told = ["limit.threshold day ann 95", "limit.denied day ann null"];
    assert_eq!(town.told(), told);
}

#[test]
fn a_denial_by_a_quota_is_told_once_and_one_by_a_rate_is_not() {
    let mut town = Town::new();
    town.call("ann", 1_000);
    town.told();
    town.call("ann", 1);
    town.call("ann", 1);
    assert_eq!(town.told(), ["limit.denied day ann null"]);
    for user in 0..1_001 {
        town.call(&user.to_string(), 1_000);
    }
    let told = town.told();
    assert!(told.len() > 900, "{} events", told.len());
    assert!(told.iter().all(|line| !line.contains("minute")));
}

#[test]
fn two_nodes_give_one_event_one_id_and_other_events_others() {
    let (mut one, mut two) = (Town::new(), Town::new());
    let id = |town: &mut Town, user: &str| {
        town.call(user, 900);
        town.heard.try_recv().unwrap().id.clone()
    };
    let first = id(&mut one, "ann");
    two.clock.pass(Duration::from_millis(300));
    assert_eq!(first, id(&mut two, "ann"));
    assert_ne!(first, id(&mut one, "bob"));
    one.clock.pass(Duration::from_secs(86_400));
    assert_ne!(first, id(&mut one, "ann"));
}

#[test]
fn an_event_says_what_it_tells_of() {
    let mut town = Town::new();
    town.call("ann", 850);
    let event = town.heard.try_recv().unwrap();
    let told = serde_json::to_value(&*event).unwrap();
    assert_eq!(told["type"], "limit.threshold");
    assert_eq!(told["data"]["metric"], "tokens");
    assert_eq!(told["data"]["amount"], 1_000);
    assert_eq!(told["data"]["used"], 850);
    assert_eq!(told["data"]["window"], "day");
    assert_eq!(told["data"]["subject"], json!({ "user": "ann" }));
    assert!(told["id"].as_str().unwrap().starts_with("evt_"));
}

#[test]
fn the_end_of_a_day_is_told_without_what_passed_since_the_decision() {
    let mut town = Town::new();
    town.lag = Span::from_millis(3);
    town.call("ann", 850);
    let event = town.heard.try_recv().unwrap();
    assert_eq!(event.data["resets_at"], "2027-01-16T00:00:00.000Z");
}

#[test]
fn a_downgrade_names_both_models() {
    let mut town = Town::new();
    town.call("ann", 1_000);
    town.told();
    let subject = [("user", "ann")];
    let standings = town.store.peek_now(&[("user", "ann"), ("tenant", "acme")]);
    let now = town.store.now();
    for _ in 0..2 {
        town.events
            .downgraded(&subject, &standings[..1], ("gpt-4o", "gpt-4o-mini"), now);
    }
    let event = town.heard.try_recv().unwrap();
    assert_eq!(event.kind, EventKind::Downgraded);
    assert_eq!(event.data["asked"], "gpt-4o");
    assert_eq!(event.data["model"], "gpt-4o-mini");
    assert!(town.heard.try_recv().is_err(), "told twice");
}
