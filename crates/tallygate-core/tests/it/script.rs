//! Scripts: one operation a line with what came of it.
//!
//! ```text
//! start 2026-03-02T09:00:00Z
//! limit minute per=user tokens=500/60s
//! t=1s reserve alice 300 -> admit #1
//! t=1s reserve alice 300 -> deny retry=12s by minute.tokens
//! ```
//! A bare number is one call of so many tokens. What callers in line were told meanwhile stands indented under the
//! operation by whose time they were told it. With `TALLYGATE_BLESS` set the outcomes are written anew.
mod outcome;
mod rule;

use outcome::Names;
use rule::{Words, rule_of};
use std::path::{Path, PathBuf};
use tallygate_core::{
    Amounts, Ask, Bounds, Entry, Keys, Ledger, Metric, Metrics, Policy, ReservationId, Rule, Span,
    Stated, Ticket, Time, Used,
};

/// Runs a script and compares it with what is written.
pub(crate) fn check(name: &str) {
    let path = folder().join(format!("{name}.txt"));
    let written = std::fs::read_to_string(&path).expect("the script is there");
    let ran = run(&written);
    if blessed() {
        std::fs::write(&path, &ran).expect("the script can be written");
        return;
    }
    for (number, (written, ran)) in written.lines().zip(ran.lines()).enumerate() {
        assert_eq!(written, ran, "{name}.txt, line {}", number + 1);
    }
    assert_eq!(written, ran, "{name}.txt");
}

/// Where the scripts are.
pub(crate) fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/scripts")
}

#[expect(
    clippy::disallowed_methods,
    reason = "a switch of the test, not of the engine"
)]
fn blessed() -> bool {
    std::env::var_os("TALLYGATE_BLESS").is_some()
}

/// The script with its outcomes as they come now.
fn run(text: &str) -> String {
    let mut stage = Stage::default();
    let mut out = String::new();
    for line in text.lines() {
        if line.starts_with(' ') {
            continue;
        }
        let command = line.split(" -> ").next().unwrap_or(line);
        match stage.perform(command) {
            Some(outcome) => out.push_str(&format!("{command} -> {outcome}\n")),
            None => out.push_str(&format!("{line}\n")),
        }
        for told in stage.told.drain(..) {
            out.push_str(&format!("    {told}\n"));
        }
    }
    out
}

/// The ledger of a script, what it is to be made of, and the names of what was made on it.
struct Stage {
    rules: Vec<Rule>,
    metrics: Metrics,
    ledger: Option<Ledger>,
    start: Time,
    now: Time,
    names: Names,
    tickets: Vec<Ticket>,
    told: Vec<String>,
}

impl Default for Stage {
    fn default() -> Self {
        let start = instant("2026-03-02T09:00:00Z");
        Self {
            rules: Vec::new(),
            metrics: Metrics::default(),
            ledger: None,
            start,
            now: start,
            names: Names::default(),
            tickets: Vec::new(),
            told: Vec::new(),
        }
    }
}

impl Stage {
    /// What comes of a line; none for those that only set the stage.
    fn perform(&mut self, line: &str) -> Option<String> {
        let mut words = Words::new(line);
        match words.next() {
            "" | "#" => None,
            "start" => {
                self.start = instant(words.next());
                self.now = self.start;
                None
            }
            "limit" => {
                self.rules.push(rule_of(&mut words, &self.metrics));
                None
            }
            "drop" => {
                let gone = words.next();
                self.rules.retain(|rule| rule.name != gone);
                None
            }
            time => {
                let at = time
                    .strip_prefix("t=")
                    .expect("a line begins with its time");
                self.pass(self.start.plus(rule::length(at)));
                let outcome = self.operate(&mut words);
                self.hear();
                Some(outcome)
            }
        }
    }

