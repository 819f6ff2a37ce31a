//! What a reserve asks for, and the ways in which it may be served.

use std::sync::Arc;

use tallygate_core::{Amounts, Metric, Stated};
use tallygate_tokens::{Dialect, Endpoint};

use super::Question;
use super::fields::Fields;
use super::reserve::stated;
use super::sizing::{Form, Measured};
use super::subject::Subject;
use crate::config::{Forbidden, Priced, Rung, Upstream};
use crate::identify::Downgrade;
use crate::pipeline::{Price, ServedBy, Step, check_name};
use crate::wire::ApiError;

/// What a body asks for.
pub(super) enum Wish {
    /// Amounts, of a model if one is named.
    Stated {
        model: Option<String>,
        dialect: Option<Dialect>,
        demand: Stated,
    },
    /// A call given whole.
    Call(Measured),
}

impl Wish {
    /// The model's name as the caller spelt it.
    pub(super) fn model(&self) -> Option<&str> {
        match self {
            Self::Stated { model, .. } => model.as_deref(),
            Self::Call(measured) => Some(measured.call.model()),
        }
    }

    pub(super) fn endpoint(&self) -> Option<Endpoint> {
        match self {
            Self::Stated { .. } => None,
            Self::Call(measured) => Some(measured.endpoint),
        }
    }

    /// The dialect that the caller says it speaks.
    fn dialect(&self) -> Option<Dialect> {
        match self {
            Self::Stated { dialect, .. } => *dialect,
            Self::Call(measured) => Some(measured.endpoint.dialect()),
        }
    }
}

/// One way to serve a wish.
#[derive(Clone, Copy)]
pub(super) struct Choice<'a> {
    /// Where it stands.
    pub(super) step: Step,
    /// The name to call the model by, where one was named.
    pub(super) name: Option<&'a str>,
    /// What the model asked for counts as.
    pub(super) asked: &'a str,
    /// What the model counts as.
    model: &'a str,
    upstream: Option<&'a Arc<Upstream>>,
}

impl<'a> Choice<'a> {
    /// What no model is named for.
    const UNNAMED: Self = Self {
        step: Step::Asked,
        name: None,
        asked: "",
        model: "",
        upstream: None,
    };

    /// By which model it serves a subject of `tier`.
    pub(super) fn served_by<'b>(&'b self, tier: Option<&'b str>) -> ServedBy<'b> {
        ServedBy {
            tier,
            step: self.step,
            from: self.asked,
            to: self.model,
        }
    }
}

