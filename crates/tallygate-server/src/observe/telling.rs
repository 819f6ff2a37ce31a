//! Making a metric and telling the registry of it in one go.

use std::hash::Hash;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Metric, Registry, Unit};

/// A histogram a label set.
pub(super) type Histograms<L> = Family<L, Histogram, fn() -> Histogram>;

/// A registry that hands back what it is told of.
pub(super) struct Telling<'r>(pub(super) &'r mut Registry);

impl Telling<'_> {
    pub(super) fn one<M: Metric + Clone + Default>(&mut self, name: &str, help: &str) -> M {
        let metric = M::default();
        self.0.register(name, help, metric.clone());
        metric
    }

    pub(super) fn counters<L>(&mut self, name: &str, help: &str) -> Family<L, Counter>
    where
        Family<L, Counter>: Metric + Clone + Default,
    {
        self.one(name, help)
    }

    /// Histograms of a unit, which becomes the end of their name.
    pub(super) fn histograms<L>(
        &mut self,
        (name, help, unit): (&str, &str, Unit),
        make: fn() -> Histogram,
    ) -> Histograms<L>
    where
        Histograms<L>: Metric + Clone,
        L: Clone + Hash + Eq,
    {
        let family = Histograms::<L>::new_with_constructor(make);
        self.0.register_with_unit(name, help, unit, family.clone());
        family
    }

    /// Histograms whose unit is in their name already.
    pub(super) fn unitless<L>(
        &mut self,
        (name, help): (&str, &str),
        make: fn() -> Histogram,
    ) -> Histograms<L>
    where
        Histograms<L>: Metric + Clone,
        L: Clone + Hash + Eq,
    {
        let family = Histograms::<L>::new_with_constructor(make);
        self.0.register(name, help, family.clone());
        family
    }
}
