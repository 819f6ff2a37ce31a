//! What metrics are called in records and journals: a built-in one by its number, one of the user's own by a hash of its name.
//!
//! Where a name stands in a configuration is that configuration's own affair: another process, or this one after a restart, may
//! have it at another place, or not at all.
use super::names::name_of;
use crate::pack::{Pack, Unpack};
use std::sync::Arc;
use tallygate_core::{Metric, Metrics};

/// The user's own metrics, in the order of the configuration.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct MetricNames(Arc<[(Metric, [u8; 8])]>);

/// What stands before the hash of a name, where a built-in metric has its number.
const NAMED: u8 = 0xFF;

impl MetricNames {
    pub(crate) fn of(metrics: &Metrics) -> Self {
        let own = metrics.iter().skip(built_in());
        Self(own.map(|(metric, name)| (metric, name_of(name))).collect())
    }

    /// Whether every metric of `earlier` is at its place.
    pub(crate) fn extends(&self, earlier: &Self) -> bool {
        self.0.starts_with(&earlier.0)
    }

    /// Writes amounts of metrics. Those of a metric that has no name here cannot be told to anybody.
    pub(crate) fn write(
        &self,
        amounts: impl IntoIterator<Item = (Metric, u64)>,
        out: &mut Vec<u8>,
    ) {
        let count = out.len();
        out.push(0);
        for (metric, amount) in amounts {
            match self.0.iter().find(|(known, _)| *known == metric) {
                Some((_, name)) => {
                    out.push(NAMED);
                    out.extend_from_slice(name);
                }
                None if metric.index() < built_in() => out.uint(metric.index() as u64, 1),
                None => continue,
            }
            out.long(amount);
            out[count] += 1;
        }
    }

    /// Reads amounts of metrics, but of those that have no name here; nothing if they are not readable.
    pub(crate) fn read(&self, bytes: &mut Unpack<'_>) -> Option<Vec<(Metric, u64)>> {
        let mut amounts = Vec::new();
        for _ in 0..bytes.byte()? {
            let metric = self.metric(bytes)?;
            let amount = bytes.long()?;
            amounts.extend(metric.map(|metric| (metric, amount)));
        }
        Some(amounts)
    }

    /// The metric that is named next; an inner nothing if it has gone.
    fn metric(&self, bytes: &mut Unpack<'_>) -> Option<Option<Metric>> {
        let number = bytes.byte()?;
        if number != NAMED {
            return Metric::all()
                .take(built_in())
                .nth(usize::from(number))
                .map(Some);
        }
        let name = bytes.array()?;
        let known = self.0.iter().find(|(_, known)| *known == name);
        Some(known.map(|(metric, _)| *metric))
    }
}

/// How many metrics are built in.
fn built_in() -> usize {
    Metric::CONCURRENCY.index() + 1
}

#[cfg(test)]
mod tests;
