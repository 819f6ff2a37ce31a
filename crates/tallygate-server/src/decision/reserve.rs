//! `POST reserve`.

use std::time::Duration;

use serde_json::{Value, json};
use tallygate_core::{Admission, Amounts, Metric, Metrics, Replay, ReservationId, Stated};
use tallygate_store::WaitsFor;

use super::fields::{FieldError, Fields};
use super::money::Reservation;
use super::subject::Subject;
use super::wish::{Choice, Wish};
use super::{Question, told};
use crate::ledger;
use crate::observe::Door;
use crate::pipeline::{Asking, Descent, Refusal, Step, Terms, find};
use crate::wire::{millis, rfc3339};

/// How long a reservation stands unless it says so.
const DEFAULT_TTL: Duration = Duration::from_secs(600);

/// The longest `idempotency_key`, in bytes.
const MAX_KEY: usize = 256;

impl Question<'_> {
    /// Asks the limits for a call that the caller will make itself.
    ///
    /// # Errors
    /// Denials; bodies that say something else than they may.
    pub(super) async fn reserve(&self) -> Result<Value, Refusal> {
        let mut fields = Fields::of_body(self.body)?;
        let mut subject = Subject::of(self.caller.identity());
        subject.add_fields(&mut fields)?;
        let named = fields.text("model")?;
        let wanted = Wanted::read(&mut fields, self.caller.config().waiting().max_wait)?;
        let wish = self.wish(&mut fields, named, &subject).await?;
        fields.end()?;
        let choices = self.choices(&wish, &subject)?;
        if let Some(told) = self.replayed(&wish, (&choices, &wanted), &subject).await? {
            return Ok(told);
        }
        let mut descent = Descent::new(choices.len(), wanted.max_wait);
        for choice in &choices {
            let known = self.known(choice, wish.endpoint());
            let asking = Asking {
                model: choice.name.unwrap_or_default(),
                asked: choice.asked,
                subject: &subject.labels(&known),
                terms: wanted.of(self.demand(&wish, choice, &subject).await?),
            };
            if let Some(through) = descent.ask(self.pipeline, asking).await? {
                let (admission, chosen) = (&through.admission, choices.get(through.at));
                let chosen = chosen.unwrap_or(choice);
                let told = (Door::Decision, admission);
                descent.tell(self.pipeline, told, chosen.served_by(subject.get("tier")));
                let known = self.known(chosen, wish.endpoint());
                let labels = subject.labels(&known);
                self.remember(admission, ledger::Subject::of(&labels, chosen.asked))
                    .await;
                self.watch(admission, &labels);
                return Ok(self.told((admission, through.marks.clone()), chosen, &wish));
            }
        }
        Err(descent.refusal(self.pipeline))
    }

    /// The reservation that was made under this idempotency key when the caller's tier had the model asked for, which it has
    /// not any more.
    async fn replayed(
        &self,
        wish: &Wish,
        (choices, wanted): (&[Choice<'_>], &Wanted),
        subject: &Subject<'_>,
    ) -> Result<Option<Value>, Refusal> {
        let instead = choices.first().filter(|first| first.step == Step::Instead);
        let (Some(instead), Some(_)) = (instead, &wanted.idempotency_key) else {
            return Ok(None);
        };
        let as_asked = self.as_asked(wish, instead);
        let asking = Asking {
            model: as_asked.name.unwrap_or_default(),
            asked: as_asked.asked,
            subject: &subject.labels(&self.known(&as_asked, wish.endpoint())),
            terms: wanted.of(Amounts::ZERO),
        };
        let found = find(self.pipeline, &asking).await?;
        Ok(found.map(|admission| {
            self.pipeline
                .observer()
                .admitted(Door::Decision, &admission);
            self.told((&admission, Vec::new()), &as_asked, wish)
        }))
    }

    /// What a caller is told that was let through, with the marks that its key left.
    fn told(
        &self,
        (admission, marks): (&Admission, Vec<ReservationId>),
        choice: &Choice<'_>,
        wish: &Wish,
    ) -> Value {
        let reservation = Reservation {
            id: admission.id,
            marks,
            model: self.priced_as(wish, choice),
        };
        let mut told = self.admitted(admission, choice, wish.model());
        told["reservation"] = reservation.to_string().into();
        told
    }

    /// Remembers for the ledger whose reservation it is.
    async fn remember(&self, admission: &Admission, who: ledger::Subject) {
        let reserved = ledger::Reserved {
            at: self.pipeline.store().now(),
            amounts: admission.reserved,
            waited: admission.waited,
        };
        let entry = ledger::Entry::let_through(who, &reserved, self.caller.config());
        self.pipeline.recorder().reserved(admission, entry).await;
    }

    fn admitted(&self, admission: &Admission, choice: &Choice<'_>, asked: Option<&str>) -> Value {
        let mut told = admitted(admission, self.caller.config().metrics());
        if let Some(model) = choice.name {
            told["model"] = model.into();
        }
        if choice.step != Step::Asked {
            told["decision"] = "downgrade".into();
            told["asked"] = asked.into();
        }
        told
    }
}

/// The terms as the caller wants them.
struct Wanted {
    ttl: Duration,
    max_wait: Duration,
    idempotency_key: Option<String>,
}

impl Wanted {
    fn read(fields: &mut Fields<'_>, longest_wait: Duration) -> Result<Self, FieldError> {
        let ttl = fields.ttl("ttl_ms")?.unwrap_or(DEFAULT_TTL);
        let idempotency_key = fields.text("idempotency_key")?;
        if idempotency_key
            .as_ref()
            .is_some_and(|key| key.is_empty() || key.len() > MAX_KEY)
        {
            return Err(fields.wrong("idempotency_key", "a text of 1 to 256 bytes"));
        }
        fields.text("priority")?; // read and not heeded yet: there are no classes
        let max_wait = fields
            .millis("max_wait_ms")?
            .unwrap_or_default()
            .min(longest_wait);
        Ok(Self {
            ttl,
            max_wait,
            idempotency_key,
        })
    }

    fn of(&self, demand: Amounts) -> Terms<'_> {
        Terms {
            demand,
            ttl: self.ttl,
            door: Door::Decision,
            max_wait: self.max_wait,
            waits_for: WaitsFor::Anything,
            idempotency_key: self.idempotency_key.as_deref(),
        }
    }
}

