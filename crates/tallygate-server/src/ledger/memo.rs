//! What the record of an open reservation needs to say, as bytes that another node or a later process reads.

use tallygate_core::{ReservationId, Time};
use tallygate_store::usage::{Call, Labels, Memo, Record};

use super::Entry;
use crate::config::Config;
use crate::pipeline::Price;

/// Time, labels, the models that serve and were asked for and the upstream, what is held and of a budget, and the wait. The price of
/// the model asked for is not in it: each node has the same.
type Said = (
    u64,
    Vec<(String, String)>,
    [String; 3],
    u64,
    Option<u64>,
    u64,
);

impl Entry {
    /// What is to be known of it elsewhere; `None` where that is too much.
    pub(super) fn memo(&self, id: ReservationId, expires_at: Time) -> Option<Memo> {
        let record = &self.record;
        let call = &record.call;
        let bytes = serde_json::to_vec(&(
            record.time,
            record.labels.iter().collect::<Vec<_>>(),
            [&*call.model, &*call.asked, &*call.upstream],
            record.held,
            record.held_cost,
            record.waited_ms,
        ));
        let bytes = bytes.ok().filter(|bytes| bytes.len() <= Memo::MOST_BYTES)?;
        Some(Memo {
            id,
            expires_at,
            bytes,
        })
    }

    /// The entry that a memo tells of; `None` if another version wrote it.
    pub(super) fn of_memo(bytes: &[u8], config: &Config) -> Option<Self> {
        let said: Said = serde_json::from_slice(bytes).ok()?;
        let (time, labels, [model, asked, upstream], held, held_cost, waited_ms) = said;
        let labels = labels.iter().map(|(name, value)| (&**name, &**value));
        let price = (asked != model).then(|| Price::of_label(config, &asked));
        let call = Call {
            model: model.into(),
            asked: asked.into(),
            upstream: upstream.into(),
            ..Call::default()
        };
        let record = Record {
            time,
            labels: Labels::new(labels),
            call,
            held,
            held_cost,
            waited_ms,
            ..Record::default()
        };
        Some(Self {
            record,
            asked: price,
        })
    }
}
