//! Metrics of the user's own, over a change of their names and order.
use tallygate_core::{
    Amounts, Ask, Bounds, Decision, EndError, Entry, Extended, Ledger, Metric, Metrics, Mode,
    Policy, Receipt, ReservationId, Rule, Shape, Span, StoreDown, Time, Used,
};

const NOW: Time = Time::from_secs(1_000_000);
const WHO: &[(&str, &str)] = &[("user", "ann")];

/// A limit of 100 a day on each of these metrics and on tokens, each by a rule of its own.
fn policy(names: &[&str]) -> Policy {
    let metrics = Metrics::with_custom(names).expect("names that are free");
    let rule = |name: &str| Rule {
        name: format!("{name}-day"),
        when: Vec::new(),
        per: vec!["user".to_owned()],
        limits: vec![(metric(&metrics, name), 100, day())],
        mode: Mode::Enforce,
        store_down: StoreDown::default(),
    };
    let rules = names.iter().chain(&["tokens"]).map(|name| rule(name));
    Policy::new(rules.collect(), metrics.clone()).expect("a policy")
}

fn day() -> Shape {
    Shape::Bucket {
        every: Span::from_secs(86_400),
        burst: None,
        strict: false,
    }
}

fn metric(metrics: &Metrics, name: &str) -> Metric {
    metrics.find(name).expect("a name of the policy")
}

/// Amounts by the names of a policy.
fn amounts(policy: &Policy, of: &[(&str, u64)]) -> Amounts {
    let with = |all: Amounts, (name, amount): &(&str, u64)| {
        all.with(metric(policy.metrics(), name), *amount)
    };
    of.iter().fold(Amounts::ZERO, with)
}

/// A ledger with the names of its metrics.
struct Named {
    ledger: Ledger,
    policy: Policy,
    save: Vec<u8>,
}

impl Named {
    fn new(names: &[&str]) -> Self {
        let policy = policy(names);
        let mut ledger = Ledger::new(&policy, Bounds::default(), [1, 2]);
        ledger.advance(NOW);
        let mut save = Vec::new();
        ledger.save(&mut save);
        ledger.keep_journal();
        Self {
            ledger,
            policy,
            save,
        }
    }

    /// The ledger made of what was saved and recorded; then other names are in force.
    fn reborn(mut self, names: &[&str]) -> Self {
        let mut records = Vec::new();
        self.ledger.drain_journal(&mut records);
        let mut ledger = Ledger::load(&self.save, Bounds::default()).expect("it was saved");
        ledger.redo(&records).expect("it was recorded");
        self.ledger = ledger;
        self.ledger.keep_journal();
        self.save.clear();
        self.ledger.save(&mut self.save);
        self.renamed(names)
    }

    fn renamed(mut self, names: &[&str]) -> Self {
        self.policy = policy(names);
        self.ledger.replace_policy(&self.policy, NOW);
        self
    }

    fn held(&mut self, of: &[(&str, u64)]) -> ReservationId {
        let keys = self.ledger.resolve(WHO);
        let ask = Ask {
            keys: &keys,
            demand: &amounts(&self.policy, of),
            ttl: Span::from_secs(3600),
            idempotency: None,
        };
        match self.ledger.reserve(&ask, NOW) {
            Ok(Decision::Admit(admission)) => admission.id,
            other => panic!("there is room: {other:?}"),
        }
    }

    fn extended(&mut self, id: ReservationId, of: &[(&str, u64)]) -> Amounts {
        let more = amounts(&self.policy, of);
        match self.ledger.extend(id, &more, None, NOW) {
            Ok(Extended::Granted { reserved, .. }) => reserved,
            other => panic!("there is room: {other:?}"),
        }
    }

    fn settled(&mut self, id: ReservationId, of: &[(&str, u64)]) -> Result<Receipt, EndError> {
        let used = Used::Exactly(amounts(&self.policy, of));
        self.ledger.settle(id, used, NOW)
    }

    fn used(&mut self) -> Vec<(String, u64)> {
        let keys = self.ledger.resolve(WHO);
        let standings = self.ledger.peek(&keys, NOW).into_iter();
        let used = standings.map(|one| (one.limit.metric_name.to_string(), one.used));
        used.collect()
    }

    fn is_used(&mut self, of: &[(&str, u64)]) {
        let known: Vec<(String, u64)> = of
            .iter()
            .map(|(name, n)| ((*name).to_owned(), *n))
            .collect();
        assert_eq!(self.used(), known);
    }
}

