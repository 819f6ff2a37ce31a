//! An admitted call until its account is closed.

use std::future::Future;
use std::sync::Arc;

use tallygate_core::{Amounts, Extended, Metric};
use tallygate_store::{BoxFuture, SettleError, Settlement};
use tallygate_tokens::{Counter, Endpoint, OutputClass, Usage};

use super::Pipeline;
use super::hold::{Ending, Hold};
use crate::config::Upstream;

/// What is known of a call's use when it is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Served {
    /// The provider said what it was.
    Reported(Usage),
    /// The provider did not say, or not to the end: what passed was counted here. Its word on the input, if it gave
    /// one, goes before our own.
    Counted {
        /// Input tokens by the provider's word.
        input: Option<u64>,
        /// Output tokens that passed.
        output: u64,
    },
    /// It was served, but nobody can say what it used: all that is held is kept.
    Unknown,
    /// The provider refused it (4xx): it counts as a request and used no tokens.
    Refused,
    /// The provider did not serve it (no connection, 429, 5xx): nothing was used.
    Not,
}

/// Who called what, as far as settling must know.
#[derive(Debug, Clone)]
pub(crate) struct AccountOf {
    /// The canonical model.
    pub(crate) model: Arc<str>,
    /// The tenant, or empty.
    pub(crate) tenant: Arc<str>,
    /// What was called.
    pub(crate) endpoint: Endpoint,
    /// Who is to serve it.
    pub(crate) upstream: Arc<Upstream>,
    /// The input as it was sized before the call.
    pub(crate) input: u64,
}

impl AccountOf {
    /// A call of this class to `upstream` with so much input.
    pub(crate) fn new(class: &OutputClass<'_>, upstream: &Arc<Upstream>, input: u64) -> Self {
        Self {
            model: Arc::from(class.model),
            tenant: Arc::from(class.tenant),
            endpoint: class.endpoint,
            upstream: Arc::clone(upstream),
            input,
        }
    }
}

/// A call that was let through: its hold, and what is needed to settle it.
pub(crate) struct Account {
    hold: Hold,
    of: AccountOf,
    pipeline: Arc<Pipeline>,
}

impl Account {
    /// Opens the account of a call that is about to be forwarded. From now on its hold is kept as used if the call
    /// vanishes: the provider may be at work on it.
    pub(crate) fn open(mut hold: Hold, of: AccountOf, pipeline: Arc<Pipeline>) -> Self {
        hold.or_else(kept(of.input));
        Self { hold, of, pipeline }
    }

    /// Who called what.
    pub(crate) fn of(&self) -> &AccountOf {
        &self.of
    }

    /// The pipeline it went through.
    pub(crate) fn pipeline(&self) -> &Arc<Pipeline> {
        &self.pipeline
    }

    /// What was called.
    pub(crate) fn endpoint(&self) -> Endpoint {
        self.of.endpoint
    }

    /// The canonical model.
    pub(crate) fn model(&self) -> &Arc<str> {
        &self.of.model
    }

    /// What counts for it.
    pub(crate) fn counter(&self) -> &Arc<Counter> {
        &self.pipeline.counter
    }

    /// How many output tokens are held.
    pub(crate) fn held_output(&self) -> u64 {
        self.hold.reserved().get(Metric::OUTPUT_TOKENS)
    }

    /// Asks to hold `more` output tokens.
    pub(crate) fn ask_more(&self, more: u64) -> BoxFuture<'static, Result<Extended, SettleError>> {
        let store = Arc::clone(&self.pipeline.store);
        let id = self.hold.id();
        let more = Amounts::ZERO.with_tokens(0, more);
        Box::pin(async move { store.extend(id, more, None).await })
    }

    /// Notes what is held since more was granted.
    pub(crate) fn grown_to(&mut self, reserved: Amounts) {
        self.hold.grown_to(reserved);
    }

    /// Settles by what the call used.
    ///
    /// # Cancel safety
    /// Dropped half-way, the settling is finished in the background.
    pub(crate) fn settle(self, served: Served) -> impl Future<Output = ()> + Send + 'static {
        let ending = self.close(served);
        async move {
            self.hold.end(ending).await;
        }
    }

    /// Settles in the background: the caller has left.
    pub(crate) fn abandon(mut self, served: Served) {
        let ending = self.close(served);
        self.hold.or_else(ending);
    }

    /// Tells what was learnt of the call, and how its hold is to end.
    fn close(&self, served: Served) -> Ending {
        let (input, output) = match served {
            Served::Reported(usage) => (usage.input_tokens, usage.output_tokens),
            Served::Counted { input, output } => (input.unwrap_or(self.of.input), output),
            Served::Unknown => return kept(self.of.input),
            Served::Refused => (0, 0),
            Served::Not => return Ending::Cancel,
        };
        if let Served::Reported(usage) = served {
            self.learn(usage);
        }
        Ending::Settle(Settlement::Exact(Amounts::call(input, output)))
    }

    fn learn(&self, usage: Usage) {
        let class = OutputClass {
            model: &self.of.model,
            tenant: &self.of.tenant,
            endpoint: self.of.endpoint,
        };
        let mut learner = self.pipeline.learner.lock();
        learner.observe(&class, usage.input_tokens, usage.output_tokens);
    }
}

/// All that is held stays charged, and more if the input alone was more.
fn kept(input: u64) -> Ending {
    Ending::Settle(Settlement::AtLeast(Amounts::call(input, 0)))
}