impl Question<'_> {
    /// What is asked for: `demand` of a model that is `named`, or `request`.
    pub(super) async fn wish(
        &self,
        fields: &mut Fields<'_>,
        named: Option<String>,
        subject: &Subject<'_>,
    ) -> Result<Wish, ApiError> {
        let dialect = Form::dialect(fields)?;
        let demand = fields.object("demand")?;
        match (demand, fields.raw("request")) {
            (Some(_), Some(_)) => Err(fields.wrong("request", "left out beside `demand`").into()),
            (Some(demand), None) => {
                let demand = stated(demand, self.caller.config().metrics())?;
                Ok(Wish::Stated {
                    model: named,
                    dialect,
                    demand,
                })
            }
            (None, Some(request)) => {
                let model = named.as_deref();
                let form = Form { model, dialect };
                Ok(Wish::Call(self.measure(request, form, subject).await?))
            }
            (None, None) => Err(fields.missing("demand").into()),
        }
    }

    /// The ways in which the wish may be served, the best first. There is at least one.
    pub(super) fn choices<'a>(
        &'a self,
        wish: &'a Wish,
        subject: &Subject<'_>,
    ) -> Result<Vec<Choice<'a>>, ApiError> {
        let asked = wish.model();
        check_name(asked.unwrap_or_default())?;
        let config = self.caller.config();
        let Some(asked) = asked else {
            return Ok(vec![Choice::UNNAMED]);
        };
        let tier = subject.get("tier");
        let (model, upstream) = config.model_label(asked);
        let mut rungs = match self.caller.takes(self.willing) {
            Downgrade::Allow => config.ladder(tier, model),
            Downgrade::Never => Vec::new(),
        };
        let dialect = wish
            .dialect()
            .or(upstream.map(|upstream| upstream.dialect()));
        rungs.retain(|rung| match wish.endpoint() {
            Some(endpoint) => rung.serves(endpoint),
            None => rung.stands_for(asked, dialect),
        });
        let down = |step, rung: &Rung<'a>| Choice {
            step,
            name: Some(rung.name),
            asked: model,
            model: rung.route.model,
            upstream: Some(rung.route.upstream),
        };
        let as_asked = Choice {
            step: Step::Asked,
            name: Some(asked),
            asked: model,
            model,
            upstream,
        };
        let first = match (config.permits_tier(tier, model), rungs.first()) {
            (Ok(()), _) => as_asked,
            (Err(Forbidden::Model { .. }), Some(best)) => down(Step::Instead, best),
            (Err(forbidden), _) => return Err(forbidden.into()),
        };
        // Its own model again, where that makes a difference.
        let again = config.tells_downgraded(tier);
        rungs.retain(|rung| again || rung.route.model != first.model);
        let below = rungs.iter().map(|rung| match rung.route.model == model {
            true => Choice {
                step: Step::Below,
                ..as_asked
            },
            false => down(Step::Below, rung),
        });
        Ok(std::iter::once(first).chain(below).collect())
    }

    /// The choice of the model asked for, where `first` stands for it instead.
    pub(super) fn as_asked<'a>(&'a self, wish: &'a Wish, first: &Choice<'a>) -> Choice<'a> {
        let (_, upstream) = self
            .caller
            .config()
            .model_label(wish.model().unwrap_or_default());
        Choice {
            step: Step::Asked,
            name: wish.model(),
            asked: first.asked,
            model: first.asked,
            upstream,
        }
    }

    /// The labels that the server knows of a choice.
    pub(super) fn known<'a>(
        &self,
        choice: &Choice<'a>,
        endpoint: Option<Endpoint>,
    ) -> Vec<(&'static str, &'a str)> {
        let known = [
            choice.name.map(|_| ("model", choice.model)),
            choice
                .upstream
                .map(|upstream| ("upstream", upstream.name())),
            endpoint.map(|endpoint| ("endpoint", endpoint.name())),
            self.caller.config().downgraded(choice.step.went()),
        ];
        known.into_iter().flatten().collect()
    }

    /// What a choice asks of the limits: one request and one slot unless the wish says otherwise, and its cost.
    ///
    /// # Errors
    /// When a limit counts money and nobody knows what the wish costs.
    pub(super) async fn demand(
        &self,
        wish: &Wish,
        choice: &Choice<'_>,
        subject: &Subject<'_>,
    ) -> Result<Amounts, ApiError> {
        let amounts = match (wish, choice.name) {
            (Wish::Stated { demand, .. }, _) => *demand,
            (Wish::Call(measured), Some(name)) if name != measured.call.model() => {
                self.remeasure(measured, name, subject).await?.stated()
            }
            (Wish::Call(measured), _) => measured.stated(),
        };
        let (price, known) = (self.price_of(choice), self.known(choice, wish.endpoint()));
        self.check_cost(&amounts, &price, (choice.name, &subject.labels(&known)))?;
        Ok(price.filled(&amounts, &Amounts::call(0, 0)))
    }

    /// The model by whose price a choice is held and will be settled: none where the cost is stated or unknown.
    pub(super) fn priced_as(&self, wish: &Wish, choice: &Choice<'_>) -> Option<String> {
        let told = match wish {
            Wish::Stated { demand, .. } => demand.get(Metric::COST).is_some(),
            Wish::Call(_) => false,
        };
        let priced = !told && self.price_of(choice).is_known();
        choice.name.filter(|_| priced).map(str::to_owned)
    }

    fn price_of(&self, choice: &Choice<'_>) -> Price {
        let Some(name) = choice.name else {
            return Price::default();
        };
        self.caller.price(&Priced {
            name,
            label: choice.model,
            upstream: choice.upstream.map(|upstream| upstream.name()),
        })
    }
}
