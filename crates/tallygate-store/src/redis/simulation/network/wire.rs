//! The way of a process to the server: what is sent there and comes back, or does not.
use super::{Inner, Network};
use crate::redis::link::{Call, LinkError, Notice, Route};
use crate::redis::pump::Carrier;
use crate::store::BoxFuture;
use redis::Value;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep, sleep_until};

/// How long a process waits for an answer.
const PATIENCE: Duration = Duration::from_millis(100);

/// The way of one process.
pub(in crate::redis) struct Wire {
    pub(super) network: Arc<Network>,
    pub(super) seat: usize,
}

/// What becomes of a call.
struct Trip {
    there: Duration,
    back: Duration,
    request_lost: bool,
    answer_lost: bool,
    reign: u64,
}

impl Inner {
    fn trip(&mut self) -> Trip {
        Trip {
            there: self.delay(),
            back: self.delay() + self.late,
            request_lost: self.is_lost(),
            answer_lost: self.is_lost(),
            reign: self.reign,
        }
    }
}

impl Wire {
    async fn travel(&self, call: &Call) -> Result<Vec<Value>, LinkError> {
        let sent = Instant::now();
        let network = &self.network;
        if network.with(|inner| inner.reach(self.seat).knows()) {
            return self.not_sent().await;
        }
        let trip = network.with(|inner| inner.trip());
        self.pause(trip.there).await;
        let arrives = |lost: bool| {
            network.with(|inner: &mut Inner| !lost && inner.reaches(self.seat, trip.reign))
        };
        if !arrives(trip.request_lost) {
            return self.no_answer(sent, "the request is lost").await;
        }
        let (values, told) = network.with(|inner| inner.run(self.seat, call));
        network.publish(told);
        self.pause(trip.back).await;
        if !arrives(trip.answer_lost) {
            return self.no_answer(sent, "the answer is lost").await;
        }
        network.with(|inner| inner.reach(self.seat).hear());
        Ok(values)
    }

    async fn not_sent(&self) -> Result<Vec<Value>, LinkError> {
        self.pause(Duration::ZERO).await;
        Err(LinkError::Down {
            reason: "the server is known to be out of reach".to_owned(),
            retry_after: Duration::from_millis(20),
        })
    }

    async fn no_answer(&self, sent: Instant, why: &str) -> Result<Vec<Value>, LinkError> {
        let seat = self.seat;
        self.network.note(&format!("n{seat}: {why}"));
        sleep_until(sent + PATIENCE).await;
        self.pause(Duration::ZERO).await;
        self.network.break_circuit(seat);
        Err(LinkError::Down {
            reason: why.to_owned(),
            retry_after: Duration::from_millis(20),
        })
    }

    /// Time passes; for the dead it never does.
    async fn pause(&self, length: Duration) {
        if !length.is_zero() {
            sleep(length).await;
        }
        if self.network.with(|inner| inner.seats[self.seat].is_dead) {
            std::future::pending::<()>().await;
        }
    }
}

impl Carrier for Wire {
    fn call<'a>(&'a self, call: &'a Call) -> BoxFuture<'a, Result<Vec<Value>, LinkError>> {
        Box::pin(self.travel(call))
    }

    fn route(&self, tag: u32) -> Route {
        match self.is_cluster() {
            true => Route::Slot(tag as u16),
            false => Route::One,
        }
    }

    fn is_cluster(&self) -> bool {
        self.network.with(|inner| inner.is_apart)
    }

    fn subscribe(&self, channels: Vec<String>) -> mpsc::Receiver<Notice> {
        let (to, from) = mpsc::channel(1024);
        let name = channels.iter().find_map(|one| one.split_once(":n:"));
        let name = name.map_or(String::new(), |(_, name)| name.to_owned());
        self.network.with(|inner| {
            let seat = &mut inner.seats[self.seat];
            seat.name = name;
            seat.to = Some(to);
        });
        let (network, seat) = (self.network.clone(), self.seat);
        tokio::spawn(async move { network.resume(seat).await });
        from
    }

    fn open_circuits(&self) -> watch::Receiver<usize> {
        self.network.with(|inner| inner.reach(self.seat).watch())
    }
}
