//! What the server refuses half-way has taken no effect at all: here it refuses to write to the set of those who hold slots,
//! where something else has written to its key, after all else that an operation does.
use super::again::{NOW, Twice};
use crate::redis::desk::{Done, Heard, More};
use crate::redis::record::Ending;
use crate::redis::script::{self, Op};
use tallygate_core::{Amounts, Extended, Metric, Outcome, Replay, Span};

/// Where the set is put aside.
const ASIDE: &str = "aside";

impl Twice {
    fn slots(&self) -> Vec<u8> {
        let slots = self.accounts[0].slots(&self.desk.node.prefix);
        slots.expect("a limit of slots applies")
    }

    /// Puts a text in the place of the set.
    fn spoil(&mut self) {
        let key = self.slots();
        let holds: u64 = self.bench.ask(&[b"EXISTS", &key[..]]);
        if holds > 0 {
            let () = self.bench.ask(&[b"RENAME", &key[..], ASIDE.as_bytes()]);
        }
        let () = self.bench.ask(&[b"SET", &key[..], b"a text"]);
    }

    fn mend(&mut self) {
        let key = self.slots();
        let _: u64 = self.bench.ask(&[b"DEL", &key[..]]);
        let holds: u64 = self.bench.ask(&[b"EXISTS", ASIDE.as_bytes()]);
        if holds > 0 {
            let () = self.bench.ask(&[b"RENAME", ASIDE.as_bytes(), &key[..]]);
        }
    }

    /// Has a call refused some times, as one is that is sent again.
    fn are_refused(&mut self, ops: &[&Op]) {
        self.spoil();
        for _ in 0..3 {
            let mut batch = script::write(&self.desk.node, ops, NOW);
            script::timed(&mut batch, NOW);
            assert!(self.bench.refuses(&batch));
        }
        self.mend();
    }
}

fn tokens(amount: u64) -> Amounts {
    Amounts::ZERO.with(Metric::TOKENS, amount)
}

#[test]
fn a_reservation_that_is_refused_holds_nothing() {
    let mut twice = Twice::open();
    let ask = twice.ask(80);
    twice.are_refused(&[&twice.reserve(&ask)]);
    assert_eq!(twice.used(), [0, 0]);
    let answers = twice.call(&twice.desk.look(ask.id));
    assert!(twice.desk.looked(&answers, 0).is_none(), "it is unknown");
    match twice.reserved(&ask) {
        Heard::Held(admission, _) => assert_eq!(admission.replay, Replay::Fresh),
        other => panic!("{other:?}"),
    }
    assert_eq!(twice.used(), [80, 1]);
}

#[test]
fn an_end_that_is_refused_gives_nothing_back() {
    let mut twice = Twice::open();
    let ask = twice.ask(80);
    let held = twice.held(&ask);
    // What comes before it in the call counts.
    let mut other = twice.ask(15);
    other.demand = tokens(15);
    let reserve = twice.reserve(&other);
    let used = (Outcome::Settled, Ending::Exactly(tokens(30)));
    let finish = twice.desk.finish(ask.id, &held, twice.place(), used);
    let finish = Op::Finish(finish);
    twice.are_refused(&[&reserve, &finish]);
    assert_eq!(twice.used(), [95, 1]);
    let answers = twice.call(&finish);
    match twice.desk.finished(Outcome::Settled, &answers, 0) {
        Some(Done::Ended(receipt)) => assert_eq!(receipt.charged, tokens(30)),
        other => panic!("{other:?}"),
    }
    assert_eq!(twice.used(), [45, 0]);
}

#[test]
fn an_extension_that_is_refused_adds_nothing() {
    let mut twice = Twice::open();
    let ask = twice.ask(30);
    let held = twice.held(&ask);
    // The deadline of what it holds is refused, or the slot that it adds.
    let longer = More::new(tokens(20), Some(Span::from_secs(90)));
    let wider = More::new(tokens(20).with(Metric::CONCURRENCY, 1), None);
    for more in [longer, wider] {
        let extend = twice.desk.extend(ask.id, &held, twice.place(), &more);
        twice.are_refused(&[&extend]);
        assert_eq!(twice.used(), [30, 1]);
    }
    let amounts = tokens(20).with(Metric::CONCURRENCY, 1);
    let more = More::new(amounts, None);
    let extend = twice.desk.extend(ask.id, &held, twice.place(), &more);
    let answers = twice.call(&extend);
    let done = twice.desk.extended(&held, &amounts, &answers, 0);
    let granted = matches!(done, Some(Done::Extended(Extended::Granted { .. })));
    assert!(granted, "{done:?}");
    assert_eq!(twice.used(), [50, 2]);
    let retract = twice.desk.retract(ask.id, &held, twice.place(), &more);
    twice.are_refused(&[&retract]);
    assert_eq!(twice.used(), [50, 2]);
    twice.call(&retract);
    assert_eq!(twice.used(), [30, 1]);
}
