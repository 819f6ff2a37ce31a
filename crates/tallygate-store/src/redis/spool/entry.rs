//! One thing to deliver, and how it is written.
use crate::pack::{Pack, Unpack};
use crate::redis::metrics::MetricNames;
use crate::redis::names::{self, Tag};
use crate::redis::record::{Ending, byte_of};
use tallygate_core::{Amounts, Metric, Outcome, ReservationId, Stated};

/// Where an entry belongs: a reservation, and the tag under which the part of it is kept that is meant.
pub(crate) type Place = (ReservationId, Tag);

/// What is to be delivered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Entry {
    id: ReservationId,
    tag: Tag,
    pub(crate) task: Task,
}

/// What is to be done with a reservation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Task {
    /// It has ended so.
    End(Outcome, Ending),
    /// It was given up by a caller who does not know whether it was made.
    Withdraw,
}

impl Entry {
    pub(crate) const fn new((id, tag): Place, task: Task) -> Self {
        Self { id, tag, task }
    }

    /// The end of a whole reservation.
    pub(crate) fn end(id: ReservationId, (outcome, used): (Outcome, Ending)) -> Self {
        Self::new((id, names::home(id)), Task::End(outcome, used))
    }

    pub(crate) const fn place(&self) -> Place {
        (self.id, self.tag)
    }

    /// Writes it; a withdrawal is never written.
    pub(super) fn write(&self, metrics: &MetricNames, out: &mut Vec<u8>) {
        write_place(out, &self.place());
        let Task::End(outcome, used) = self.task else {
            return;
        };
        out.push(byte_of(outcome));
        let (kind, amounts) = match used {
            Ending::Exactly(amounts) => (EXACTLY, listed(|metric| Some(amounts.get(metric)))),
            Ending::AtLeast(amounts) => (AT_LEAST, listed(|metric| Some(amounts.get(metric)))),
            Ending::Stated(stated) => (STATED, listed(|metric| stated.get(metric))),
        };
        out.push(kind);
        metrics.write(amounts, out);
    }

    /// Reads one. What is said of a metric that has gone goes with it.
    pub(super) fn read(bytes: &mut Unpack<'_>, metrics: &MetricNames) -> Option<Self> {
        let place = read_place(bytes)?;
        let outcome = bytes.byte()?;
        let ends = [Outcome::Settled, Outcome::Cancelled, Outcome::Expired];
        let outcome = ends.into_iter().find(|one| byte_of(*one) == outcome)?;
        let kind = bytes.byte()?;
        let (mut amounts, mut stated) = (Amounts::ZERO, Stated::default());
        for (metric, amount) in metrics.read(bytes)? {
            amounts.set(metric, amount);
            stated.set(metric, amount);
        }
        let used = match kind {
            EXACTLY => Ending::Exactly(amounts),
            AT_LEAST => Ending::AtLeast(amounts),
            STATED => Ending::Stated(stated),
            _ => return None,
        };
        Some(Self::new(place, Task::End(outcome, used)))
    }
}

const EXACTLY: u8 = 1;
const AT_LEAST: u8 = 2;
const STATED: u8 = 3;

/// The metrics that are spoken of, and what is said.
fn listed(said: impl Fn(Metric) -> Option<u64>) -> Vec<(Metric, u64)> {
    Metric::all()
        .filter_map(|metric| Some((metric, said(metric)?)))
        .collect()
}

pub(super) fn write_place(out: &mut Vec<u8>, (id, tag): &Place) {
    out.extend_from_slice(&id.bits().to_be_bytes());
    out.uint(u64::from(*tag), 4);
}

pub(super) fn read_place(bytes: &mut Unpack<'_>) -> Option<Place> {
    let id = u128::from_be_bytes(bytes.array()?);
    let tag = Tag::try_from(bytes.uint(4)?).ok()?;
    Some((ReservationId::from_bits(id), tag))
}
