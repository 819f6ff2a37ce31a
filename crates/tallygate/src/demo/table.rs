//! The counters as they move: a table that is redrawn at a terminal, a line a second elsewhere.

use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::json;
use tallygate_core::{Metric, Standing};
use tallygate_store::Store;
use tokio::time::{MissedTickBehavior, interval};

use super::stage::{USERS, User};
use super::traffic::{Tallied, Tally, Traffic};
use super::witness::Witness;
use crate::screen::Screen;

pub(super) struct Table {
    screen: Screen,
    store: Arc<Witness>,
    tallies: [Arc<Tally>; 3],
    drawn: usize,
}

impl Table {
    pub(super) fn new(screen: Screen, store: Arc<Witness>, traffic: &Traffic) -> Self {
        Self {
            screen,
            store,
            tallies: traffic.tallies.each_ref().map(Arc::clone),
            drawn: 0,
        }
    }

    /// Shows the counters again and again, for as long as it is let.
    pub(super) async fn keep(&mut self, started: Instant) {
        let mut tick = interval(if self.screen.is_terminal() {
            REDRAW
        } else {
            LINE
        });
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tick.tick().await;
            let mut rows = Vec::new();
            for ((user, tally), waited) in USERS.iter().zip(&self.tallies).zip(self.store.waited())
            {
                let (used, bucket) = self.standing(user).await;
                rows.push(Row {
                    user,
                    used,
                    bucket,
                    waited,
                    tally: tally.read(),
                });
            }
            self.show(&rows, started.elapsed());
        }
    }

    /// How much of the user's own bucket is taken now, and how large it is.
    async fn standing(&self, user: &User) -> (u64, u64) {
        let subject = [
            ("tenant", user.tenant),
            ("user", user.name),
            ("tier", user.tier),
            ("key", user.name),
            ("model", user.model),
            ("upstream", user.upstream),
            ("endpoint", user.endpoint.name()),
        ];
        let standings = self.store.peek(&subject).await.unwrap_or_default();
        let own = |standing: &&Standing| {
            *standing.limit.name == *user.tier && standing.limit.metric == Metric::TOKENS
        };
        standings
            .iter()
            .find(own)
            .map_or((0, 0), |standing| (standing.used, standing.limit.burst))
    }

    fn show(&mut self, rows: &[Row], elapsed: Duration) {
        let waiting = self.store.stats().waiters;
        if self.screen.is_json() {
            let users: Vec<_> = rows.iter().map(Row::json).collect();
            let line = json!({ "event": "counters", "seconds": elapsed.as_secs_f64(), "waiting": waiting, "users": users });
            self.screen.line(&line.to_string());
        } else if self.screen.is_terminal() {
            self.redraw(rows, elapsed, waiting);
        } else {
            let users: Vec<String> = rows.iter().map(Row::short).collect();
            self.screen.line(&format!(
                "{:>4} s  {}  in line {waiting}",
                elapsed.as_secs(),
                users.join("  ")
            ));
        }
    }

    /// Draws over the lines drawn last.
    fn redraw(&mut self, rows: &[Row], elapsed: Duration, waiting: usize) {
        let mut lines = vec![format!(
            "{:>4} s    {:<11} {:<BAR$} {:>15}  {:>9} {:>7} {:>7}",
            elapsed.as_secs(),
            "tier",
            "bucket",
            "tokens taken",
            "admitted",
            "waited",
            "denied"
        )];
        lines.extend(rows.iter().map(Row::long));
        lines.push(format!("standing in line: {waiting}"));
        let up = if self.drawn > 0 {
            format!("\u{1b}[{}A", self.drawn)
        } else {
            String::new()
        };
        let text: String = lines
            .iter()
            .map(|line| format!("\u{1b}[2K{line}\n"))
            .collect();
        self.screen.write(&format!("{up}{text}"));
        self.drawn = lines.len();
    }
}

struct Row {
    user: &'static User,
    used: u64,
    bucket: u64,
    waited: u64,
    tally: Tallied,
}

impl Row {
    fn json(&self) -> serde_json::Value {
        let Tallied {
            admitted,
            denied,
            failed,
            tokens,
        } = self.tally;
        json!({
            "user": self.user.name, "used": self.used, "bucket": self.bucket, "admitted": admitted, "waited": self.waited,
            "denied": denied, "failed": failed, "tokens": tokens,
        })
    }

    fn short(&self) -> String {
        let Self {
            user,
            used,
            bucket,
            waited,
            tally,
        } = self;
        format!(
            "{} {used}/{bucket}: admitted {}, waited {waited}, denied {};",
            user.name, tally.admitted, tally.denied
        )
    }

    fn long(&self) -> String {
        let Self {
            user,
            used,
            bucket,
            waited,
            tally,
        } = self;
        let (bar, taken) = (self.bar(), format!("{used} of {bucket}"));
        format!(
            "{:<8}  {:<11} {bar} {taken:>15}  {:>9} {waited:>7} {:>7}",
            user.name, user.tier, tally.admitted, tally.denied
        )
    }

    fn bar(&self) -> String {
        let filled = usize::try_from(self.used.saturating_mul(BAR as u64) / self.bucket.max(1))
            .unwrap_or(BAR)
            .min(BAR);
        format!("{}{}", "█".repeat(filled), "░".repeat(BAR - filled))
    }
}

const REDRAW: Duration = Duration::from_millis(250);
const LINE: Duration = Duration::from_secs(1);

/// Characters of a bar.
const BAR: usize = 24;
