//! The open reservations at their places.
//!
//! A reservation's id names its place, so places are part of what outlives the process: which are free, and in which
//! order they are taken again.
use super::hold::{Extension, Hold};
use crate::num;

/// The open reservations. The place that was freed last is taken first.
#[derive(Debug, Default)]
pub(crate) struct Holds {
    places: Vec<Option<Hold>>,
    free: Vec<u32>,
    /// How many hold nothing of anything.
    empty: usize,
}

impl Holds {
    /// The holds at these places, the free ones to be taken from the last on; none: `free` are not the free ones.
    pub(crate) fn of(places: Vec<Option<Hold>>, free: Vec<u32>) -> Option<Self> {
        let mut listed = free.clone();
        listed.sort_unstable();
        let vacant = places.iter().zip(0u32..);
        let vacant = vacant.filter(|(hold, _)| hold.is_none());
        let is_whole = vacant.map(|(_, at)| at).eq(listed);
        let mut holds = Self {
            places,
            free,
            empty: 0,
        };
        holds.count_empty();
        is_whole.then_some(holds)
    }

    /// How many are open.
    pub(crate) fn len(&self) -> usize {
        self.places.len().saturating_sub(self.free.len())
    }

    /// How many are open and hold something. One that holds nothing is but a note under an idempotency key.
    pub(crate) fn holding(&self) -> usize {
        self.len().saturating_sub(self.empty)
    }

    /// Counts anew how many hold nothing, after amounts were changed.
    pub(crate) fn count_empty(&mut self) {
        let empty = self.iter().filter(|(_, hold)| hold.is_empty());
        self.empty = empty.count();
    }

    /// Where the next one will stand.
    pub(crate) fn next(&self) -> usize {
        let free = self.free.last().copied();
        free.map_or(self.places.len(), num::index)
    }

    /// Takes the next place.
    #[inline]
    pub(crate) fn insert(&mut self, hold: Hold) -> usize {
        self.empty = self.empty.saturating_add(usize::from(hold.is_empty()));
        let Some(at) = self.free.pop().map(num::index) else {
            self.places.push(Some(hold));
            return self.places.len().saturating_sub(1);
        };
        if let Some(place) = self.places.get_mut(at) {
            *place = Some(hold);
        }
        at
    }

    #[inline]
    pub(crate) fn get(&self, at: usize) -> Option<&Hold> {
        self.places.get(at)?.as_ref()
    }

    #[inline]
    pub(crate) fn get_mut(&mut self, at: usize) -> Option<&mut Hold> {
        self.places.get_mut(at)?.as_mut()
    }

    /// Adds to what one holds; answers it.
    pub(crate) fn extend(&mut self, at: usize, part: Extension) -> Option<&Hold> {
        let hold = self.places.get_mut(at)?.as_mut()?;
        let was_empty = hold.is_empty();
        hold.extensions.push(part);
        if was_empty && !hold.is_empty() {
            self.empty = self.empty.saturating_sub(1);
        }
        Some(hold)
    }

    /// Frees a place.
    #[inline]
    pub(crate) fn remove(&mut self, at: usize) -> Option<Hold> {
        let hold = self.places.get_mut(at)?.take()?;
        self.empty = self.empty.saturating_sub(usize::from(hold.is_empty()));
        self.free.push(num::index32(at));
        Some(hold)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (usize, &Hold)> {
        let places = self.places.iter().enumerate();
        places.filter_map(|(at, hold)| Some((at, hold.as_ref()?)))
    }

    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Hold> {
        self.places.iter_mut().flatten()
    }

    /// All places, and the free ones in the order of their being freed.
    pub(crate) fn parts(&self) -> (&[Option<Hold>], &[u32]) {
        (&self.places, &self.free)
    }
}
