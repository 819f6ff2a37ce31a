//! Who asks, prepared once and used often.
use crate::amounts::Usage;
use crate::denial::{Denial, Standing};
use crate::engine::{self, Core, LONGEST};
use crate::failure::{self, Failure};
use crate::hold::{Hold, Owner};
use crate::pending;
use crate::reservation::Reservation;
use pyo3::prelude::*;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tallygate_core::{Amounts, Decision, ReservationId};
use tallygate_store::{Reserve, SettledBy, Settlement, Store, StoreError, WaitsFor};

/// One that limits count for, by its labels.
#[pyclass(frozen, module = "tallygate._native")]
pub(crate) struct Subject {
    core: Arc<Core>,
    labels: Arc<Labels>,
}

/// Pairs of label and value.
pub(crate) struct Labels(Vec<(String, String)>);

impl Labels {
    pub(crate) fn new(labels: impl IntoIterator<Item = (String, String)>) -> Arc<Self> {
        Arc::new(Self(labels.into_iter().collect()))
    }

    /// The value of the first.
    pub(crate) fn first(&self) -> &str {
        self.0.first().map_or("", |(_, value)| value)
    }

    /// All of them, borrowed.
    pub(crate) fn pairs(&self) -> Vec<(&str, &str)> {
        let pairs = self.0.iter();
        pairs.map(|(label, value)| (&**label, &**value)).collect()
    }
}

/// What is asked for.
#[derive(Debug, Clone)]
pub(crate) struct Wish {
    pub(crate) demand: Amounts,
    pub(crate) ttl: Duration,
    pub(crate) max_wait: Duration,
    pub(crate) key: Option<String>,
}

/// Puts a wish to a store, and waits in its line.
///
/// # Errors
/// When the store does not answer.
pub(crate) async fn ask(
    store: &dyn Store,
    labels: &Labels,
    wish: &Wish,
) -> Result<Decision, StoreError> {
    let pairs = labels.pairs();
    let ask = Reserve {
        subject: &pairs,
        demand: wish.demand,
        ttl: wish.ttl,
        max_wait: wish.max_wait,
        idempotency_key: wish.key.as_deref(),
        waits_for: WaitsFor::Anything,
        settled_by: SettledBy::ThisNode,
    };
    store.reserve(ask).await
}

impl Subject {
    pub(crate) fn new(core: Arc<Core>, labels: BTreeMap<String, String>) -> Self {
        Self {
            core,
            labels: Labels::new(labels),
        }
    }
}

#[pymethods]
impl Subject {
    #[expect(
        clippy::too_many_arguments,
        reason = "they are the keyword arguments of a Python method"
    )]
    /// Holds a usage for up to `ttl` seconds, waiting in line up to `max_wait` (none: for ever).
    #[pyo3(signature = (usage, ttl=86400.0, max_wait=0.0, key=None))]
    fn reserve(
        &self,
        py: Python<'_>,
        usage: &Bound<'_, PyAny>,
        ttl: f64,
        max_wait: Option<f64>,
        key: Option<String>,
    ) -> PyResult<Py<PyAny>> {
        let (store, policy) = self
            .core
            .with(|held, policy| (held.store.clone(), policy.clone()))?;
        let owner = key.as_ref().map_or(Owner::This, |_| Owner::Any);
        let wish = Wish {
            demand: Usage::read(policy.metrics(), usage)?.amounts,
            ttl: engine::duration("ttl", ttl)?,
            max_wait: max_wait.map_or(Ok(LONGEST), |wait| engine::duration("max_wait", wait))?,
            key,
        };
        let (core, labels) = (self.core.clone(), self.labels.clone());
        let asking = async move {
            let decision = tokio::select! {
                biased;
                decision = ask(&*store, &labels, &wish) => Some(decision),
                () = core.until_closed() => None,
            };
            let answer = decision.map(|decision| match decision {
                Ok(Decision::Admit(admission)) => {
                    let hold = Hold::new(core.clone(), &admission, owner);
                    Ok(Ok((hold, admission.standings)))
                }
                Ok(refusal) => Ok(Err(Denial::of(&refusal, policy.metrics()))),
                Err(error) => Err(Failure::from(error)),
            });
            move |py: Python<'_>| match answer.ok_or_else(failure::closed)?? {
                Ok((hold, standings)) => {
                    Ok(Py::new(py, Reservation::told(hold, standings))?.into_any())
                }
                Err(denial) => Ok(denial.into_pyobject(py)?.unbind()),
            }
        };
        pending::start(py, self.core.runtime(), asking)
    }

    /// Charges what was used without asking; it may leave a debt.
    fn record(&self, py: Python<'_>, usage: &Bound<'_, PyAny>) -> PyResult<Py<PyAny>> {
        let (store, policy) = self
            .core
            .with(|held, policy| (held.store.clone(), policy.clone()))?;
        let used = Usage::read(policy.metrics(), usage)?.amounts;
        let labels = self.labels.clone();
        let charging = async move {
            let charged = charge(&*store, &labels, used).await;
            move |py: Python<'_>| charged.map(|_| py.None()).map_err(PyErr::from)
        };
        pending::start(py, self.core.runtime(), charging)
    }

    /// Where every limit that applies stands. Changes nothing.
    fn peek(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        let (store, labels) = (self.core.store()?, self.labels.clone());
        let looking = async move {
            let standings = store.peek(&labels.pairs()).await;
            move |py: Python<'_>| {
                let standings = standings.map_err(Failure::from)?;
                let standings: Vec<Standing> = standings.iter().map(Standing::from).collect();
                Ok(standings.into_pyobject(py)?.unbind())
            }
        };
        pending::start(py, self.core.runtime(), looking)
    }
}

/// Charges without asking, by a reservation that has ended then: one of nothing always fits, and its settlement may be of any size.
///
/// # Errors
/// When the store does not answer.
pub(crate) async fn charge(
    store: &dyn Store,
    labels: &Labels,
    used: Amounts,
) -> Result<ReservationId, Failure> {
    let wish = Wish {
        demand: Amounts::ZERO,
        ttl: LONGEST,
        max_wait: Duration::ZERO,
        key: None,
    };
    let Decision::Admit(admission) = ask(store, labels, &wish).await? else {
        let reason = "a reservation of nothing was refused".to_owned();
        let retry_after = Duration::ZERO;
        return Err(StoreError::Down {
            reason,
            retry_after,
        }
        .into());
    };
    let id = admission.id;
    match store.settle(id, Settlement::Exact(used)).await {
        Ok(_) | Err(tallygate_store::SettleError::Kept { .. }) => Ok(id),
        Err(error) => Err(Failure::End { error, id }),
    }
}
