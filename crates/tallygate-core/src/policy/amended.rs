//! A policy that differs from another in a few rules, at the price of those.
use super::{CompiledRule, Index, MAX_RULES, Policy, PolicyError, Rule};
use crate::metric::Metrics;
use std::collections::HashSet;
use std::sync::Arc;

impl Policy {
    /// The policy in which the rules named in `gone` have gone and `put` stand in the place of those of the same names, or behind all
    /// others. The rest is shared with this policy, so that adding rules or changing amounts costs little, however many there are.
    /// `metrics` are this policy's, or those and more.
    ///
    /// # Errors
    /// The first rule that cannot be, or a metric that is not where it was.
    pub fn amended(
        &self,
        put: Vec<Rule>,
        gone: &[String],
        metrics: Metrics,
    ) -> Result<Self, PolicyError> {
        if let Some(moved) = metrics.moved_from(&self.metrics) {
            return Err(PolicyError::Moved(moved.to_owned()));
        }
        check_names(&put)?;
        let mut draft = Draft {
            rules: self.rules.to_vec(),
            index: (*self.index).clone(),
        };
        draft.drop_rules(gone);
        for rule in put {
            draft.put(CompiledRule::new(rule, &metrics)?);
        }
        match draft.rules.len() > MAX_RULES {
            true => Err(PolicyError::TooMany(draft.rules.len())),
            false => Ok(Self {
                rules: Arc::new(draft.rules),
                index: Arc::new(draft.index),
                metrics,
            }),
        }
    }
}

fn check_names(rules: &[Rule]) -> Result<(), PolicyError> {
    if rules.len() > MAX_RULES {
        return Err(PolicyError::TooMany(rules.len()));
    }
    let mut names = HashSet::new();
    let twice = rules.iter().find(|rule| !names.insert(rule.name.as_str()));
    twice.map_or(Ok(()), |rule| {
        Err(PolicyError::DuplicateName(rule.name.clone()))
    })
}

/// A policy in the making.
struct Draft {
    rules: Vec<Arc<CompiledRule>>,
    index: Index,
}

impl Draft {
    /// Those after a rule that goes move up, which the index is made anew for.
    fn drop_rules(&mut self, names: &[String]) {
        let known = names
            .iter()
            .filter(|name| self.index.place_of(name).is_some());
        let gone: HashSet<&str> = known.map(String::as_str).collect();
        if !gone.is_empty() {
            self.rules.retain(|rule| !gone.contains(rule.name()));
            self.index = Index::new(&self.rules);
        }
    }

    fn put(&mut self, rule: CompiledRule) {
        let place = self.index.place_of(rule.name());
        let Some(known) = place.and_then(|place| self.rules.get_mut(place)) else {
            let place = crate::num::index32(self.rules.len());
            self.index.add(&rule, place);
            self.rules.push(Arc::new(rule));
            return;
        };
        let is_found_otherwise = known.when != rule.when;
        *known = Arc::new(rule);
        if is_found_otherwise {
            self.index = Index::new(&self.rules);
        }
    }
}

#[cfg(test)]
mod tests;
