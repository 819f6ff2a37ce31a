//! An admitted call until its account is closed.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use tallygate_core::{Amounts, Extended, Metric};
use tallygate_store::{BoxFuture, SettleError, Settlement};
use tallygate_tokens::{Count, Counter, Endpoint, Estimate, OutputClass, Usage};
use tokio::time::Instant;

use super::Pipeline;
use super::hold::{Ending, Hold};
use crate::config::Upstream;
use crate::observe::{Answered, End, Sizing, Stage};
use crate::wire::ApiError;

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

/// Who called what, as far as settling and telling must know.
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
    pub(crate) input: Count,
    /// The output as it was estimated before the call.
    pub(crate) output: Estimate,
    /// Whether its output is to be learnt.
    pub(crate) learning: Learning,
}

/// Whether calls of a model are learnt from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Learning {
    /// The model's estimate is a learnt one.
    On,
    /// Nobody would ask.
    Off,
}

/// A call that was let through: its hold, and what is needed to settle it and to tell of it.
pub(crate) struct Account {
    hold: Hold,
    of: AccountOf,
    pipeline: Arc<Pipeline>,
    course: Course,
}

/// How the answer came.
struct Course {
    sent: Instant,
    status: Option<u16>,
    first_token: Option<Duration>,
    response_model: Option<String>,
}

impl Account {
    /// Opens the account of a call that is sent on now. From now on its hold is kept as used if the call vanishes: the
    /// provider may be at work on it.
    pub(crate) fn open(mut hold: Hold, of: AccountOf, pipeline: Arc<Pipeline>) -> Self {
        hold.or_else(kept(of.input.tokens));
        let course = Course {
            sent: Instant::now(),
            status: None,
            first_token: None,
            response_model: None,
        };
        Self {
            hold,
            of,
            pipeline,
            course,
        }
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

    /// When it was sent.
    pub(crate) fn sent(&self) -> Instant {
        self.course.sent
    }

    /// The head of the answer came, with this status.
    pub(crate) fn answered(&mut self, status: u16) {
        self.course.status = Some(status);
    }

    /// A piece of a streamed answer came: the first of them tells the time to the first token.
    pub(crate) fn streamed(&mut self) {
        let sent = self.course.sent;
        self.course
            .first_token
            .get_or_insert_with(|| sent.elapsed());
    }

    /// The model that says it answered.
    pub(crate) fn named(&mut self, model: Option<String>) {
        self.course.response_model = model;
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
        let more = reserved.zip(self.hold.reserved(), u64::saturating_sub);
        self.pipeline.observer.extended(&more);
        self.hold.grown_to(reserved);
    }

    /// Settles by what the call used.
    ///
    /// # Cancel safety
    /// Dropped half-way, the settling is finished in the background.
    pub(crate) fn settle(self, served: Served) -> impl Future<Output = ()> + Send + 'static {
        self.close(served, None)
    }

    /// As [`Self::settle`], for a call whose answer failed with `error`.
    pub(crate) fn settle_failed(
        self,
        served: Served,
        error: &ApiError,
    ) -> impl Future<Output = ()> + Send + 'static {
        self.close(served, Some(error))
    }

    /// Settles in the background: the caller has left.
    pub(crate) fn abandon(mut self, served: Served) {
        self.tell(served, None);
        let ending = self.ending(served);
        self.hold.or_else(ending);
    }

    /// Tells of the call, then ends its hold.
    fn close(
        self,
        served: Served,
        failed: Option<&ApiError>,
    ) -> impl Future<Output = ()> + Send + 'static {
        let began = Instant::now();
        self.tell(served, failed);
        let ending = self.ending(served);
        async move {
            self.hold.end(ending).await;
            self.pipeline.observer.stage(Stage::Settle, began.elapsed());
        }
    }

    /// How the hold is to end.
    fn ending(&self, served: Served) -> Ending {
        let (input, output) = match served {
            Served::Reported(usage) => (usage.input_tokens, usage.output_tokens),
            Served::Counted { input, output } => (input.unwrap_or(self.of.input.tokens), output),
            Served::Unknown => return kept(self.of.input.tokens),
            Served::Refused => (0, 0),
            Served::Not => return Ending::Cancel,
        };
        Ending::Settle(Settlement::Exact(Amounts::call(input, output)))
    }

    /// Tells the observer how the call went, and the learner what it produced.
    fn tell(&self, served: Served, failed: Option<&ApiError>) {
        let usage = match &served {
            Served::Reported(usage) => Some(usage),
            _ => None,
        };
        let status = self.course.status.map(End::Status);
        if let Some(end) = failed.map(End::Failed).or(status) {
            self.pipeline.observer.answered(&Answered {
                endpoint: self.of.endpoint,
                upstream: self.of.upstream.name(),
                model: &self.of.model,
                response_model: self.course.response_model.as_deref(),
                end,
                took: self.course.sent.elapsed(),
                first_token: self.course.first_token,
                usage,
            });
        }
        if let Some(usage) = usage {
            self.compare(usage);
        }
    }

    /// Holds the sizes against what was used.
    fn compare(&self, usage: &Usage) {
        self.pipeline.observer.sized(&Sizing {
            model: &self.of.model,
            input: (self.of.input.tokens, self.of.input.method),
            output: (self.of.output.tokens, self.of.output.method),
            usage,
        });
        if self.of.learning == Learning::On {
            let class = OutputClass {
                model: &self.of.model,
                tenant: &self.of.tenant,
                endpoint: self.of.endpoint,
            };
            let mut learner = self.pipeline.learner.lock();
            learner.observe(&class, usage.input_tokens, usage.output_tokens);
        }
    }
}

/// All that is held stays charged, and more if the input alone was more.
fn kept(input: u64) -> Ending {
    Ending::Settle(Settlement::AtLeast(Amounts::call(input, 0)))
}
