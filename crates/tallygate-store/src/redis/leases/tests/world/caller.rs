//! Callers of a world: they reserve, ask for more, settle and forget.
use super::scene::Words;
use super::{Node, USERS, World, alone};
use crate::store::{Reserve, SettleError, Settlement, Store, WaitsFor};
use std::sync::Arc;
use std::time::Duration;
use tallygate_core::{Amounts, Decision, Extended, Metric, Receipt, ReservationId, StoreDown};
use tallygate_sim::Rng;
use tokio::time::{sleep, timeout};

/// After which a process that does not answer is dead.
const DEAD: Duration = Duration::from_secs(2);

/// What a caller has.
struct Stay {
    node: Node,
    id: ReservationId,
    user: &'static str,
    tokens: u64,
    counted: Counted,
}

/// Where it is counted.
enum Counted {
    /// In the store.
    There,
    /// Out of shares of the process that decided; the numbers of its parts.
    Here(Vec<usize>),
    Nowhere,
}

pub(super) fn demand(tokens: u64) -> Amounts {
    Amounts::ZERO
        .with(Metric::TOKENS, tokens)
        .with(Metric::REQUESTS, 1)
}

impl World {
    pub(super) async fn live(self: Arc<Self>, node: Node, mut rng: Rng) {
        let Some(mut stay) = self.reserve(node, &mut rng).await else {
            return;
        };
        // Some take so long that the lease they are of has ended.
        let longest = if rng.below(8) == 0 { 4000 } else { 400 };
        sleep(Duration::from_millis(rng.below(longest))).await;
        if rng.below(10) == 0 {
            let more = 1 + rng.below(10);
            self.extend(&mut stay, more).await;
        }
        self.end(stay, &mut rng).await;
    }

    async fn reserve(&self, node: Node, rng: &mut Rng) -> Option<Stay> {
        let most = if rng.below(50) == 0 { 2000 } else { 20 };
        let tokens = 1 + rng.below(most);
        let user = USERS[usize::from(rng.below(8) == 0)];
        let wait = if rng.below(10) == 0 { 500 } else { 0 };
        let (ttl, settled_by) = self.scene.terms(rng);
        let subject = [("user", user)];
        let decision = node.store.reserve(Reserve {
            subject: &subject,
            demand: demand(tokens),
            ttl,
            max_wait: Duration::from_millis(wait),
            idempotency_key: None,
            waits_for: WaitsFor::Anything,
            settled_by,
        });
        let Ok(Decision::Admit(admission)) = decision.await else {
            return None;
        };
        let id = admission.id;
        let counted = self.note(&node, id, (user, tokens));
        Some(Stay {
            node,
            id,
            user,
            tokens,
            counted,
        })
    }

    /// Notes an admission; answers where it is counted.
    fn note(&self, node: &Node, id: ReservationId, (user, tokens): (&str, u64)) -> Counted {
        if self.network.with(|inner| alone::is_there(inner, id)) {
            self.told.lock().admit(id);
            return Counted::There;
        }
        if !node.store.shared().leases.book.lock().holds_it(id) {
            self.network.with(|inner| {
                let verdict = alone::may_be_uncounted(inner, node.seat, self.scene.words);
                inner.hold(verdict);
            });
            return Counted::Nowhere;
        }
        let part = self.take(node, (user, demand(tokens)));
        Counted::Here(part.into_iter().collect())
    }

    /// Notes what was taken of shares; answers its place.
    fn take(&self, node: &Node, (user, amounts): (&str, Amounts)) -> Option<usize> {
        let mut accounts = node.store.accounts(&[("user", user)]);
        if self.scene.words == Words::Mixed {
            // The others count it only if they have a share too.
            accounts.retain(|one| one.rule.rule.store_down() == StoreDown::Share);
        }
        let name = node.store.shared().desk().node.name;
        self.network.with(|inner| {
            let moment = inner.look_at_clock();
            inner.witness(moment.shown);
            let of = (&accounts[..], name);
            let verdict = alone::is_of_shares(&inner.truth.ground, of, (amounts, moment.shown));
            inner.hold(verdict);
            let taken = inner.truth.take_beside(&accounts, amounts, moment.fair);
            taken.map_err(|what| inner.hold(Err(what))).ok()
        })
    }

    async fn extend(&self, stay: &mut Stay, more: u64) {
        let amounts = Amounts::ZERO.with(Metric::TOKENS, more);
        let extending = stay.node.store.extend(stay.id, amounts, None);
        let Ok(Ok(Extended::Granted { .. })) = timeout(DEAD, extending).await else {
            return;
        };
        if let Counted::Here(parts) = &mut stay.counted {
            parts.extend(self.take(&stay.node, (stay.user, amounts)));
        }
    }

    /// Ends what was not extended as it likes; what was is left to its deadline now and then.
    async fn end(&self, stay: Stay, rng: &mut Rng) {
        let used = match rng.below(20) {
            0 => stay.tokens + 1 + rng.below(30),
            1 => return,
            _ => rng.below(stay.tokens + 1),
        };
        let node = self.ends_at(&stay, rng);
        for _ in 0..self.scene.repeats(rng) {
            let usage = Settlement::Exact(demand(used));
            let Ok(ended) = timeout(DEAD, node.store.settle(stay.id, usage)).await else {
                return;
            };
            self.hear(&stay, &node, (ended, used));
            sleep(Duration::from_millis(rng.below(300))).await;
        }
    }

    /// Most end where they began.
    fn ends_at(&self, stay: &Stay, rng: &mut Rng) -> Node {
        match self.scene.words.is_closed() || rng.below(4) > 0 {
            true => stay.node.clone(),
            false => self.any(rng),
        }
    }

    /// Notes what a caller is told of the end of what it has.
    fn hear(&self, stay: &Stay, node: &Node, (ended, used): (Result<Receipt, SettleError>, u64)) {
        match (&stay.counted, ended) {
            (Counted::There, ended) => self.told.lock().hear(node.seat, stay.id, (&ended, used)),
            (Counted::Here(parts), Ok(receipt)) => {
                // All is of the first part; the others are given back.
                let mut charged = receipt.charged;
                self.network.with(|inner| {
                    for part in parts {
                        inner.truth.use_beside(*part, std::mem::take(&mut charged));
                    }
                });
            }
            (Counted::Nowhere, ended) if node.seat == stay.node.seat => {
                let verdict = alone::is_ended(&ended, demand(used));
                self.network.with(|inner| inner.hold(verdict));
            }
            _ => {}
        }
    }
}
