//! Whether the engines agree.
use super::saying::{Said, Stands};
use std::fmt::Debug;
use std::time::Duration;
use tallygate_core::{Amounts, EndError, Outcome, Receipt, Time};

/// Nothing, if they do.
pub(super) type Verdict = Result<(), Differs>;

/// How they do not.
#[derive(Debug)]
pub(super) enum Differs {
    /// As they may: from here on they have nothing to compare.
    Apart,
    /// As they must not.
    Wrong(String),
}

impl From<&str> for Differs {
    fn from(what: &str) -> Self {
        Self::Wrong(what.to_owned())
    }
}

/// An error that says both, unless they are the same.
pub(super) fn same<T: Debug + PartialEq>(what: &str, core: &T, script: &T) -> Verdict {
    agree(core == script, what, core, script)
}

fn agree<T: Debug>(is_agreed: bool, what: &str, core: &T, script: &T) -> Verdict {
    match is_agreed {
        true => Ok(()),
        false => Err(Differs::Wrong(format!(
            "{what}\n    core:   {core:?}\n    script: {script:?}"
        ))),
    }
}

/// By how much the script may be stricter: not at all, until a policy's amounts were changed.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Slack {
    pub(super) micros: u64,
}

impl Slack {
    fn none(self) -> bool {
        self.micros == 0
    }

    fn covers(self, core: Time, script: Time) -> bool {
        script >= core && script.since(core).as_nanos() <= self.micros * 1000
    }

    /// Where a counter stands.
    pub(super) fn stands(self, what: &str, core: &Stands, script: &Stands) -> Verdict {
        agree(self.stands_alike(core, script), what, core, script)
    }

    fn stands_alike(self, core: &Stands, script: &Stands) -> bool {
        let most = core.3 + Duration::from_micros(self.micros);
        let near = (&core.0, core.1) == (&script.0, script.1)
            && (core.3..=most).contains(&script.3)
            && script.2[0] >= core.2[0];
        core == script || (!self.none() && near)
    }

    fn all_stand_alike(self, core: &[Stands], script: &[Stands]) -> bool {
        let mut pairs = core.iter().zip(script);
        core.len() == script.len() && pairs.all(|(core, script)| self.stands_alike(core, script))
    }

    /// A decision.
    pub(super) fn decision(self, core: &Said, script: &Said) -> Verdict {
        match (core, script) {
            _ if core == script => Ok(()),
            _ if self.none() => same("the decision", core, script),
            (Said::Admitted { .. }, Said::Denied { .. }) => Err(Differs::Apart),
            (Said::Denied { .. }, Said::Denied { .. }) if !self.blocks_alike(core, script) => {
                Err(Differs::Apart)
            }
            _ => agree(
                self.decided_alike(core, script),
                "the decision",
                core,
                script,
            ),
        }
    }

    /// Whether the same limits block: one more may, of those that the script takes for fuller.
    fn blocks_alike(self, core: &Said, script: &Said) -> bool {
        match (core, script) {
            (
                Said::Denied {
                    blocked_by: core, ..
                },
                Said::Denied {
                    blocked_by: script, ..
                },
            ) => script.len() <= core.len(),
            _ => true,
        }
    }

    fn decided_alike(self, core: &Said, script: &Said) -> bool {
        match (core, script) {
            (
                Said::Denied {
                    retry_at: core,
                    blocked_by: cores,
                },
                Said::Denied {
                    retry_at: script,
                    blocked_by: scripts,
                },
            ) => self.covers(*core, *script) && self.all_stand_alike(cores, scripts),
            (Said::Admitted(core), Said::Admitted(script)) => {
                let bare = |said: &super::saying::Admitted| super::saying::Admitted {
                    standings: Vec::new(),
                    shadowed: Vec::new(),
                    ..said.clone()
                };
                bare(core) == bare(script)
                    && self.all_stand_alike(&core.standings, &script.standings)
            }
            (
                Said::Never {
                    blocked_by: cores,
                    largest: core,
                },
                Said::Never {
                    blocked_by: scripts,
                    largest: script,
                },
            ) => core == script && self.all_stand_alike(cores, scripts),
            _ => false,
        }
    }

    /// An end. Two things may differ: what is said of the debt by the receipt of a reservation that its deadline ended,
    /// as nobody was there to see it; and one that was withdrawn is unknown to the script, as nobody was told of it.
    pub(super) fn end(
        self,
        core: &Result<Receipt, EndError>,
        script: &Result<Receipt, EndError>,
        withdrawn: bool,
    ) -> Verdict {
        if withdrawn {
            return same("an end", &Err(EndError::Unknown), script);
        }
        let is_alike = match (core, script) {
            (Ok(core), Ok(script)) => self.ended_alike(core, script),
            (Err(EndError::Ended(core)), Err(EndError::Ended(script))) => {
                self.ended_alike(core, script)
            }
            _ => core == script,
        };
        agree(is_alike, "an end", core, script)
    }

    fn ended_alike(self, core: &Receipt, script: &Receipt) -> bool {
        let bare = |receipt: &Receipt| Receipt {
            debt: Amounts::ZERO,
            ..*receipt
        };
        let any_debt = core.outcome == Outcome::Expired || !self.none();
        bare(core) == bare(script) && (any_debt || core.debt == script.debt)
    }
}
