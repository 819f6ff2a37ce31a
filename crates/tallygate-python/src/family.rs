//! The models that share one set of quotas: one native call acquires.
use crate::amounts::{self, Scale};
use crate::capacity::{CapacityReservation, Held};
use crate::engine;
use crate::failure::{self, Failure};
use crate::gate::{Inner, Slot};
use crate::hold::{Hold, Owner};
use crate::line::{Place, Waiter};
use crate::pending;
use crate::refusal;
use crate::subject::{self, Labels, Wish};
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyDict, PyFrozenSet, PyMapping, PyString};
use std::ops::ControlFlow::{Break, Continue};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use tallygate_core::{Amounts, Decision, Metric};
use tallygate_store::{MemoryStore, Reserve, SettledBy, Store, StoreError, WaitsFor};

/// The models of one family.
#[pyclass(frozen, module = "tallygate._native")]
pub(crate) struct Family {
    traits: Arc<Traits>,
}

/// What reservations of one family have in common.
pub(crate) struct Traits {
    pub(crate) gate: Arc<Inner>,
    pub(crate) name: String,
    pub(crate) buckets: Py<PyFrozenSet>,
    /// Shared with the family that this one was retired for.
    pub(crate) open: Arc<AtomicUsize>,
    metrics: Vec<Counted>,
    labels: Arc<Labels>,
    /// When it was made or last used, by the store's clock.
    touched: AtomicU64,
    /// Its rules are out of force, or are about to be. Changes under the engine's lock alone.
    is_retired: AtomicBool,
}

/// A metric of a family's quotas: its name, and how finely it is counted.
pub(crate) struct Counted {
    pub(crate) name: String,
    pub(crate) metric: Metric,
    pub(crate) scale: Scale,
}

/// The label that tells families apart.
const LABEL: &str = "model_family";

impl Traits {
    pub(crate) fn new(
        gate: Arc<Inner>,
        (name, label, made): (String, &str, u64),
        metrics: Vec<Counted>,
        buckets: Py<PyFrozenSet>,
    ) -> Self {
        Self {
            gate,
            name,
            buckets,
            open: Arc::default(),
            metrics,
            labels: Labels::new([(LABEL.to_owned(), label.to_owned())]),
            touched: AtomicU64::new(made),
            is_retired: AtomicBool::new(false),
        }
    }

    /// Counts the reservations of `former` among its own.
    pub(crate) fn succeeding(self, former: &Family) -> Self {
        Self {
            open: former.traits.open.clone(),
            ..self
        }
    }

    /// Amounts of these metrics as their users write them.
    ///
    /// # Errors
    /// When Python has no memory left.
    pub(crate) fn usage<'py>(
        &self,
        py: Python<'py>,
        amounts: &Amounts,
    ) -> PyResult<Bound<'py, PyDict>> {
        let usage = PyDict::new(py);
        for known in &self.metrics {
            let count = amounts.get(known.metric);
            usage.set_item(&known.name, known.scale.amount(py, count)?)?;
        }
        Ok(usage)
    }

    /// Counts of a metric as its users write them.
    pub(crate) fn text(&self, metric: &str, count: u64) -> String {
        let known = self.metrics.iter().find(|known| known.name == metric);
        known.map_or(Scale::WHOLE, |known| known.scale).text(count)
    }

    /// Reads a usage that must name the metrics of the quotas, all of them and no other.
    ///
    /// # Errors
    /// What cannot be, by the name of the argument.
    pub(crate) fn read(&self, usage: &Bound<'_, PyAny>, argument: &str) -> PyResult<Amounts> {
        let mut amounts = Amounts::ZERO;
        let mut count = 0;
        let mut add = |name: &Bound<'_, PyAny>, amount: &Bound<'_, PyAny>| {
            let known = self.find(name, argument)?;
            amounts.set(known.metric, known.scale.count(amount, argument, name)?);
            count += 1;
            Ok::<_, PyErr>(())
        };
        if let Ok(usage) = usage.cast::<PyDict>() {
            for (name, amount) in usage {
                add(&name, &amount)?;
            }
        } else if let Ok(usage) = usage.cast::<PyMapping>() {
            for pair in usage.items()? {
                let (name, amount) = pair.extract::<(Bound<'_, PyAny>, Bound<'_, PyAny>)>()?;
                add(&name, &amount)?;
            }
        } else {
            return Err(amounts::no_mapping(usage, argument));
        }
        match count == self.metrics.len() {
            true => Ok(amounts),
            false => Err(self.mismatch(argument, &usage.repr()?.to_string())),
        }
    }

    fn find(&self, name: &Bound<'_, PyAny>, argument: &str) -> PyResult<&Counted> {
        if let Ok(text) = name.cast::<PyString>() {
            let text = amounts::text(text, argument)?;
            let found = self.metrics.iter().find(|known| *known.name == *text);
            if let Some(known) = found {
                return Ok(known);
            }
        }
        Err(self.mismatch(argument, &format!("the metric {}", name.repr()?)))
    }

    fn mismatch(&self, argument: &str, given: &str) -> PyErr {
        let names: Vec<&str> = self.metrics.iter().map(|known| &*known.name).collect();
        failure::value(format!(
            "{argument} must name the metrics of the quotas of {}, each once: {} (got {given})",
            self.name,
            names.join(", ")
        ))
    }

    /// Does something with the store while the rules are in force. They stay so until the slots that were taken before are given back.
    ///
    /// # Errors
    /// When they are not, or the engine is closed.
    fn ruled<T>(&self, work: impl FnOnce(&engine::Held) -> T) -> PyResult<T> {
        let done = self.gate.core.with(|held, _| {
            let is_retired = self.is_retired.load(Ordering::Relaxed);
            (!is_retired).then(|| work(held))
        })?;
        done.ok_or_else(failure::retired)
    }

    /// Decides at once, without standing in line.
    fn try_now(&self, memory: &MemoryStore, demand: Amounts) -> Result<Decision, StoreError> {
        memory.try_reserve(&Reserve {
            subject: &[(LABEL, self.labels.first())],
            demand,
            ttl: self.gate.lifetime,
            max_wait: Duration::ZERO,
            idempotency_key: None,
            settled_by: SettledBy::ThisNode,
            waits_for: WaitsFor::Anything,
        })
    }
}

