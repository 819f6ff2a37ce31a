//! The primitives that are shared between threads; loom's under test.
use std::time::Instant;

#[cfg(not(tallygate_loom))]
pub(crate) use parking_lot::{Mutex, MutexGuard};
#[cfg(not(tallygate_loom))]
pub(crate) use std::sync::{Arc, atomic};

#[cfg(tallygate_loom)]
pub(crate) use loom::sync::{Arc, MutexGuard, atomic};

/// A condition variable whose wait takes the guard and gives it back.
#[cfg(not(tallygate_loom))]
#[derive(Debug, Default)]
pub(crate) struct Condvar(parking_lot::Condvar);

#[cfg(not(tallygate_loom))]
impl Condvar {
    pub(crate) fn notify_one(&self) {
        self.0.notify_one();
    }

    pub(crate) fn wait_until<'a, T>(
        &self,
        mut guard: MutexGuard<'a, T>,
        until: Instant,
    ) -> MutexGuard<'a, T> {
        self.0.wait_until(&mut guard, until);
        guard
    }
}

#[cfg(tallygate_loom)]
#[derive(Debug)]
pub(crate) struct Mutex<T>(loom::sync::Mutex<T>);

#[cfg(tallygate_loom)]
impl<T> Mutex<T> {
    pub(crate) fn new(value: T) -> Self {
        Self(loom::sync::Mutex::new(value))
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, T> {
        self.0.lock().expect("no thread of a model panics")
    }
}

#[cfg(tallygate_loom)]
#[derive(Debug, Default)]
pub(crate) struct Condvar(loom::sync::Condvar);

#[cfg(tallygate_loom)]
impl Condvar {
    pub(crate) fn notify_one(&self) {
        self.0.notify_one();
    }

    /// In a model no time passes: a wait ends by a notification only.
    pub(crate) fn wait_until<'a, T>(
        &self,
        guard: MutexGuard<'a, T>,
        _until: Instant,
    ) -> MutexGuard<'a, T> {
        self.0.wait(guard).expect("no thread of a model panics")
    }
}
