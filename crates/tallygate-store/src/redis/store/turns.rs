//! Who changes a reservation, one after the other.
use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::Arc;
use tallygate_core::ReservationId;
use tokio::sync::Mutex as Line;

/// The reservations that callers of this process are changing. A change that meets another in the store is made again, so
/// that many at once would keep each other from ever coming through.
#[derive(Debug, Default)]
pub(crate) struct Turns(Mutex<HashMap<ReservationId, Arc<Line<()>>>>);

impl Turns {
    /// A place among those who change this reservation; whose turn it is, who has locked its line.
    pub(super) fn place(&self, id: ReservationId) -> Place<'_> {
        let line = self.0.lock().entry(id).or_default().clone();
        Place {
            turns: self,
            id,
            line,
        }
    }
}

pub(super) struct Place<'t> {
    turns: &'t Turns,
    id: ReservationId,
    pub(super) line: Arc<Line<()>>,
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let mut lines = self.turns.0.lock();
        // The map's own and this one: lines are shared out under the map's lock alone.
        if Arc::strong_count(&self.line) == 2 {
            lines.remove(&self.id);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_line_is_there_while_somebody_stands_in_it() {
        let turns = Turns::default();
        let id = ReservationId::from_bits(1);
        let (first, second) = (turns.place(id), turns.place(id));
        let turn = first.line.lock().await;
        assert!(second.line.try_lock().is_err());
        assert!(
            turns
                .place(ReservationId::from_bits(2))
                .line
                .try_lock()
                .is_ok()
        );
        drop(turn);
        drop(first);
        assert!(second.line.try_lock().is_ok());
        assert_eq!(turns.0.lock().len(), 1);
        drop(second);
        assert!(turns.0.lock().is_empty());
    }
}