/// An acquisition on its way.
struct Asking {
    traits: Arc<Traits>,
    slot: Slot,
    model: Py<PyString>,
    demand: Amounts,
    max_wait: Duration,
}

/// What came of it.
enum Outcome {
    Held(Held),
    Refused(Arc<Traits>, Decision, Duration),
    Failed(StoreError),
    Closed,
}

impl Asking {
    fn new(
        traits: &Arc<Traits>,
        usage: &Bound<'_, PyAny>,
        model: &Bound<'_, PyString>,
        max_wait: Duration,
    ) -> PyResult<Self> {
        Ok(Self {
            demand: traits.read(usage, "usage")?,
            slot: Slot::take(&traits.gate, Some(traits))?,
            traits: traits.clone(),
            model: model.clone().unbind(),
            max_wait,
        })
    }

    fn wish(&self) -> Wish {
        Wish {
            demand: self.demand,
            ttl: self.traits.gate.lifetime,
            max_wait: self.max_wait,
            key: None,
        }
    }

    fn waiter(&self, model: String) -> Waiter {
        Waiter {
            traits: self.traits.clone(),
            model,
            demand: self.demand,
            max_wait: self.max_wait,
            since: Instant::now(),
        }
    }

    /// What a decision makes of it.
    fn meet(self, decision: Result<Decision, StoreError>) -> Outcome {
        let admission = match decision {
            Ok(Decision::Admit(admission)) => admission,
            Ok(refusal) => return Outcome::Refused(self.traits, refusal, self.max_wait),
            Err(error) => return Outcome::Failed(error),
        };
        let lifetime = self.traits.gate.lifetime;
        let created =
            Duration::from_nanos(admission.expires_at.as_nanos()).saturating_sub(lifetime);
        self.traits.touch(created);
        let hold = Hold::new(self.traits.gate.core.clone(), &admission, Owner::This);
        Outcome::Held(self.held(hold, created))
    }

    fn held(mut self, hold: Hold, created: Duration) -> Held {
        self.slot.begin(created);
        Held::new(
            hold,
            (self.traits, self.model),
            (self.demand, created),
            self.slot,
        )
    }
}

impl Traits {
    fn touch(&self, now: Duration) {
        let nanos = u64::try_from(now.as_nanos()).unwrap_or(u64::MAX);
        self.touched.store(nanos, Ordering::Relaxed);
    }
}

impl Outcome {
    fn tell(self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        match self {
            Self::Held(held) => {
                held.hold.tell();
                Ok(Py::new(py, CapacityReservation::held(held))?.into_any())
            }
            Self::Refused(traits, decision, waited) => Err(refusal::of(&traits, &decision, waited)),
            Self::Failed(error) => Err(Failure::from(error).into()),
            Self::Closed => Err(failure::closed()),
        }
    }
}

#[pymethods]
impl Family {
    /// Its name.
    #[getter]
    pub(crate) fn name(&self) -> &str {
        &self.traits.name
    }

    /// How many of its reservations are open or waited for.
    #[getter]
    fn open(&self) -> usize {
        self.traits.open.load(Ordering::Relaxed)
    }

    /// When something was last acquired or recorded (or else it was made), in seconds of the engine's clock.
    #[getter]
    fn touched(&self) -> f64 {
        Duration::from_nanos(self.traits.touched.load(Ordering::Relaxed)).as_secs_f64()
    }

    /// Ends its use, unless a reservation is open or waited for or it was used since `before`; answers whether it is ended. Who acquires
    /// or records after that is told so by [`failure::Retired`], and has taken nothing: the rules may be put out of force.
    fn retire(&self, before: f64) -> bool {
        self.traits.gate.core.alone(|| {
            let is_idle = self.open() == 0 && self.touched() <= before;
            self.traits.is_retired.fetch_or(is_idle, Ordering::Relaxed);
            is_idle
        })
    }

