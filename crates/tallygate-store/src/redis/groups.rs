//! What a demand is charged to, by where it is kept: in a Cluster each hash tag may be on a server of its own.
use super::names::{Account, NamedRule, Tag};
use std::cmp::Reverse;
use std::sync::Arc;

/// Accounts that one call reaches.
#[derive(Debug, Clone)]
pub(crate) struct Group {
    pub(crate) tag: Tag,
    pub(crate) accounts: Vec<Arc<Account>>,
}

/// The groups of these accounts, from what few share to what many do: whoever is denied is so by his own limits first, and
/// holds nothing of the others'. All in one where they are not `apart`.
///
/// Everybody has the groups of a tag in the same order, so that of two that take of the same ones the first at the first of
/// them goes before the other at all.
pub(crate) fn groups(accounts: &[Arc<Account>], apart: bool) -> Vec<Group> {
    let mut groups: Vec<Group> = Vec::new();
    let mut sorted: Vec<&Arc<Account>> = accounts.iter().collect();
    sorted.sort_by_key(|account| (breadth(&account.rule), account.tag));
    for account in sorted {
        let known = groups
            .iter_mut()
            .find(|group| !apart || group.tag == account.tag);
        match known {
            Some(group) => group.accounts.push(account.clone()),
            None => groups.push(Group {
                tag: account.tag,
                accounts: vec![account.clone()],
            }),
        }
    }
    groups
}

/// Whether what was taken of a rule's counter may yet be given back for another's sake: one that comes after it. Of
/// `rules` one of each sort is enough.
pub(crate) fn leads_on(rule: &NamedRule, rules: &[NamedRule]) -> bool {
    let labels = |rule: &NamedRule| -> Vec<String> {
        let labels = rule.rule.labels(&[]);
        labels.map(|(label, _)| label.to_owned()).collect()
    };
    let others = rules.iter().filter(|other| breadth(other) >= breadth(rule));
    let mut others = others.map(labels);
    let own = labels(rule);
    others.any(|other| other != own)
}

/// How many share a counter of the rule, roughly: by who is told apart, then by how much.
fn breadth(rule: &NamedRule) -> (usize, Reverse<usize>) {
    const NARROW: [&[&str]; 2] = [&["user", "key"], &["tenant", "tier"]];
    let labels: Vec<&str> = rule.rule.labels(&[]).map(|(label, _)| label).collect();
    let told = |apart: &[&str]| labels.iter().any(|label| apart.contains(label));
    let rank = NARROW.iter().position(|apart| told(apart));
    let rank = rank.unwrap_or(if labels.is_empty() { 4 } else { 3 });
    (rank, Reverse(labels.len()))
}
