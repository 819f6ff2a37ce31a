//! Keys that another configuration leaves without what they need.

use tallygate_store::registry::{Keeper, KeyState, Records, Stamp};

use crate::config::Config;

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