    /// Holds a usage, waiting for it up to `timeout` seconds (none: for ever).
    #[pyo3(signature = (usage, model, timeout=None))]
    fn acquire(
        &self,
        py: Python<'_>,
        usage: &Bound<'_, PyAny>,
        model: &Bound<'_, PyString>,
        timeout: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Py<PyAny>> {
        let max_wait = timeout.map_or(Ok(engine::FOREVER), seconds)?;
        let asking = Asking::new(&self.traits, usage, model, max_wait)?;
        let core = &self.traits.gate.core;
        let decided = self.traits.ruled(|held| match &held.memory {
            Some(memory) => match self.traits.try_now(memory, asking.demand) {
                Ok(Decision::Deny(_)) if !max_wait.is_zero() => Continue(held.store.clone()),
                decision => Break(decision),
            },
            None => Continue(held.store.clone()),
        })?;
        match decided {
            Break(decision) => asking.meet(decision).tell(py),
            Continue(store) => {
                let place = Place::take(asking.waiter(model.to_string()));
                pending::start(py, core.runtime(), wait(store, asking, place))
            }
        }
    }

    /// Charges a usage without asking. What there was no room for cannot be refunded.
    fn record(
        &self,
        py: Python<'_>,
        usage: &Bound<'_, PyAny>,
        model: &Bound<'_, PyString>,
    ) -> PyResult<Py<PyAny>> {
        let asking = Asking::new(&self.traits, usage, model, Duration::ZERO)?;
        let core = &self.traits.gate.core;
        let store = self.traits.ruled(|held| held.store.clone())?;
        pending::start(py, core.runtime(), record(store, asking))
    }

    /// Where every quota stands: the rule's name, what is left and what is owed of each.
    fn left(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        let core = &self.traits.gate.core;
        let (store, labels) = (core.store()?, self.traits.labels.clone());
        let looking = async move {
            let standings = store.peek(&labels.pairs()).await;
            move |py: Python<'_>| {
                let standings = standings.map_err(Failure::from)?;
                let left = standings.iter();
                let left = left.map(|one| (&*one.limit.name, one.remaining, one.debt));
                Ok(left.collect::<Vec<_>>().into_pyobject(py)?.unbind())
            }
        };
        pending::start(py, core.runtime(), looking)
    }
}

impl Family {
    pub(crate) fn new(traits: Traits) -> Self {
        Self {
            traits: Arc::new(traits),
        }
    }

    /// Ends its use: whoever acquires or records after that is told so, and has taken nothing. To be called under the engine's lock.
    pub(crate) fn end(&self) {
        self.traits.is_retired.store(true, Ordering::Relaxed);
    }
}

type Told = Box<dyn FnOnce(Python<'_>) -> PyResult<Py<PyAny>> + Send>;

async fn wait(store: Arc<dyn Store>, asking: Asking, _place: Place) -> Told {
    let (wish, labels) = (asking.wish(), asking.traits.labels.clone());
    let gate = asking.traits.gate.clone();
    let outcome = tokio::select! {
        biased;
        decision = subject::ask(&*store, &labels, &wish) => asking.meet(decision),
        () = gate.core.until_closed() => Outcome::Closed,
    };
    Box::new(move |py| outcome.tell(py))
}

async fn record(store: Arc<dyn Store>, asking: Asking) -> Told {
    let (wish, labels) = (asking.wish(), asking.traits.labels.clone());
    let decision = subject::ask(&*store, &labels, &wish).await;
    if !matches!(decision, Ok(Decision::Deny(_) | Decision::Never(_))) {
        let outcome = asking.meet(decision);
        return Box::new(move |py| outcome.tell(py));
    }
    let charged = subject::charge(&*store, &labels, asking.demand).await;
    let now = Duration::from_nanos(store.now().as_nanos());
    asking.traits.touch(now);
    Box::new(move |py| {
        let hold = Hold::ended(asking.traits.gate.core.clone(), charged?);
        let held = asking.held(hold, now);
        held.release();
        Ok(Py::new(py, CapacityReservation::held(held))?.into_any())
    })
}

/// A timeout in seconds.
///
/// # Errors
/// When it is no number, negative, or not finite.
fn seconds(timeout: &Bound<'_, PyAny>) -> PyResult<Duration> {
    let number = match timeout.is_instance_of::<PyBool>() || timeout.is_instance_of::<PyString>() {
        true => None,
        false => timeout
            .extract::<f64>()
            .ok()
            .filter(|number| number.is_finite()),
    };
    match number {
        Some(number) if number >= 0.0 => engine::duration("timeout", number),
        _ => Err(failure::value(format!(
            "timeout must be None or a finite number of seconds, 0 or more (got {})",
            timeout.repr()?
        ))),
    }
}
