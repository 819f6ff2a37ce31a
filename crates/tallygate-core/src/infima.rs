//! A list of numbers that grows at its end, of which every tail can be shifted and the least is known.
//!
//! A few are kept as they are. Many are kept as their steps, each from the one before, so that shifting a tail changes
//! one step: the steps are the leaves of a binary tree whose nodes know the sum of their steps and the least of
//! the partial sums. An operation then costs the logarithm of the length.
//!
//! The numbers are less than 2^125 apart from 0 and from each other: sums of them do not overflow.

/// The numbers. Of many none can be taken out; the list is made anew instead.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Infima {
    /// The numbers, while the tree is empty.
    few: Vec<i128>,
    tree: Tree,
}

/// So many numbers at most are kept as they are.
const FEW: usize = 32;

impl Infima {
    /// How many numbers there are.
    pub(crate) fn len(&self) -> usize {
        self.few.len().saturating_add(self.tree.len)
    }

    /// Whether the next number needs the list made anew.
    #[inline]
    pub(crate) fn is_full(&self) -> bool {
        match self.tree.len {
            0 => self.few.len() >= FEW,
            length => length >= self.tree.leaves(),
        }
    }

    /// The least of all.
    #[inline]
    pub(crate) fn least(&self) -> Option<i128> {
        match self.tree.len {
            0 => self.few.iter().min().copied(),
            _ => self.tree.nodes.get(1).map(|root| root.least),
        }
    }

    /// Adds a number at the end.
    #[inline]
    pub(crate) fn push(&mut self, number: i128) {
        if self.is_full() {
            self.replace(self.numbers());
        }
        match self.tree.len {
            0 => self.few.push(number),
            _ => self.tree.push(number),
        }
    }

    /// Lowers the last number to `number`, if it is not as low already.
    #[inline]
    pub(crate) fn lower_last(&mut self, number: i128) {
        match self.few.last_mut() {
            Some(last) => *last = number.min(*last),
            None => self.tree.lower_last(number),
        }
    }

    /// Adds `change` to the number at `place` and all after it.
    #[inline]
    pub(crate) fn shift(&mut self, place: usize, change: i128) {
        for number in self.few.iter_mut().skip(place) {
            *number = number.wrapping_add(change);
        }
        if place < self.tree.len {
            self.tree.shift(place, change);
        }
    }

    /// Makes the number at `place` and the one before it the lesser of both, if the numbers are few: whether it did.
    #[inline]
    pub(crate) fn join(&mut self, place: usize) -> bool {
        if place >= self.few.len() {
            return false;
        }
        let gone = self.few.remove(place);
        let before = place.checked_sub(1).and_then(|at| self.few.get_mut(at));
        if let Some(before) = before {
            *before = gone.min(*before);
        }
        true
    }

    /// All numbers.
    pub(crate) fn numbers(&self) -> Vec<i128> {
        match self.tree.len {
            0 => self.few.clone(),
            _ => self.tree.numbers(),
        }
    }

    /// Makes the list anew, with room for more.
    pub(crate) fn replace(&mut self, numbers: Vec<i128>) {
        match numbers.len() < FEW {
            true => {
                self.tree = Tree::default();
                self.few = numbers;
            }
            false => {
                self.few.clear();
                self.tree = Tree::new(&numbers);
            }
        }
    }

    #[inline]
    pub(crate) fn clear(&mut self) {
        self.few.clear();
        if self.tree.len > 0 {
            self.tree = Tree::default();
        }
    }
}

/// Many numbers.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Tree {
    /// The root at 1, the children of `n` at `2n` and `2n + 1`, the leaves in the second half.
    nodes: Vec<Node>,
    len: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Node {
    sum: i128,
    least: i128,
}

/// A leaf without a number: above all numbers, and so is its sum with any.
const EMPTY: Node = Node {
    sum: 0,
    least: 1 << 126,
};

impl Tree {
    /// A tree with room for as many again.
    fn new(numbers: &[i128]) -> Self {
        let leaves = numbers.len().saturating_mul(2).next_power_of_two();
        let mut tree = Self {
            nodes: vec![EMPTY; leaves.saturating_mul(2)],
            len: numbers.len(),
        };
        let mut before = 0i128;
        for (leaf, number) in tree.nodes.iter_mut().skip(leaves).zip(numbers) {
            *leaf = Node::of(number.wrapping_sub(before));
            before = *number;
        }
        (1..leaves).rev().for_each(|node| tree.sum_up(node));
        tree
    }

    fn leaves(&self) -> usize {
        self.nodes.len() >> 1
    }

    /// The last number.
    fn last(&self) -> i128 {
        self.nodes.get(1).map_or(0, |root| root.sum)
    }

    fn push(&mut self, number: i128) {
        let step = number.wrapping_sub(self.last());
        self.shift(self.len, step);
        self.len = self.len.saturating_add(1);
    }

    fn lower_last(&mut self, number: i128) {
        let below = number.wrapping_sub(self.last());
        if let Some(last) = self.len.checked_sub(1).filter(|_| below < 0) {
            self.shift(last, below);
        }
    }

    fn shift(&mut self, place: usize, change: i128) {
        let mut at = self.leaves().saturating_add(place);
        if let Some(leaf) = self.nodes.get_mut(at) {
            *leaf = Node::of(leaf.sum.wrapping_add(change));
        }
        while at > 1 {
            at >>= 1;
            self.sum_up(at);
        }
    }

    fn numbers(&self) -> Vec<i128> {
        let leaves = self.nodes.iter().skip(self.leaves()).take(self.len);
        let sums = leaves.scan(0i128, |last, leaf| {
            *last = last.wrapping_add(leaf.sum);
            Some(*last)
        });
        sums.collect()
    }

    fn sum_up(&mut self, at: usize) {
        let left = at << 1;
        let Some([a, b]) = self.nodes.get(left..left.saturating_add(2)) else {
            return;
        };
        let node = Node {
            sum: a.sum.wrapping_add(b.sum),
            least: a.least.min(a.sum.wrapping_add(b.least)),
        };
        if let Some(parent) = self.nodes.get_mut(at) {
            *parent = node;
        }
    }
}

impl Node {
    /// A leaf of this step.
    fn of(step: i128) -> Self {
        Self {
            sum: step,
            least: step,
        }
    }
}

#[cfg(test)]
mod tests;
