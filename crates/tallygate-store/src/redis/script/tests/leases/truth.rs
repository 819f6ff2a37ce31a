//! What the limits promise, whoever decides.
use crate::redis::script::tests::case::SUBJECTS;
use tallygate_core::{
    Amounts, Bounds, Decision, Keys, Ledger, Metric, Metrics, Policy, ReservationId, Rule, Shape,
    Span, Time, Used,
};

/// Metric, amount and window of a sliding limit, and what was spent of it when.
type Log = (Metric, u64, Span, Vec<(Time, u64)>);

/// What is truly spent when, and what the limits promise of it.
pub(super) struct Truth {
    /// The limits but the sliding ones, which the core counts in cells of its own.
    ledger: Ledger,
    keys: Keys,
    logs: Vec<Log>,
}

impl Truth {
    pub(super) fn new(rule: &Rule) -> Self {
        let (sliding, others): (Vec<_>, Vec<_>) = rule
            .limits
            .iter()
            .cloned()
            .partition(|limit| matches!(limit.2, Shape::Sliding { .. }));
        let rules = match others.is_empty() {
            true => Vec::new(),
            false => vec![Rule {
                limits: others,
                ..rule.clone()
            }],
        };
        let policy = Policy::new(rules, Metrics::default()).unwrap();
        let ledger = Ledger::new(&policy, Bounds::default(), [1, 2]);
        let log = |limit: (Metric, u64, Shape)| match limit.2 {
            Shape::Sliding { every } => (limit.0, limit.1, every, Vec::new()),
            other => panic!("{other} is not sliding"),
        };
        Self {
            keys: ledger.resolve(&SUBJECTS[0]),
            ledger,
            logs: sliding.into_iter().map(log).collect(),
        }
    }

    /// Notes what was spent, which no limit may have forbidden.
    pub(super) fn spend(&mut self, amounts: &Amounts, now: Time) {
        let refused = self.ledger.spend(&self.keys, amounts, now).unwrap();
        assert_eq!(refused, None, "{amounts:?} more than the limits give");
        self.log(amounts, now);
    }

    pub(super) fn reserve(&mut self, amounts: &Amounts, now: Time) -> ReservationId {
        self.log(amounts, now);
        let ask = tallygate_core::Ask {
            keys: &self.keys,
            demand: amounts,
            ttl: Span::from_secs(300_000_000),
            idempotency: None,
        };
        match self.ledger.reserve(&ask, now).unwrap() {
            Decision::Admit(admission) => admission.id,
            refused => panic!("{amounts:?} more than the limits give: {refused:?}"),
        }
    }

    fn log(&mut self, amounts: &Amounts, now: Time) {
        for (metric, most, every, log) in &mut self.logs {
            log.push((now, amounts.get(*metric)));
            let live = log.iter().filter(|(at, _)| at.plus(*every) > now);
            let sum: u64 = live.map(|(_, amount)| amount).sum();
            assert!(sum <= *most, "{sum} of {most} in a window of {every}");
        }
    }

    pub(super) fn settle(
        &mut self,
        id: ReservationId,
        then: Time,
        (held, used): (&Amounts, &Amounts),
        now: Time,
    ) {
        self.ledger.settle(id, Used::Exactly(*used), now).unwrap();
        for (metric, _, _, log) in &mut self.logs {
            let same =
                |(at, amount): &&mut (Time, u64)| *at == then && *amount == held.get(*metric);
            log.iter_mut().find(same).unwrap().1 = used.get(*metric);
        }
    }
}
