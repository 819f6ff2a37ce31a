//! Outcomes as a script writes them.
use tallygate_core::{
    Admission, Amounts, Decision, Denial, EndError, ExtendError, Extended, Metrics, Never, Outcome,
    Receipt, Replay, ReservationId, Span, Standing, Time,
};

/// Reservations by the order in which they were made.
#[derive(Default)]
pub(crate) struct Names {
    pub(crate) ids: Vec<ReservationId>,
}

impl Names {
    pub(crate) fn decision(&mut self, decision: &Decision) -> String {
        match decision {
            Decision::Admit(admission) => self.admission(admission),
            Decision::Deny(denial) => deny(denial),
            Decision::Never(refusal) => never(refusal),
        }
    }

    fn admission(&mut self, admission: &Admission) -> String {
        let known = self.ids.iter().position(|id| *id == admission.id);
        let number = known.unwrap_or_else(|| {
            self.ids.push(admission.id);
            self.ids.len() - 1
        });
        let mut text = format!("admit #{}", number + 1);
        match admission.replay {
            Replay::Fresh => {}
            Replay::Open => text.push_str(" again, open"),
            Replay::Ended(outcome) => text.push_str(&format!(" again, {}", ending(outcome))),
        }
        if !admission.waited.is_zero() {
            text.push_str(&format!(" after {}", Span::from(admission.waited)));
        }
        for limit in &admission.shadowed {
            text.push_str(&format!(" past {}.{}", limit.name, limit.metric_name));
        }
        text
    }
}

fn deny(denial: &Denial) -> String {
    let retry = Span::from(denial.retry_after);
    format!("deny retry={retry} by {}", blockers(&denial.blocked_by))
}

fn never(refusal: &Never) -> String {
    let largest = refusal.largest.iter().map(|(metric, amount)| {
        let name = Metrics::default().name(*metric);
        format!("{name}={amount}")
    });
    let largest: Vec<String> = largest.collect();
    format!(
        "never, at most {} by {}",
        largest.join(" "),
        blockers(&refusal.blocked_by)
    )
}

fn blockers(standings: &[Standing]) -> String {
    let name = |at: &Standing| format!("{}.{}", at.limit.name, at.limit.metric_name);
    let names: Vec<String> = standings.iter().map(name).collect();
    names.join(" ")
}

pub(crate) fn standings(standings: &[Standing]) -> String {
    let line = |at: &Standing| {
        let limit = &at.limit;
        let mut text = format!(
            "{}.{} {}/{}",
            limit.name, limit.metric_name, at.used, limit.burst
        );
        if at.debt > 0 {
            text.push_str(&format!(" debt={}", at.debt));
        }
        if !at.reset.is_zero() {
            text.push_str(&format!(" reset={}", Span::from(at.reset)));
        }
        text
    };
    let lines: Vec<String> = standings.iter().map(line).collect();
    lines.join(", ")
}

pub(crate) fn ended(result: &Result<Receipt, EndError>) -> String {
    match result {
        Ok(receipt) => receipt_text(receipt),
        Err(EndError::Ended(receipt)) => format!("stands: {}", receipt_text(receipt)),
        Err(error) => error.to_string(),
    }
}

pub(crate) fn extended(result: &Result<Extended, ExtendError>, start: Time) -> String {
    match result {
        Ok(Extended::Granted {
            expires_at,
            reserved,
        }) => {
            format!(
                "granted{} until t={}",
                amounts(reserved),
                expires_at.since(start)
            )
        }
        Ok(Extended::Deny(denial)) => deny(denial),
        Ok(Extended::Never(refusal)) => never(refusal),
        Err(ExtendError::Ended(EndError::Ended(receipt))) => {
            format!("stands: {}", receipt_text(receipt))
        }
        Err(error) => error.to_string(),
    }
}

fn receipt_text(receipt: &Receipt) -> String {
    let mut text = ending(receipt.outcome).to_owned();
    for (word, of) in [
        ("charged", &receipt.charged),
        ("returned", &receipt.returned),
        ("debt", &receipt.debt),
    ] {
        if *of != Amounts::ZERO {
            text.push_str(&format!(", {word}{}", amounts(of)));
        }
    }
    text
}

/// Input and output tokens are left out: a script speaks of their sum.
fn amounts(of: &Amounts) -> String {
    let metrics = Metrics::default();
    let shown = of
        .iter()
        .filter(|(metric, _)| !metrics.name(*metric).contains('_'));
    shown
        .map(|(metric, amount)| format!(" {}={amount}", metrics.name(metric)))
        .collect()
}

fn ending(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Settled => "settled",
        Outcome::Cancelled => "cancelled",
        Outcome::Expired => "expired",
    }
}