    fn operate(&mut self, words: &mut Words<'_>) -> String {
        match words.next() {
            "pass" => "ok".to_owned(),
            "reserve" => self.reserve(words),
            "wait" => self.wait(words),
            "leave" => self.leave(words),
            "spend" => self.spend(words),
            "settle" => self.settle(words, Used::Exactly),
            "at-least" => self.settle(words, Used::AtLeast),
            "settle-some" => {
                let id = self.id(words);
                let used = Used::Stated(self.stated(words));
                let now = self.now;
                let ended = self.ledger().settle(id, used, now);
                outcome::ended(&ended)
            }
            "withdraw" => {
                let id = self.id(words);
                let now = self.now;
                self.ledger().withdraw(id, now);
                "ok".to_owned()
            }
            "cancel" => {
                let id = self.id(words);
                let now = self.now;
                let ended = self.ledger().cancel(id, now);
                outcome::ended(&ended)
            }
            "extend" => self.extend(words),
            "peek" => {
                let keys = self.keys(words.next());
                let now = self.now;
                outcome::standings(&self.ledger().peek(&keys, now))
            }
            "reload" => self.reload(),
            "wall" => {
                let lead = rule::lead(words.next());
                self.ledger().set_wall_offset(lead);
                "ok".to_owned()
            }
            "sweep" => self.sweep(),
            other => panic!("no operation is called `{other}`"),
        }
    }

    /// Lets time come to `until`, noting what callers in line are told on the way.
    fn pass(&mut self, until: Time) {
        while let Some(next) = self.ledger().next_event().filter(|next| *next <= until) {
            self.now = self.ledger().advance(next);
            self.hear();
        }
        self.now = self.ledger().advance(until);
        self.hear();
    }

    fn hear(&mut self) {
        let since = Span::to_string(&self.now.since(self.start));
        for (ticket, answer) in self.ledger().take_answers() {
            let at = self.tickets.iter().position(|known| *known == ticket);
            let at = at.expect("an answer to a caller that waits") + 1;
            let told = match answer {
                Ok(decision) => self.names.decision(&decision),
                Err(full) => format!("full: {full}"),
            };
            self.told.push(format!("{since}: w{at} {told}"));
        }
    }

    fn reserve(&mut self, words: &mut Words<'_>) -> String {
        let (keys, demand) = (self.keys(words.next()), self.demand(words));
        let ask = self.ask(words, &keys, &demand);
        let now = self.now;
        match self.ledger().reserve(&ask, now) {
            Ok(decision) => self.names.decision(&decision),
            Err(full) => format!("full: {full}"),
        }
    }

    fn wait(&mut self, words: &mut Words<'_>) -> String {
        let (keys, demand) = (self.keys(words.next()), self.demand(words));
        let ask = self.ask(words, &keys, &demand);
        let now = self.now;
        let until = now.plus(
            words
                .option("for")
                .map_or(Span::from_secs(30), rule::length),
        );
        match self.ledger().wait(&ask, until, now) {
            Ok(Entry::Decided(decision)) => self.names.decision(&decision),
            Ok(Entry::Waiting(ticket)) => {
                self.tickets.push(ticket);
                format!("w{}", self.tickets.len())
            }
            Err(full) => format!("full: {full}"),
        }
    }

    fn leave(&mut self, words: &mut Words<'_>) -> String {
        let number = words
            .next()
            .strip_prefix('w')
            .and_then(|n| n.parse::<usize>().ok());
        let ticket = self.tickets[number.expect("a caller is w1, w2 …") - 1];
        let now = self.now;
        self.ledger().leave(ticket, now);
        "ok".to_owned()
    }

    fn spend(&mut self, words: &mut Words<'_>) -> String {
        let (keys, demand) = (self.keys(words.next()), self.demand(words));
        let now = self.now;
        match self.ledger().spend(&keys, &demand, now) {
            Ok(None) => "ok".to_owned(),
            Ok(Some(refusal)) => self.names.decision(&refusal),
            Err(full) => format!("full: {full}"),
        }
    }

    fn settle(&mut self, words: &mut Words<'_>, used: impl Fn(Amounts) -> Used) -> String {
        let id = self.id(words);
        let used = used(self.demand(words));
        let now = self.now;
        let ended = self.ledger().settle(id, used, now);
        outcome::ended(&ended)
    }

