//! The primitives that are shared between threads; loom's under test.
#[cfg(not(tallygate_loom))]
pub(crate) use parking_lot::Mutex;
#[cfg(not(tallygate_loom))]
pub(crate) use std::sync::Arc;

#[cfg(tallygate_loom)]
pub(crate) use loom::sync::Arc;

#[cfg(tallygate_loom)]
#[derive(Debug)]
pub(crate) struct Mutex<T>(loom::sync::Mutex<T>);

#[cfg(tallygate_loom)]
impl<T> Mutex<T> {
    pub(crate) fn new(value: T) -> Self {
        Self(loom::sync::Mutex::new(value))
    }

    pub(crate) fn lock(&self) -> loom::sync::MutexGuard<'_, T> {
        self.0.lock().expect("no thread of a model panics")
    }
}
