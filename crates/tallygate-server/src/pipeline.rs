//! The life of a request: one function a stage, typed values between them.
//!
//! ```text
//! Request ─identify► Caller ─┬ attempt ─size► Sized ─admit► Admitted ─forward► answer ─settle► Receipt
//!                            └ the next attempt, where a quota refuses this one; Refusal, where there is none
//! ```
//!
//! The gateway goes all the way; the decision API shares the stages and leaves forwarding to its callers.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use tallygate_store::Store;
use tallygate_store::registry::Stamp;
use tallygate_tokens::{Counter, Learner};

use crate::events::{Events, EventsLog};
use crate::ledger::Recorder;
use crate::observe::Observer;
use tokio::sync::Semaphore;

mod account;
mod admit;
mod attempt;
mod caller;
mod descent;
mod hold;
mod laps;
mod marks;
mod price;
mod refusal;
mod request_id;
mod settler;
mod setup;
mod size;
mod watch;
mod watchlist;

pub(crate) use account::{Account, Served};
pub(crate) use admit::{Admitted, Terms, labels};
pub(crate) use attempt::{Attempt, Sized, Step};
pub(crate) use caller::{Caller, check_name, willing};
pub(crate) use descent::{Asking, Descent, ServedBy, Through, find};
pub(crate) use hold::{Ending, Hold};
pub(crate) use laps::Laps;
pub(crate) use price::Price;
pub(crate) use refusal::Refusal;
use request_id::RequestIds;
pub(crate) use settler::{Settler, SettlerHandle, SettlerLog, settler};
pub(crate) use setup::Setup;
pub(crate) use size::{Asked, Estimating, Size};
pub(crate) use watch::Watched;
pub(crate) use watchlist::{Holding, Watchlist};

/// Messages whose counts are remembered.
const REMEMBERED_MESSAGES: usize = 100_000;

/// Classes of calls whose output is learnt.
const LEARNT_CLASSES: usize = 10_000;

/// What all requests are served with.
pub(crate) struct Pipeline {
    store: Arc<dyn Store>,
    setup: ArcSwap<Setup>,
    /// Counts what was put in force.
    turns: AtomicU64,
    counter: Arc<Counter>,
    learner: Mutex<Learner>,
    settler: Arc<SettlerHandle>,
    observer: Arc<Observer>,
    recorder: Arc<Recorder>,
    events: Arc<Events>,
    watchlist: Watchlist,
    /// One turn for each core that counts large bodies.
    counting: Semaphore,
    requests: RequestIds,
}

/// What a pipeline works with that no reload changes.
pub(crate) struct Means {
    /// What decides.
    pub(crate) store: Arc<dyn Store>,
    /// What ends reservations whose request is gone.
    pub(crate) settler: Arc<SettlerHandle>,
    /// What is told of everything.
    pub(crate) observer: Arc<Observer>,
    /// What records what became of calls.
    pub(crate) recorder: Arc<Recorder>,
    /// Random bits, so that no caller can aim at a slot of a table.
    pub(crate) seed: [u64; 2],
}

impl Pipeline {
    /// A pipeline that serves by `setup`.
    pub(crate) fn new(setup: Setup, means: Means) -> Arc<Self> {
        let Means {
            store,
            settler,
            observer,
            recorder,
            seed,
        } = means;
        let events = Events::new(setup.config(), Arc::clone(&observer) as Arc<dyn EventsLog>);
        Arc::new(Self {
            store,
            setup: ArcSwap::from_pointee(setup),
            turns: AtomicU64::new(1),
            counter: Arc::new(Counter::new(seed, REMEMBERED_MESSAGES)),
            learner: Mutex::new(Learner::new(LEARNT_CLASSES)),
            settler,
            observer,
            recorder,
            events,
            watchlist: Watchlist::default(),
            counting: Semaphore::new(cores()),
            requests: RequestIds::new(seed),
        })
    }

    /// The store that decides.
    pub(crate) fn store(&self) -> &Arc<dyn Store> {
        &self.store
    }

    /// What is told of everything.
    pub(crate) fn observer(&self) -> &Arc<Observer> {
        &self.observer
    }

    /// What records what became of calls.
    pub(crate) fn recorder(&self) -> &Arc<Recorder> {
        &self.recorder
    }

    /// Where what happens is told on.
    pub(crate) fn events(&self) -> &Arc<Events> {
        &self.events
    }

    /// What counts.
    pub(crate) fn counter(&self) -> &Arc<Counter> {
        &self.counter
    }

    /// A name for a request, to be told to its caller and to the log.
    pub(crate) fn request_id(&self) -> String {
        self.requests.next()
    }

    /// The store's time, as it is written down.
    pub(crate) fn stamp(&self) -> Stamp {
        self.store.now().into()
    }

    /// The configuration in force.
    pub(crate) fn setup(&self) -> Arc<Setup> {
        self.setup.load_full()
    }

    /// Puts another configuration in force for the requests that come.
    pub(crate) fn replace(&self, setup: Setup) {
        self.events.follow(setup.config());
        self.setup.store(Arc::new(setup));
        self.turns.fetch_add(1, Ordering::Release);
    }

    /// Another number after each [`Self::replace`]; never zero.
    pub(crate) fn turn(&self) -> u64 {
        self.turns.load(Ordering::Acquire)
    }
}

fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}
