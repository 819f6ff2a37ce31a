//! The native half of the Python package: thin adapters of the engine, the stores and the token counter.
//!
//! An operation of a store is a future. It is polled once on the calling thread; what is ready then is answered at once, without a
//! thread or an event loop ([`pending`]). What is not is a `Pending`, which Python waits for in its own way.
use pyo3::prelude::*;

mod amounts;
mod bell;
mod capacity;
mod denial;
mod ending;
mod engine;
mod failure;
mod family;
mod fork;
mod gate;
mod hold;
mod kept;
mod line;
mod open;
mod overrides;
mod pending;
mod refusal;
mod reservation;
mod rules;
mod subject;
mod tokens;

/// The module `tallygate._native`. All it shares is behind locks or atomic, but that has been tried with the GIL alone: a free-threaded
/// Python turns its GIL on for it.
#[pymodule(gil_used = true)]
fn _native(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add("__version__", env!("CARGO_PKG_VERSION"))?;
    module.add("Retired", module.py().get_type::<failure::Retired>())?;
    fork::watch(module)?;
    module.add_class::<bell::Bell>()?;
    module.add_class::<capacity::CapacityReservation>()?;
    module.add_class::<denial::Denial>()?;
    module.add_class::<denial::Standing>()?;
    module.add_class::<engine::Engine>()?;
    module.add_class::<family::Family>()?;
    module.add_class::<gate::Gate>()?;
    module.add_class::<pending::Pending>()?;
    module.add_class::<reservation::Receipt>()?;
    module.add_class::<reservation::Reservation>()?;
    module.add_class::<subject::Subject>()?;
    tokens::add(module)
}
