//! What is saved of a counter, and what is made anew of the reservations that are open on it.
use super::{Gate, Moment, State, Track};
use crate::codec::{JournalError, Reader, put, put_time};
use crate::history::History;
use crate::meter::Meter;
use crate::num;
use crate::ring::Ring;
use crate::time::Time;

impl State {
    /// Writes it; times are likely near `now`. A gauge is what its reservations hold.
    pub(crate) fn write(&self, now: Time, out: &mut Vec<u8>) {
        match self {
            Self::Bucket { frac, nanos } => {
                put_time(out, Time::from_nanos(*nanos), now);
                put(out, num::wide32(*frac));
            }
            Self::Sliding(None) => out.push(0),
            Self::Sliding(Some(ring)) => {
                out.push(1);
                ring.write(now, out);
            }
            Self::Fixed { window, sum } => {
                put(out, num::wide32(*window));
                put(out, *sum);
            }
            Self::Gauge(_) => {}
        }
    }

    pub(crate) fn read(
        meter: &Meter,
        now: Time,
        from: &mut Reader<'_>,
    ) -> Result<Self, JournalError> {
        match meter {
            Meter::Bucket(rate) => {
                let nanos = from.time(now)?.as_nanos();
                let frac = from.number32()?;
                match num::wide32(frac) < rate.parts() {
                    true => Ok(Self::Bucket { frac, nanos }),
                    false => Err(from.damaged("part of a nanosecond")),
                }
            }
            Meter::Sliding { .. } => match from.byte()? {
                0 => Ok(Self::Sliding(None)),
                1 => Ok(Self::Sliding(Some(Box::new(Ring::read(now, from)?)))),
                _ => Err(from.damaged("sliding window")),
            },
            Meter::Fixed { .. } => Ok(Self::Fixed {
                window: from.number32()?,
                sum: from.number()?,
            }),
            Meter::Gauge { .. } => Ok(Self::Gauge(0)),
        }
    }
}

impl Track {
    /// A track whose reservations are to be entered with [`Gate::enter`].
    pub(crate) fn with(history: History) -> Self {
        Self {
            history,
            ..Self::default()
        }
    }

    pub(crate) fn history(&self) -> &History {
        &self.history
    }
}

impl Gate<'_> {
    /// Enters what the reservation of `moment` holds of a counter that was saved.
    pub(crate) fn enter(&self, state: &mut State, track: &mut Track, amount: u64, moment: Moment) {
        track.held = track.held.saturating_add(amount);
        if let Meter::Gauge { .. } = self.meter {
            self.occupy(state, track, amount, moment);
        }
    }
}
