//! The people of a simulation: processes with a store each, and callers who reserve, use, give back, leave and forget.
use super::network::Network;
use super::truth::{CALLERS, End, Verdict};
use crate::redis::{RedisOptions, RedisStore};
use crate::store::{Reserve, SettleError, SettledBy, Settlement, Store, StoreError, WaitsFor};
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tallygate_core::{Amounts, Decision, Metric, Outcome, Policy, Receipt, ReservationId, Stated};
use tallygate_sim::Rng;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};

/// Who there is to reserve for.
const USERS: [&str; 3] = ["ada", "bob", "cyd"];

/// How long an answer may take beyond what a caller has said it waits, while all goes well.
const SLACK: Duration = Duration::from_millis(400);

/// How much longer when what is on the way is lost, the time aside in which nothing could be reached.
const TROUBLE: Duration = Duration::from_millis(1600);

/// After which a process that does not answer is dead.
const DEAD: Duration = Duration::from_secs(1);

/// All processes and what their callers were told.
pub(super) struct Town {
    pub(super) network: Arc<Network>,
    policy: Policy,
    nodes: Mutex<Vec<Node>>,
    told: Mutex<Told>,
    pub(super) is_calm: bool,
}

struct Node {
    seat: usize,
    store: Arc<RedisStore>,
    callers: Vec<(u64, JoinHandle<()>)>,
}

/// What callers were told.
#[derive(Default)]
struct Told {
    admitted: BTreeMap<u64, ReservationId>,
    /// By idempotency key, where there is one.
    keys: BTreeMap<u64, String>,
    refused: Vec<u64>,
    receipts: Vec<(ReservationId, Receipt)>,
    unsure: Vec<u64>,
}

/// What a caller is about to do.
struct Plan {
    number: u64,
    user: &'static str,
    tokens: u64,
    ttl: Duration,
    max_wait: Duration,
    key: Option<String>,
    /// After which it goes away without its answer.
    leaves: Option<Duration>,
    deed: Deed,
}

#[derive(Debug, Clone, Copy)]
enum Deed {
    Settle(u64),
    State(u64),
    AtLeast(u64),
    Cancel,
    Forget,
}

impl Plan {
    fn draw(number: u64, rng: &mut Rng) -> Self {
        let ttl = 100_000 + rng.below(250) * CALLERS + number;
        let waits = rng.below(2) == 0;
        let wait = if waits { 50 + rng.below(2500) } else { 0 };
        let most = if rng.below(8) == 0 { 100 } else { 30 };
        let tokens = 1 + rng.below(most);
        let deed = match rng.below(20) {
            0..=7 => Deed::Settle(rng.below(tokens + 1)),
            8..=10 => Deed::Settle(tokens + rng.below(20)),
            11..=13 => Deed::State(rng.below(tokens + 5)),
            14 => Deed::AtLeast(rng.below(tokens + 10)),
            15..=17 => Deed::Cancel,
            _ => Deed::Forget,
        };
        Self {
            number,
            user: USERS[usize::try_from(rng.below(3)).unwrap()],
            tokens,
            ttl: Duration::from_micros(ttl),
            max_wait: Duration::from_millis(wait),
            key: (rng.below(5) == 0).then(|| format!("k{}", rng.below(8))),
            leaves: (rng.below(8) == 0).then(|| Duration::from_millis(rng.below(300))),
            deed,
        }
    }

    fn demand(&self) -> Amounts {
        Amounts::ZERO
            .with(Metric::TOKENS, self.tokens)
            .with(Metric::REQUESTS, 1)
            .with(Metric::CONCURRENCY, 1)
    }

    fn usage(&self) -> Option<Settlement> {
        let used = |tokens| {
            Amounts::ZERO
                .with(Metric::TOKENS, tokens)
                .with(Metric::REQUESTS, 1)
        };
        match self.deed {
            Deed::Settle(tokens) => Some(Settlement::Exact(used(tokens))),
            Deed::State(tokens) => Some(Settlement::Stated(Stated::tokens(tokens, 0))),
            Deed::AtLeast(tokens) => Some(Settlement::AtLeast(used(tokens))),
            Deed::Cancel | Deed::Forget => None,
        }
    }
}

impl Town {
    pub(super) fn new(network: Arc<Network>, policy: Policy, is_calm: bool) -> Arc<Self> {
        Arc::new(Self {
            network,
            policy,
            nodes: Mutex::default(),
            told: Mutex::default(),
            is_calm,
        })
    }

    /// Starts a process.
    pub(super) async fn start(&self) {
        let store = self.open().await;
        self.nodes.lock().push(store);
    }

    async fn open(&self) -> Node {
        let (seat, wire) = self.network.wire();
        self.network.note(&format!("n{seat} starts"));
        let options = RedisOptions::parse("redis://simulated").expect("the URL is one");
        let store = RedisStore::over(wire, &options, &self.policy).await;
        let store = store.expect("no folder is asked for");
        for user in USERS {
            let accounts = store.accounts(&[("user", user)]);
            self.network.with(|inner| inner.truth.know(&accounts));
        }
        Node {
            seat,
            store,
            callers: Vec::new(),
        }
    }