/// Settled after it, a reservation counts where it was held, whether the change came by a restart or while it ran, and
/// a second restart finds the same.
#[test]
fn a_reservation_stays_with_its_metrics_in_another_order() {
    for change in [Named::reborn, Named::renamed] {
        let mut named = Named::new(&["images", "minutes"]);
        let id = named.held(&[("images", 7), ("minutes", 20)]);
        named.extended(id, &[("images", 1), ("minutes", 2)]);
        let mut named = change(named, &["minutes", "images"]);
        named.is_used(&[("minutes", 22), ("images", 8), ("tokens", 0)]);
        let both = [("images", 8), ("minutes", 22)];
        let held = amounts(&named.policy, &both);
        assert_eq!(named.extended(id, &[]), held);
        let mut named = named.reborn(&["minutes", "images"]);
        let used = [("images", 3), ("minutes", 4)];
        let receipt = named.settled(id, &used).expect("it is open");
        assert_eq!(receipt.charged, amounts(&named.policy, &used));
        let left = amounts(&named.policy, &[("images", 5), ("minutes", 18)]);
        assert_eq!(receipt.returned, left);
        named.is_used(&[("minutes", 4), ("images", 3), ("tokens", 0)]);
        let mut named = named.reborn(&["minutes", "images"]);
        named.is_used(&[("minutes", 4), ("images", 3), ("tokens", 0)]);
    }
}

/// A metric that is gone takes what was held of it along; one in its place begins at zero, and one behind it moves up.
#[test]
fn a_metric_that_is_gone_is_none_of_the_others() {
    let mut named = Named::new(&["images", "minutes"]);
    let id = named.held(&[("images", 7), ("minutes", 20), ("tokens", 5)]);
    let mut named = named.reborn(&["minutes", "pages"]);
    named.is_used(&[("minutes", 20), ("pages", 0), ("tokens", 5)]);
    let used = [("minutes", 1), ("pages", 2), ("tokens", 3)];
    let receipt = named.settled(id, &used).expect("it is open");
    let left = amounts(&named.policy, &[("minutes", 19), ("tokens", 2)]);
    assert_eq!(receipt.returned, left);
    named.is_used(&[("minutes", 1), ("pages", 0), ("tokens", 3)]);
    let mut named = named.reborn(&["images"]);
    named.is_used(&[("images", 0), ("tokens", 3)]);
}

/// What was used of a metric that had no name is not the first amount of one that has.
#[test]
fn a_new_metric_begins_at_zero() {
    let mut named = Named::new(&["images"]);
    let minutes = metric(policy(&["images", "minutes"]).metrics(), "minutes");
    let id = named.held(&[("images", 7)]);
    let nameless = Amounts::ZERO.with(minutes, 9);
    let extended = named.ledger.extend(id, &nameless, None, NOW);
    assert!(matches!(extended, Ok(Extended::Granted { .. })));
    let mut named = named.reborn(&["images", "minutes"]);
    named.is_used(&[("images", 7), ("minutes", 0), ("tokens", 0)]);
    let images = amounts(&named.policy, &[("images", 7)]);
    assert_eq!(named.extended(id, &[]), images);
}

/// A repeat after the change gets the first receipt, by the names that are in force.
#[test]
fn a_receipt_is_told_by_the_names_in_force() {
    let mut named = Named::new(&["images", "minutes"]);
    let id = named.held(&[("images", 7), ("minutes", 20)]);
    let over = [("images", 110), ("minutes", 1)];
    named.settled(id, &over).expect("it is open");
    let mut named = named.reborn(&["pages", "minutes", "images"]);
    let receipt = named.settled(id, &[]).expect("a repeat");
    assert_eq!(receipt.charged, amounts(&named.policy, &over));
    assert_eq!(receipt.returned, amounts(&named.policy, &[("minutes", 19)]));
    assert_eq!(receipt.debt, amounts(&named.policy, &[("images", 10)]));
}

/// Who stands in line goes on waiting for what it asked for.
#[test]
fn a_caller_in_line_waits_for_its_own_metric() {
    let mut named = Named::new(&["images", "minutes"]);
    let first = named.held(&[("images", 100)]);
    let keys = named.ledger.resolve(WHO);
    let ask = Ask {
        keys: &keys,
        demand: &amounts(&named.policy, &[("images", 60)]),
        ttl: Span::from_secs(3600),
        idempotency: None,
    };
    let until = NOW.plus(Span::from_secs(86_400));
    let entered = named.ledger.wait(&ask, until, NOW);
    assert!(matches!(entered, Ok(Entry::Waiting(_))), "{entered:?}");
    let mut named = named.renamed(&["minutes", "images"]);
    assert_eq!(named.ledger.take_answers(), Vec::new());
    named.settled(first, &[]).expect("it is open");
    let answers = named.ledger.take_answers();
    assert!(
        matches!(answers[..], [(_, Ok(Decision::Admit(_)))]),
        "{answers:?}"
    );
    named.is_used(&[("minutes", 0), ("images", 60), ("tokens", 0)]);
}
