//! A rule in force, with its accounts.
use crate::account::{Account, Accounts, Key};
use crate::calendar::{Window, window_at};
use crate::codec::{JournalError, Reader, put_signed, put_time};
use crate::counter::{Gate, State};
use crate::decision::Standing;
use crate::meter::Meter;
use crate::num;
use crate::policy::{CompiledLimit, CompiledRule, value_of};
use crate::time::{Span, Time};
use siphasher::sip128::{Hasher128, SipHasher13};
use std::hash::Hasher;
use std::sync::Arc;

/// A rule in force.
#[derive(Debug)]
pub(crate) struct Slot {
    pub(crate) rule: Arc<CompiledRule>,
    pub(crate) accounts: Accounts,
    /// The calendar window each limit is in, on the ledger's clock; of `fixed` limits only.
    pub(crate) windows: Vec<Option<Window>>,
    /// The earliest end of them.
    turns: Time,
    tag: u64,
}

impl Slot {
    pub(crate) fn new(rule: Arc<CompiledRule>, seed: [u64; 2]) -> Self {
        let mut hasher = SipHasher13::new_with_keys(seed[0], seed[1]);
        hasher.write(rule.tag.as_bytes());
        let tag = hasher.finish128().h1;
        let windows = rule.limits.iter().map(|_| None).collect();
        Self {
            rule,
            accounts: Accounts::new(),
            windows,
            turns: Time::ZERO,
            tag,
        }
    }

    /// Puts a rule in force that differs in its amounts only.
    pub(crate) fn change(&mut self, rule: Arc<CompiledRule>) {
        self.rule = rule;
        self.turn();
    }

    /// Looks the calendar up anew at the next occasion.
    pub(crate) fn turn(&mut self) {
        self.turns = Time::ZERO;
    }

    /// The key of a subject's account.
    pub(crate) fn key(&self, slot: u32, subject: &[(&str, &str)], seed: [u64; 2]) -> Key {
        let mut hasher = SipHasher13::new_with_keys(seed[0] ^ self.tag, seed[1]);
        for label in &self.rule.per {
            let value = value_of(subject, label).unwrap_or("");
            hasher.write_u64(num::length(value.len()));
            hasher.write(value.as_bytes());
        }
        let hash = hasher.finish128();
        Key {
            slot,
            high: num::low32(hash.h2),
            // Zero is no account's.
            low: hash.h1.max(1),
        }
    }

    /// Brings the calendar windows to `now`; `offset` is the wall clock's lead in nanoseconds.
    #[inline]
    pub(crate) fn refresh(&mut self, now: Time, offset: i64) {
        if now >= self.turns {
            self.refresh_windows(now, offset);
        }
    }

    fn refresh_windows(&mut self, now: Time, offset: i64) {
        self.turns = Time::MAX;
        for (limit, cached) in self.rule.limits.iter().zip(&mut self.windows) {
            if let Meter::Fixed {
                window, timezone, ..
            } = &limit.meter
            {
                let fresh = window_at(*window, timezone, now, offset);
                let current = follow(*cached, fresh, now);
                self.turns = self.turns.min(current.end);
                *cached = Some(current);
            }
        }
    }

    /// Writes which calendar windows it is in.
    pub(crate) fn write_windows(&self, now: Time, out: &mut Vec<u8>) {
        put_time(out, self.turns, now);
        for window in &self.windows {
            out.push(u8::from(window.is_some()));
            if let Some(window) = window {
                put_signed(out, window.number);
                put_time(out, window.start, now);
                put_time(out, window.end, now);
                put_signed(out, window.lead);
            }
        }
    }

    pub(crate) fn read_windows(
        &mut self,
        now: Time,
        from: &mut Reader<'_>,
    ) -> Result<(), JournalError> {
        self.turns = from.time(now)?;
        for window in &mut self.windows {
            *window = match from.byte()? {
                0 => None,
                1 => Some(Window {
                    number: from.signed()?,
                    start: from.time(now)?,
                    end: from.time(now)?,
                    lead: from.signed()?,
                }),
                _ => return Err(from.damaged("calendar window")),
            };
        }
        Ok(())
    }

    /// The gate of its limit number `at`.
    #[inline]
    pub(crate) fn gate<'a>(&'a self, limit: &'a CompiledLimit, at: usize, now: Time) -> Gate<'a> {
        gate(&self.windows, limit, at, now)
    }

    /// Its limits, each with its gate, beside its accounts to be changed.
    #[inline]
    pub(crate) fn split(
        &mut self,
        now: Time,
    ) -> (
        impl Iterator<Item = (&CompiledLimit, Gate<'_>)>,
        &mut Accounts,
    ) {
        let windows = &self.windows;
        let limits = self.rule.limits.iter().enumerate();
        let gates = limits.map(move |(at, limit)| (limit, gate(windows, limit, at, now)));
        (gates, &mut self.accounts)
    }

    /// The state of its counter number `at`, a fresh one if there is no account.
    pub(crate) fn state(&self, account: Option<&Account>, at: usize) -> State {
        let known = account.and_then(|account| account.states().get(at));
        known.cloned().unwrap_or_else(|| self.rule.fresh(at))
    }

    /// Drops accounts of one table that are as good as fresh.
    pub(crate) fn sweep(&mut self, table: usize, (now, offset): (Time, i64)) -> usize {
        self.refresh(now, offset);
        let windows = &self.windows;
        let rule = &self.rule;
        self.accounts.sweep(table, |account| {
            let mut counters = rule.limits.iter().zip(account.states()).enumerate();
            counters.all(|(at, (limit, state))| gate(windows, limit, at, now).is_fresh(state))
        })
    }
}

/// The gate of limit number `at` of a rule whose windows these are.
#[inline]
pub(crate) fn gate<'a>(
    windows: &'a [Option<Window>],
    limit: &'a CompiledLimit,
    at: usize,
    now: Time,
) -> Gate<'a> {
    let window = match limit.meter {
        Meter::Fixed { .. } => windows.get(at).and_then(Option::as_ref),
        _ => None,
    };
    Gate {
        meter: &limit.meter,
        window,
        now,
    }
}

/// A standing as it is shown.
pub(crate) fn standing(limit: &CompiledLimit, used: u64, reset: Span) -> Standing {
    let most = limit.meter.largest();
    Standing {
        limit: limit.info.clone(),
        used,
        remaining: most.saturating_sub(used),
        debt: used.saturating_sub(most),
        reset: reset.into(),
    }
}

/// The window after `before`. A clock that was set back re-opens none: the later one stays until the wall reaches
/// its end. One that was set forward opens the next only now: what was charged before belongs to earlier ones.
/// No window is over already: its counters would then stand still.
fn follow(before: Option<Window>, fresh: Window, now: Time) -> Window {
    match before {
        None => fresh,
        Some(before) if fresh.number > before.number => Window {
            start: fresh.start.max(now),
            ..fresh
        },
        Some(before) => {
            let before = before.led(fresh.lead);
            Window {
                end: before.end.max(fresh.end),
                ..before
            }
        }
    }
}