    pub(super) fn seat(&self, rng: &mut Rng) -> usize {
        let nodes = self.nodes.lock();
        let at = rng.below(nodes.len() as u64);
        nodes[usize::try_from(at).unwrap()].seat
    }

    /// Kills a process with all its callers.
    pub(super) fn kill(&self, rng: &mut Rng) {
        let mut nodes = self.nodes.lock();
        if nodes.len() < 2 {
            return;
        }
        let at = usize::try_from(rng.below(nodes.len() as u64)).unwrap();
        let node = nodes.remove(at);
        self.network.kill(node.seat);
        let mut told = self.told.lock();
        for (number, caller) in node.callers {
            if !caller.is_finished() {
                caller.abort();
                told.unsure.push(number);
            }
        }
    }

    fn any(&self, rng: &mut Rng) -> (usize, Arc<RedisStore>) {
        let nodes = self.nodes.lock();
        let at = usize::try_from(rng.below(nodes.len() as u64)).unwrap();
        (nodes[at].seat, nodes[at].store.clone())
    }

    /// Lets a caller come to some process.
    pub(super) fn come(self: &Arc<Self>, number: u64, rng: &mut Rng) {
        let plan = Plan::draw(number, rng);
        if let Some(key) = &plan.key {
            let name = format!("{} {key}", plan.user);
            self.told.lock().keys.insert(number, name);
        }
        let own = Rng::new(rng.next_u64());
        let mut nodes = self.nodes.lock();
        let at = usize::try_from(rng.below(nodes.len() as u64)).unwrap();
        let (seat, store) = (nodes[at].seat, nodes[at].store.clone());
        let town = self.clone();
        let caller = tokio::spawn(async move { town.live(plan, (seat, store), own).await });
        nodes[at].callers.push((number, caller));
    }

    async fn live(
        self: Arc<Self>,
        plan: Plan,
        (seat, store): (usize, Arc<RedisStore>),
        mut rng: Rng,
    ) {
        let Some(id) = self.ask(&plan, (seat, &store)).await else {
            return;
        };
        drop(store);
        sleep(Duration::from_millis(rng.below(700))).await;
        if rng.below(4) == 0 {
            self.extend(id, &mut rng).await;
        }
        self.end(id, &plan, &mut rng).await;
        if rng.below(6) == 0 {
            self.end(id, &plan, &mut rng).await;
        }
    }

    async fn ask(
        &self,
        plan: &Plan,
        (seat, store): (usize, &Arc<RedisStore>),
    ) -> Option<ReservationId> {
        let since = Instant::now();
        let subject = [("user", plan.user)];
        let asking = store.reserve(Reserve {
            subject: &subject,
            demand: plan.demand(),
            ttl: plan.ttl,
            max_wait: plan.max_wait,
            idempotency_key: plan.key.as_deref(),
            waits_for: WaitsFor::Anything,
            settled_by: SettledBy::AnyNode,
        });
        let stays = plan.leaves.unwrap_or(Duration::from_secs(3600));
        let answer = timeout(stays, asking).await;
        let took = since.elapsed();
        let number = plan.number;
        let said = match &answer {
            Err(_) => "has left".to_owned(),
            Ok(answer) => shown(answer),
        };
        let wait = plan.max_wait;
        let note = format!(
            "c{number} at n{seat}: {} {} of {wait:?}: {said} after {took:?}",
            plan.user, plan.tokens
        );
        self.network.note(&note);
        let slack = if self.is_calm { SLACK } else { SLACK + TROUBLE };
        let dark = self.network.with(|inner| inner.darkness(seat, since));
        if answer.is_ok() && took > wait + slack + dark {
            self.network
                .with(|inner| inner.hold(Err(format!("c{number} was kept waiting"))));
        }
        self.hear(number, answer.ok()?)
    }

    fn hear(&self, number: u64, answer: Result<Decision, StoreError>) -> Option<ReservationId> {
        let mut told = self.told.lock();
        match answer {
            Ok(Decision::Admit(admission)) => {
                told.admitted.insert(number, admission.id);
                return Some(admission.id);
            }
            Ok(_) => told.refused.push(number),
            Err(_) => told.unsure.push(number),
        }
        None
    }

    async fn extend(&self, id: ReservationId, rng: &mut Rng) {
        let (seat, store) = self.any(rng);
        let more = match rng.below(3) {
            0 => Amounts::ZERO,
            _ => Amounts::ZERO.with(Metric::TOKENS, rng.below(20)),
        };
        let ttl = Duration::from_millis(rng.below(900));
        let ttl = (rng.below(2) == 0).then_some(ttl);
        // A process that dies meanwhile does not answer.
        let said = timeout(DEAD, store.extend(id, more, ttl)).await;
        let said = said.map(|said| said.is_ok());
        self.network
            .note(&format!("{id} extended at n{seat}: {said:?}"));
        sleep(Duration::from_millis(rng.below(200))).await;
    }