    fn extend(&mut self, words: &mut Words<'_>) -> String {
        let id = self.id(words);
        let more = self.more(words);
        let ttl = words.option("ttl").map(rule::length);
        let now = self.now;
        let extended = self.ledger().extend(id, &more, ttl, now);
        outcome::extended(&extended, self.start)
    }

    /// Puts the limits written by now in force.
    fn reload(&mut self) -> String {
        let policy = self.policy();
        let now = self.now;
        self.ledger().replace_policy(&policy, now);
        "ok".to_owned()
    }

    fn sweep(&mut self) -> String {
        let now = self.now;
        let rounds = 64 * self.rules.len();
        for _ in 0..rounds {
            self.ledger().sweep(now);
        }
        let ledger = self.ledger();
        let (counters, open) = (ledger.counters(), ledger.open());
        format!(
            "{counters} counters, {open} open, {} waiting",
            ledger.waiting()
        )
    }

    fn policy(&self) -> Policy {
        let mut rules: Vec<Rule> = Vec::new();
        for rule in &self.rules {
            match rules.iter_mut().find(|known| known.name == rule.name) {
                Some(known) => *known = rule.clone(),
                None => rules.push(rule.clone()),
            }
        }
        Policy::new(rules, self.metrics.clone()).expect("the script's limits are valid")
    }

    fn ledger(&mut self) -> &mut Ledger {
        let policy = self.policy();
        let start = self.start;
        self.ledger.get_or_insert_with(|| {
            let mut ledger = Ledger::new(&policy, Bounds::default(), [1, 2]);
            ledger.advance(start);
            ledger
        })
    }

    /// `alice` is a user, `alice@acme` one of a tenant, `alice@acme/pro` one of a tier as well.
    fn keys(&mut self, who: &str) -> Keys {
        let (user, place) = who.split_once('@').unwrap_or((who, ""));
        let (tenant, tier) = place.split_once('/').unwrap_or((place, ""));
        let subject = [("user", user), ("tenant", tenant), ("tier", tier)];
        self.ledger().resolve(&subject)
    }

    fn ask<'a>(&mut self, words: &Words<'_>, keys: &'a Keys, demand: &'a Amounts) -> Ask<'a> {
        let key = words.option("key").map(str::to_owned);
        Ask {
            keys,
            demand,
            ttl: words
                .option("ttl")
                .map_or(Span::from_secs(600), rule::length),
            idempotency: key.map(|key| self.ledger().idempotency(&key, &[])),
        }
    }

    /// `300`: one call of 300 tokens; `tokens=300`: that and nothing else.
    fn demand(&self, words: &mut Words<'_>) -> Amounts {
        match words.number() {
            Some(tokens) => Amounts::call(tokens, 0),
            None => self.more(words),
        }
    }

    /// `300`: 300 tokens more; `tokens=300`: the same.
    fn more(&self, words: &mut Words<'_>) -> Amounts {
        let mut amounts = Amounts::ZERO;
        if let Some(tokens) = words.number() {
            amounts.set(Metric::TOKENS, tokens);
        }
        for (metric, name) in self.metrics.iter() {
            if let Some(amount) = words.option(name) {
                amounts.set(metric, rule::amount(amount));
            }
        }
        amounts
    }

    fn stated(&self, words: &Words<'_>) -> Stated {
        let mut stated = Stated::default();
        for (metric, name) in self.metrics.iter() {
            if let Some(amount) = words.option(name) {
                stated.set(metric, rule::amount(amount));
            }
        }
        stated
    }

    fn id(&self, words: &mut Words<'_>) -> ReservationId {
        let word = words.next();
        match word.strip_prefix('#').and_then(|n| n.parse::<usize>().ok()) {
            Some(number) => self.names.ids[number - 1],
            None => word.parse().expect("a reservation is #1, #2 … or an id"),
        }
    }
}

fn instant(text: &str) -> Time {
    let stamp: jiff::Timestamp = text.parse().expect("a UTC instant");
    let nanos = u64::try_from(stamp.as_nanosecond()).expect("an instant since 1970");
    Time::from_nanos(nanos)
}
