//! How the demo went: the users' tallies against the provider's own books.

use std::time::Duration;

use serde_json::{Value, json};
use tallygate_sim::books::Counts;
use tallygate_sim::{Books, MockMetric};

use super::stage::{SEARCHED, USERS, User};
use super::traffic::Tallied;
use crate::exit::{Exit, Failure};

pub(super) struct Verdict {
    rows: Vec<Row>,
    provider: Counts,
    elapsed: Duration,
}

/// One user: what it met here, and the most that the provider saw it use.
struct Row {
    user: &'static User,
    tally: Tallied,
    waited: u64,
    worst: u64,
}

impl Row {
    fn over(&self) -> u64 {
        self.worst.saturating_sub(self.user.tokens)
    }
}

impl Verdict {
    pub(super) fn new(books: &Books, tallies: [Tallied; 3], waited: [u64; 3]) -> Self {
        let seen = tallies.into_iter().zip(waited);
        let rows = USERS.iter().zip(seen).map(|(user, (tally, waited))| Row {
            user,
            tally,
            waited,
            worst: worst(books, user),
        });
        Self {
            rows: rows.collect(),
            provider: books.totals(),
            elapsed: Duration::ZERO,
        }
    }

    /// The same, after so long a time.
    pub(super) fn after(self, elapsed: Duration) -> Self {
        Self { elapsed, ..self }
    }

    /// By how many tokens limits were exceeded, over all users.
    fn over(&self) -> u64 {
        self.rows.iter().map(Row::over).sum()
    }

    pub(super) fn json(&self) -> Value {
        let user = |row: &Row| {
            json!({
                "user": row.user.name, "tier": row.user.tier, "admitted": row.tally.admitted, "denied": row.tally.denied,
                "waited": row.waited,
                "failed": row.tally.failed, "tokens": row.tally.tokens, "worst_span_tokens": row.worst,
                "limit_tokens": row.user.tokens, "over_limit_tokens": row.over(),
            })
        };
        json!({
            "event": "stopped",
            "seconds": self.elapsed.as_secs_f64(),
            "users": self.rows.iter().map(user).collect::<Vec<_>>(),
            "provider": { "admitted": self.provider.admitted, "refused": self.provider.refused, "tokens": self.provider.tokens() },
            "over_limit": self.over(),
        })
    }

    pub(super) fn text(&self) -> String {
        let mut lines = vec![
            format!(
                "\nThe demo ended after {:.1} s.\n",
                self.elapsed.as_secs_f64()
            ),
            format!(
                "{:<6} {:<11} {:>9} {:>7} {:>7} {:>7} {:>10}   most tokens in any {:.1} s, by the provider's books",
                "user",
                "tier",
                "admitted",
                "waited",
                "denied",
                "failed",
                "tokens",
                SEARCHED.as_secs_f64()
            ),
        ];
        for Row {
            user,
            tally,
            waited,
            worst,
        } in &self.rows
        {
            lines.push(format!(
                "{:<6} {:<11} {:>9} {waited:>7} {:>7} {:>7} {:>10}   {worst} of {}",
                user.name,
                user.tier,
                tally.admitted,
                tally.denied,
                tally.failed,
                tally.tokens,
                user.tokens
            ));
        }
        let provider = &self.provider;
        lines.push(format!(
            "\nThe provider admitted {} calls, refused {}, and used {} tokens. Over a limit: {} tokens.",
            provider.admitted,
            provider.refused,
            provider.tokens(),
            self.over()
        ));
        lines.join("\n")
    }

    /// A limit that was exceeded is a failure, with an exit code of its own.
    pub(super) fn outcome(&self) -> Result<(), Failure> {
        match self.over() {
            0 => Ok(()),
            over => Err(Failure::new(
                Exit::OverLimit,
                format!("limits were exceeded by {over} tokens"),
            )
            .mend("this is a defect: please report it with the summary above")),
        }
    }
}

/// The most tokens the user's model used in any span that was searched.
fn worst(books: &Books, user: &User) -> u64 {
    let accounts = books
        .accounts
        .iter()
        .filter(|account| account.model == user.model);
    let spans = accounts
        .flat_map(|account| &account.worst)
        .filter(|worst| worst.window == SEARCHED);
    spans
        .map(|worst| worst.at_admission.of(MockMetric::Tokens))
        .max()
        .unwrap_or(0)
}