    /// Ends a reservation somewhere, as often as it takes to be told.
    async fn end(&self, id: ReservationId, plan: &Plan, rng: &mut Rng) {
        for _ in 0..5 {
            let (seat, store) = self.any(rng);
            let ending = match (plan.usage(), plan.deed) {
                (_, Deed::Forget) => return,
                (Some(usage), _) => store.settle(id, usage),
                (None, _) => store.cancel(id),
            };
            let Ok(ended) = timeout(DEAD, ending).await else {
                continue;
            };
            let said = match &ended {
                Ok(receipt) => format!("{:?}", receipt.outcome),
                Err(error) => error.to_string(),
            };
            self.network.note(&format!("{id} ended at n{seat}: {said}"));
            match ended {
                Ok(receipt) => return self.told.lock().receipts.push((id, receipt)),
                Err(SettleError::Standing(receipt)) => {
                    return self.told.lock().receipts.push((id, *receipt));
                }
                Err(SettleError::Store(_)) => sleep(Duration::from_millis(50)).await,
                Err(_) => return,
            }
        }
    }

    /// Waits until every caller has been answered.
    pub(super) async fn all_are_answered(&self) -> Verdict {
        let callers: Vec<_> = {
            let mut nodes = self.nodes.lock();
            let callers = nodes.iter_mut().flat_map(|node| node.callers.drain(..));
            callers.collect()
        };
        for (number, caller) in callers {
            match timeout(Duration::from_secs(10), caller).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => return Err(format!("c{number}: {error}")),
                Err(_) => return Err(format!("c{number} is never answered")),
            }
        }
        Ok(())
    }

    /// Whether what callers were told is what happened.
    pub(super) fn told_the_truth(&self) -> Verdict {
        let told = self.told.lock();
        self.network.with(|inner| {
            let known = |id: &ReservationId| inner.truth.entries.get(&id.bits());
            for (number, id) in &told.admitted {
                let key = told.keys.get(number);
                let is_own = |other: u64| {
                    other == *number || (key.is_some() && told.keys.get(&other) == key)
                };
                match known(id) {
                    Some(entry) if is_own(entry.caller) => {}
                    _ if inner.lost.contains(&id.bits()) => {}
                    other => return Err(format!("c{number} was told of {id}, which is {other:?}")),
                }
            }
            for (id, receipt) in &told.receipts {
                let end = known(id).and_then(|entry| entry.end.clone());
                let is_so = match end {
                    Some(End::Ended(truth)) if *truth == *receipt => true,
                    // A clock that was set back brings back what its deadline had ended.
                    Some(End::Ended(_)) if inner.was_set_back => {
                        receipt.outcome == Outcome::Expired
                    }
                    Some(End::Expired) => receipt.outcome == Outcome::Expired,
                    _ => false,
                };
                if !is_so && !inner.lost.contains(&id.bits()) {
                    let end = known(id).map(|entry| &entry.end);
                    return Err(format!(
                        "{id} came to {end:?}, and somebody was told {receipt:?}"
                    ));
                }
            }
            for (id, entry) in &inner.truth.entries {
                let id = ReservationId::from_bits(*id);
                if told.refused.contains(&entry.caller)
                    && entry.end != Some(End::Withdrawn)
                    && self.is_calm
                {
                    return Err(format!("c{} was refused, and holds {id}", entry.caller));
                }
            }
            Ok(())
        })
    }

    /// Whether nothing is left in the stores and on the server.
    pub(super) async fn nothing_is_left(&self) -> Verdict {
        for node in self.nodes.lock().iter() {
            let stats = node.store.stats();
            if (stats.reservations, stats.waiters) != (0, 0) {
                return Err(format!("n{}: {stats:?}", node.seat));
            }
        }
        let node = self.open().await;
        for user in USERS {
            let subject = [("user", user)];
            let (accounts, sheets) = node
                .store
                .sheets(&subject)
                .await
                .map_err(|error| error.to_string())?;
            self.network.with(|inner| {
                let now = inner.look_at_clock().shown;
                for (account, sheet) in accounts.iter().zip(&sheets) {
                    inner.truth.sums_are_exact(account, sheet)?;
                    inner.truth.is_at_rest(sheet, now)?;
                }
                Ok::<(), String>(())
            })?;
        }
        self.network.with(|inner| inner.keys_end())
    }
}

fn shown(answer: &Result<Decision, StoreError>) -> String {
    match answer {
        Ok(Decision::Admit(admission)) => format!("{} {:?}", admission.id, admission.replay),
        Ok(Decision::Deny(denial)) => format!("denied for {:?}", denial.retry_after),
        Ok(Decision::Never(_)) => "never".to_owned(),
        Err(error) => error.to_string(),
    }
}