/// Amounts by the names of their metrics. `tokens` is the sum of input and output unless it is given alone; of input and
/// output the one that is left out beside the other is zero.
pub(super) fn stated(mut fields: Fields<'_>, metrics: &Metrics) -> Result<Stated, FieldError> {
    let mut read = Stated::default();
    let mut tokens = None;
    for (metric, name) in metrics.iter() {
        match fields.amount(name)? {
            Some(amount) if metric == Metric::TOKENS => tokens = Some(amount),
            Some(amount) => read.set(metric, amount),
            None => {}
        }
    }
    let (input, output) = (
        read.get(Metric::INPUT_TOKENS),
        read.get(Metric::OUTPUT_TOKENS),
    );
    let sum = input.unwrap_or(0).saturating_add(output.unwrap_or(0));
    if tokens.is_some_and(|tokens| sum > 0 && tokens != sum) {
        return Err(fields.wrong(
            "tokens",
            "the sum of input_tokens and output_tokens, or left out",
        ));
    }
    if input.or(output).is_some() {
        read.set(Metric::INPUT_TOKENS, input.unwrap_or(0));
        read.set(Metric::OUTPUT_TOKENS, output.unwrap_or(0));
    }
    if input.or(output).or(tokens).is_some() {
        read.set(Metric::TOKENS, tokens.unwrap_or(sum));
    }
    fields.end()?;
    Ok(read)
}

fn admitted(admission: &Admission, metrics: &Metrics) -> Value {
    let mut told = json!({
        "decision": "admit",
        "expires_at": rfc3339(admission.expires_at),
        "reserved": told::amounts(&admission.reserved, metrics),
        "waited_ms": millis(admission.waited),
        "limits": told::standings(&admission.standings),
    });
    match admission.replay {
        Replay::Fresh => {}
        Replay::Open => told["replayed"] = true.into(),
        Replay::Ended(outcome) => {
            told["replayed"] = true.into();
            told["outcome"] = told::outcome(outcome).into();
        }
    }
    told
}
