//! What another configuration leaves of the one before: limits, and keys without what they need.

use std::collections::BTreeMap;

use tallygate_core::Rule;
use tallygate_store::registry::{Keeper, KeyState, Records, Stamp};

use super::Trial;
use crate::config::Config;

/// Which limits would be others, by their names.
pub(super) fn limits(before: &[Rule], next: &[Rule]) -> Trial {
    let [were, are] = [before, next].map(by_name);
    let names = |rules: &[Rule], is_meant: &dyn Fn(&Rule) -> bool| -> Vec<String> {
        let meant = rules.iter().filter(|rule| is_meant(rule));
        meant.map(|rule| rule.name.clone()).collect()
    };
    Trial {
        added: names(next, &|rule| !were.contains_key(&*rule.name)),
        removed: names(before, &|rule| !are.contains_key(&*rule.name)),
        changed: names(next, &|rule| {
            were.get(&*rule.name).is_some_and(|was| *was != rule)
        }),
        warnings: Vec::new(),
    }
}

fn by_name(rules: &[Rule]) -> BTreeMap<&str, &Rule> {
    rules.iter().map(|rule| (&*rule.name, rule)).collect()
}

/// Live keys of the registry whose tier a configuration does not have: whoever shows one is refused every model.
pub(super) fn keys(config: &Config, records: &Records, now: Stamp) -> Vec<String> {
    let live = records.keys();
    let live = live.filter(|key| key.state(now) == KeyState::Live && !config.has_key(&key.id));
    let lost = live.filter_map(|key| {
        let tier = key.subject.get("tier")?;
        let is_lost = !config.may_be_tier(tier);
        is_lost.then(|| {
            let id = &key.id;
            format!("the tier `{tier}` of the key `{id}` is not under `tiers` any more: its calls are refused")
        })
    });
    lost.collect()
}

/// The warning where nobody can administer any more who could `before`.
pub(super) fn keeper([before, now]: [Keeper; 2]) -> Option<String> {
    let is_lost = now == Keeper::default() && before != now;
    is_lost.then(|| {
        "no key has the role `admin` any more: keys and overrides can be changed by editing the configuration only"
            .to_owned()
    })
}

#[cfg(test)]
mod tests {
    use super::limits;
    use crate::Config;

    #[test]
    fn limits_that_come_go_and_change_are_told_by_name() {
        let rules = |text: &str| {
            let text = format!("limits: [{text}]");
            let config = Config::parse(&text, "limits.yaml", &|_| None).expect("a good file");
            config.rules().to_vec()
        };
        let before = rules(
            "{ name: same, tokens: 5, every: day }, { name: other, tokens: 5, every: day }, { name: gone, tokens: 5, every: day }",
        );
        let next = rules(
            "{ name: new, tokens: 5, every: day }, { name: other, tokens: 6, every: day }, { name: same, tokens: 5, every: day }",
        );
        let trial = limits(&before, &next);
        assert_eq!(trial.added, ["new"]);
        assert_eq!(trial.removed, ["gone"]);
        assert_eq!(trial.changed, ["other"]);
        let same = limits(&next, &next);
        assert!(same.added.is_empty() && same.removed.is_empty() && same.changed.is_empty());
    }
}
