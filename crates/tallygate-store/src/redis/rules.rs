//! The rules in force, with what they are called in the store.
use super::names::{ByKey, NamedRule};
use super::outage::Choice;
use tallygate_core::Policy;
use tallygate_core::remote::RemoteRule;

/// The rules of a policy, found by subject and by name.
#[derive(Debug, Clone)]
pub(crate) struct NamedRules {
    policy: Policy,
    all: Vec<NamedRule>,
    by_name: ByKey<[u8; 8], usize>,
    all_closed: bool,
    /// One of each sort that is told apart by the same labels: there are few.
    sorts: Vec<NamedRule>,
}

impl NamedRules {
    pub(crate) fn new(policy: &Policy) -> Self {
        Self::of(policy, |_, rule| NamedRule::new(rule))
    }

    /// Those of another policy. What stands where it stood keeps its name, which is a hash and takes its time.
    pub(crate) fn followed_by(&self, policy: &Policy) -> Self {
        Self::of(policy, |place, rule| {
            let known = self.all.get(place);
            let known = known.filter(|known| known.rule.is(&rule)).cloned();
            known.unwrap_or_else(|| NamedRule::new(rule))
        })
    }

    fn of(policy: &Policy, name: impl Fn(usize, RemoteRule) -> NamedRule) -> Self {
        let rules = policy.remote_rules().into_iter().enumerate();
        let all: Vec<NamedRule> = rules.map(|(place, rule)| name(place, rule)).collect();
        let names = all.iter().enumerate();
        let mut choices = all.iter().map(|rule| Choice::of_rule(&rule.rule));
        Self {
            by_name: names.map(|(at, rule)| (rule.name, at)).collect(),
            all_closed: choices.all(|choice| choice == Choice::Closed),
            sorts: sorts(&all),
            policy: policy.clone(),
            all,
        }
    }

    /// The rules that apply to a subject, in their order.
    pub(crate) fn applying(&self, subject: &[(&str, &str)]) -> impl Iterator<Item = &NamedRule> {
        let places = self.policy.places_of(subject);
        places.filter_map(|place| self.all.get(place))
    }

    /// The rule of this name.
    pub(crate) fn find(&self, name: &[u8; 8]) -> Option<&NamedRule> {
        self.all.get(*self.by_name.get(name)?)
    }

    /// Whether no rule admits anything while the store is out of reach.
    pub(crate) fn all_closed(&self) -> bool {
        self.all_closed
    }

    /// A rule for each set of labels that counters are told apart by.
    pub(crate) fn sorts(&self) -> &[NamedRule] {
        &self.sorts
    }

    /// Whether these are the very rules of `former` and perhaps more.
    pub(crate) fn extend(&self, former: &Self) -> bool {
        let pairs = self.all.iter().zip(&former.all);
        let same = pairs.take_while(|(one, other)| one.rule.is(&other.rule));
        same.count() == former.all.len()
    }
}

fn sorts(all: &[NamedRule]) -> Vec<NamedRule> {
    let mut sorts: Vec<NamedRule> = Vec::new();
    for rule in all {
        let labels = || rule.rule.labels(&[]);
        if !sorts
            .iter()
            .any(|known| known.rule.labels(&[]).eq(labels()))
        {
            sorts.push(rule.clone());
        }
    }
    sorts
}

#[cfg(test)]
mod tests;
