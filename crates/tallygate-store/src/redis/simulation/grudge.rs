//! A store that is well, and refuses the end of one reservation.
use super::engine::Engine;
use super::network::{Network, Weather};
use super::rule;
use crate::redis::link::{Call, LinkError, Notice, Route};
use crate::redis::names;
use crate::redis::pump::Carrier;
use crate::redis::{RedisOptions, RedisStore};
use crate::store::{BoxFuture, Reserve, SettleError, SettledBy, Settlement, Store, WaitsFor};
use parking_lot::Mutex;
use redis::Value;
use std::sync::Arc;
use std::time::Duration;
use tallygate_core::{
    Amounts, Decision, Metric, Metrics, Outcome, Policy, ReservationId, Shape, Span,
};
use tokio::sync::{mpsc, watch};
use tokio::time::{advance, sleep};

/// A way on which what touches one record is refused.
struct Grudge {
    behind: Arc<dyn Carrier>,
    record: Mutex<Option<Vec<u8>>>,
}

impl Grudge {
    fn bear(&self, id: ReservationId) {
        *self.record.lock() = Some(names::record("tg", names::home(id), id));
    }
}

impl Carrier for Grudge {
    fn call<'a>(&'a self, call: &'a Call) -> BoxFuture<'a, Result<Vec<Value>, LinkError>> {
        let record = self.record.lock();
        match &*record {
            Some(record) if call.keys.contains(record) => {
                let reason = "ERR it is not to be".to_owned();
                Box::pin(std::future::ready(Err(LinkError::Refused { reason })))
            }
            _ => self.behind.call(call),
        }
    }

    fn route(&self, tag: u32) -> Route {
        self.behind.route(tag)
    }

    fn is_cluster(&self) -> bool {
        self.behind.is_cluster()
    }

    fn subscribe(&self, channels: Vec<String>) -> mpsc::Receiver<Notice> {
        self.behind.subscribe(channels)
    }

    fn open_circuits(&self) -> watch::Receiver<usize> {
        self.behind.open_circuits()
    }
}

fn tokens(amount: u64) -> Amounts {
    Amounts::ZERO.with(Metric::TOKENS, amount)
}

fn policy() -> Policy {
    let every = Span::from_secs(7 * 86_400);
    let week = (Metric::TOKENS, 100, Shape::Sliding { every });
    Policy::new(vec![rule("week", &[], &[week])], Metrics::default()).unwrap()
}

async fn reserved(store: &RedisStore) -> ReservationId {
    let decision = store.reserve(Reserve {
        subject: &[],
        demand: tokens(10),
        ttl: Duration::from_secs(60),
        max_wait: Duration::ZERO,
        idempotency_key: None,
        waits_for: WaitsFor::Anything,
        settled_by: SettledBy::AnyNode,
    });
    match decision.await {
        Ok(Decision::Admit(admission)) => admission.id,
        other => panic!("{other:?}"),
    }
}

/// An end that cannot be delivered is given up when its reservation has long been ended by its deadline.
async fn refuse_for_a_day() {
    let policy = policy();
    let still = Weather {
        lost: 0,
        delay: 1,
        stall: 1,
    };
    let network = Network::new(Engine::start(), 0, (still, &policy));
    let grudge = Arc::new(Grudge {
        behind: network.wire().1,
        record: Mutex::default(),
    });
    let options = RedisOptions::parse("redis://simulated").expect("the URL is one");
    let store = RedisStore::over(grudge.clone(), &options, &policy).await;
    let store = store.expect("no folder is asked for");
    let (refused, other) = (reserved(&store).await, reserved(&store).await);
    grudge.bear(refused);
    let kept = SettleError::Kept {
        outcome: Outcome::Settled,
    };
    let settled = store.settle(refused, Settlement::Exact(tokens(4))).await;
    assert_eq!(settled, Err(kept));
    let settled = store.settle(other, Settlement::Exact(tokens(4))).await;
    assert!(settled.is_ok(), "{settled:?}");
    advance(Duration::from_secs(86_395)).await;
    sleep(Duration::from_secs(2)).await;
    let outage = store.outage();
    assert_eq!((outage.kept, outage.lost), (1, 0), "it is tried for a day");
    sleep(Duration::from_secs(10)).await;
    let outage = store.outage();
    assert_eq!((outage.kept, outage.lost), (0, 1));
    assert_eq!((outage.settled, outage.overtaken), (0, 0));
    let standings = store.peek(&[]).await.expect("it answers");
    assert_eq!(standings[0].used, 14, "what was reserved counts as used");
}

#[test]
fn an_end_that_is_refused_for_a_day_is_lost() {
    super::runtime().block_on(refuse_for_a_day());
}
