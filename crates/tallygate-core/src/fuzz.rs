//! Entry points for fuzzers: plain functions of bytes, which must not panic and assert what holds for every input. Their
//! corpus is in `corpus/` and is replayed by the tests.
use crate::codec::JournalError;
use crate::ledger::{Ask, Bounds, Entry, Ledger, Used};
use crate::metric::{Amounts, Metric};
use crate::time::Span;

/// A saved ledger and records that follow it, the length of the save before them in two bytes: whatever is read, it can be
/// saved and read again, and used.
pub fn ledger(data: &[u8]) {
    let Some((length, rest)) = data.split_first_chunk() else {
        return;
    };
    let length = usize::from(u16::from_le_bytes(*length)).min(rest.len());
    let (save, records) = rest.split_at(length);
    if let Ok(ledger) = reborn(save, records) {
        let saved = save_of(&ledger);
        let again = reborn(&saved, &[]).map(|ledger| save_of(&ledger));
        assert_eq!(again, Ok(saved), "it is read otherwise than it was written");
        use_up(ledger);
    }
}

/// The ledger made of a save and records.
///
/// # Errors
/// When they are not readable.
pub fn reborn(save: &[u8], records: &[u8]) -> Result<Ledger, JournalError> {
    let mut ledger = Ledger::load(save, Bounds::default())?;
    ledger.redo(records)?;
    Ok(ledger)
}

fn save_of(ledger: &Ledger) -> Vec<u8> {
    let mut bytes = Vec::new();
    ledger.save(&mut bytes);
    bytes
}

/// Does a little of everything.
fn use_up(mut ledger: Ledger) {
    ledger.keep_journal();
    let demand = Amounts::call(3, 4).with(Metric::COST, 5);
    for user in ["ann", "bob"] {
        let subject = [("tenant", "acme"), ("user", user), ("tier", "free")];
        let keys = ledger.resolve(&subject);
        let ask = Ask {
            keys: &keys,
            demand: &demand,
            ttl: Span::from_secs(5),
            idempotency: Some(ledger.idempotency("1", &subject)),
        };
        let now = ledger.now().plus(Span::from_millis(1));
        ledger.peek(&keys, now);
        let until = now.plus(Span::from_secs(9));
        if let Ok(Entry::Decided(crate::Decision::Admit(admission))) = ledger.wait(&ask, until, now)
        {
            ledger.tie_to_process(admission.id);
            let _refused = ledger.extend(admission.id, &demand, Some(Span::from_secs(7)), now);
            let _known = ledger.settle(admission.id, Used::AtLeast(demand), now);
        }
        let _full = ledger.spend(&keys, &demand, now);
        ledger.set_wall_offset(-7_200_000_000_000);
    }
    for _ in 0..1000 {
        let Some(next) = ledger.next_event() else {
            break;
        };
        ledger.advance(next);
    }
    for _ in 0..100 {
        ledger.sweep(ledger.now().plus(Span::from_secs(3600)));
    }
    ledger.end_tied(ledger.now());
    ledger.drain_journal(&mut Vec::new());
}
