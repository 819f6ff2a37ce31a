//! An admitted call until its account is closed.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use tallygate_core::{Amounts, Extended, Metric, Standing};
use tallygate_store::{BoxFuture, SettleError, Settlement};
use tallygate_tokens::{Call, Counter, Endpoint, OutputClass, OutputPolicy, Usage};
use tokio::time::Instant;

use super::Pipeline;
use super::hold::{Ending, Hold};
use super::price::Price;
use super::size::{Estimating, Size};
use super::watch::Watched;
use crate::config::Upstream;
use crate::identify::Identity;
use crate::ledger::Reserved;
use crate::observe::{Answered, End, Sizing, Stage};
use crate::wire::ApiError;

mod recording;

/// What is known of a call's use when it is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Served {
    /// The provider said what it was.
    Reported(Usage),
    /// The provider did not say, or not to the end: what passed was counted here. Its word on the input, if it gave
    /// one, goes before our own.
    Counted {
        /// The input by the provider's word; what else that says was not its last.
        input: Option<Usage>,
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
#[derive(Debug)]
pub(crate) struct AccountOf {
    /// The canonical model.
    pub(crate) model: Arc<str>,
    /// What the model asked for counts as: another one where the call was downgraded.
    pub(crate) asked: Arc<str>,
    /// Who called.
    pub(crate) identity: Arc<Identity>,
    /// What was called.
    pub(crate) endpoint: Endpoint,
    /// Who is to serve it.
    pub(crate) upstream: Arc<Upstream>,
    /// How large it was taken to be before the call.
    pub(crate) size: Size,
    /// What its tokens cost.
    pub(crate) price: Price,
    /// Whether its output is to be learnt.
    pub(crate) learning: Learning,
    /// Whether the provider goes on with it when the caller leaves.
    pub(crate) unattended: Unattended,
    /// What is still to be counted, should the provider not tell.
    pub(crate) uncounted: Option<Box<Uncounted>>,
}

/// A call that was let through on a bound of its size.
#[derive(Debug)]
pub(crate) struct Uncounted {
    pub(crate) call: Call,
    pub(crate) policy: OutputPolicy,
}

/// What becomes of an answer that nobody reads any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unattended {
    /// The provider stops.
    Stops,
    /// The provider goes on, and the caller may fetch it later.
    GoesOn,
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
///
/// Dropped, it settles in the background as [`Served::Unknown`]: the provider may be at work on the call.
pub(crate) struct Account {
    /// `None` once the call is told of and its hold is ending.
    hold: Option<Hold>,
    of: AccountOf,
    pipeline: Arc<Pipeline>,
    course: Course,
    /// What was held at first.
    reserved: Reserved,
    watched: Option<Watched>,
}

/// How the answer came.
struct Course {
    sent: Instant,
    status: Option<u16>,
    first_token: Option<Duration>,
    response_model: Option<String>,
}

impl Account {
    /// Opens the account of a call that is sent on now.
    pub(crate) fn open(hold: Hold, of: AccountOf, pipeline: Arc<Pipeline>) -> Self {
        let reserved = Reserved {
            at: pipeline.store.now(),
            amounts: *hold.reserved(),
            waited: Duration::ZERO,
        };
        let course = Course {
            sent: Instant::now(),
            status: None,
            first_token: None,
            response_model: None,
        };
        Self {
            hold: Some(hold),
            of,
            pipeline,
            course,
            reserved,
            watched: None,
        }
    }

    /// For whom it counts, where something is told of that.
    pub(crate) fn watched(mut self, watched: Option<Watched>) -> Self {
        self.watched = watched;
        self
    }

    /// Its caller stood in line for so long.
    pub(crate) fn having_waited(mut self, waited: Duration) -> Self {
        self.reserved.waited = waited;
        self
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
        self.held().get(Metric::OUTPUT_TOKENS)
    }

    fn held(&self) -> Amounts {
        self.hold
            .as_ref()
            .map_or(Amounts::ZERO, |hold| *hold.reserved())
    }

    /// Asks to hold `more` output tokens.
    pub(crate) fn ask_more(&self, more: u64) -> BoxFuture<'static, Result<Extended, SettleError>> {
        let store = Arc::clone(&self.pipeline.store);
        let id = self.hold.as_ref().map(Hold::id);
        let more = self.of.price.grown(&self.held(), more);
        Box::pin(async move {
            let id = id.ok_or(SettleError::Unknown)?;
            store.extend(id, more, None).await
        })
    }

    /// Notes what is held since more was granted.
    pub(crate) fn grown_to(&mut self, reserved: Amounts) {
        let more = reserved.zip(&self.held(), u64::saturating_sub);
        self.pipeline.observer.extended(&more);
        self.pipeline.look_at(self.watched.as_ref());
        if let Some(hold) = &mut self.hold {
            hold.grown_to(reserved);
        }
    }

    /// Tells that limits denied it more than it holds.
    pub(crate) fn denied_more(&self, blocked_by: &[Standing]) {
        let watched = self.watched.as_ref();
        self.pipeline.denied_more(watched, blocked_by);
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
        self.leave(served);
    }

    /// Tells of the call, then ends its hold.
    fn close(
        mut self,
        served: Served,
        failed: Option<&ApiError>,
    ) -> impl Future<Output = ()> + Send + 'static {
        let began = Instant::now();
        self.tell(served, failed);
        let ending = self.ending(served);
        self.record(served, &ending);
        self.heed(&ending);
        let hold = self.hold.take();
        async move {
            if let Some(hold) = hold {
                hold.end(ending).await;
            }
            self.pipeline.observer.stage(Stage::Settle, began.elapsed());
        }
    }

    fn leave(&mut self, served: Served) {
        if self.hold.is_none() {
            return;
        }
        self.tell(served, None);
        let ending = self.ending(served);
        self.record(served, &ending);
        self.heed(&ending);
        if let Some(mut hold) = self.hold.take() {
            hold.or_else(ending);
        }
    }

    /// Sees to it that use above what is held is told of when it is charged.
    fn heed(&mut self, ending: &Ending) {
        if let (Some(watched), Some(hold)) = (&self.watched, &mut self.hold)
            && exceeds(ending, hold.reserved())
        {
            let (pipeline, watched) = (Arc::clone(&self.pipeline), watched.clone());
            hold.and_then(Box::new(move || pipeline.look_at(Some(&watched))));
        }
    }

    /// How the hold is to end.
    fn ending(&self, served: Served) -> Ending {
        let usage = match served {
            Served::Reported(usage) => usage,
            Served::Counted { input, output } => self.passed(input, output),
            Served::Unknown => return self.kept(),
            Served::Refused => Usage::default(),
            Served::Not => return Ending::Cancel,
        };
        Ending::Settle(Settlement::Exact(self.of.price.charged(&usage)))
    }

    /// What is charged for an answer of which `output` passed: that, or what was held for it if more may still come.
    fn passed(&self, input: Option<Usage>, output: u64) -> Usage {
        match (input, self.of.unattended) {
            (Some(told), Unattended::Stops) => Usage {
                output_tokens: output,
                ..told
            },
            (told, unattended) => {
                let size = self.size();
                let output_tokens = match unattended {
                    Unattended::Stops => output,
                    Unattended::GoesOn => output.max(size.output.tokens),
                };
                let uncached = Usage {
                    input_tokens: size.input.tokens,
                    ..Usage::default()
                };
                Usage {
                    output_tokens,
                    ..told.unwrap_or(uncached)
                }
            }
        }
    }

    /// All that is held stays charged, and more if the input alone was more. Of a hold that was only a bound, what
    /// would have been held had the input been counted.
    fn kept(&self) -> Ending {
        let size = self.size();
        let settlement = match &self.of.uncounted {
            None => Settlement::AtLeast(self.of.price.held(size.input.tokens, 0)),
            Some(_) => {
                let held = self.of.price.held(size.input.tokens, size.output.tokens);
                Settlement::Exact(held)
            }
        };
        Ending::Settle(settlement)
    }

    /// How large the call is; counted now, if that was put off.
    fn size(&self) -> Size {
        match &self.of.uncounted {
            None => self.of.size,
            Some(uncounted) => {
                let input = self.pipeline.count_now(&uncounted.call);
                let estimating = Estimating {
                    class: self.of.class(),
                    policy: &uncounted.policy,
                    price: &self.of.price,
                };
                self.pipeline.sized(&uncounted.call, input, estimating)
            }
        }
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
                asked: &self.of.asked,
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

    /// Holds the size against what was used.
    fn compare(&self, usage: &Usage) {
        let size = &self.of.size;
        if self.of.uncounted.is_none() {
            self.pipeline.observer.sized(&Sizing {
                model: &self.of.model,
                input: (size.input.tokens, size.input.method),
                output: (size.output.tokens, size.output.method),
                usage,
            });
        }
        if self.of.learning == Learning::On {
            let mut learner = self.pipeline.learner.lock();
            learner.observe(&self.of.class(), usage.input_tokens, usage.output_tokens);
        }
    }
}

/// Whether more is charged than was held.
fn exceeds(ending: &Ending, held: &Amounts) -> bool {
    match ending {
        Ending::Settle(Settlement::Exact(used) | Settlement::AtLeast(used)) => {
            used.zip(held, u64::saturating_sub) != Amounts::ZERO
        }
        _ => false,
    }
}

impl AccountOf {
    fn class(&self) -> OutputClass<'_> {
        OutputClass {
            model: &self.model,
            tenant: self.identity.label("tenant").unwrap_or_default(),
            endpoint: self.endpoint,
        }
    }
}

impl Drop for Account {
    fn drop(&mut self) {
        self.leave(Served::Unknown);
    }
}
