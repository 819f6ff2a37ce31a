//! Pauses between attempts to reach a server.
use std::time::Duration;

/// Pauses that double from 50 ms to 1 s, each shortened at random by up to half, so that nodes do not knock together.
pub(super) struct Backoff {
    next: Duration,
}

impl Backoff {
    pub(super) fn new() -> Self {
        Self { next: FIRST }
    }

    pub(super) fn pause(&mut self) -> Duration {
        let whole = self.next;
        self.next = (whole * 2).min(LONGEST);
        whole - jitter(whole / 2)
    }
}

/// Up to `most`, at random. Without randomness nothing is taken off: the pause is still a pause.
fn jitter(most: Duration) -> Duration {
    let random = getrandom::u32().unwrap_or_default();
    let share = u64::from(random) * u64::try_from(most.as_micros()).unwrap_or_default();
    Duration::from_micros(share >> 32)
}

const FIRST: Duration = Duration::from_millis(50);
const LONGEST: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_a_second() {
        let mut backoff = Backoff::new();
        for whole in [50, 100, 200, 400, 800, 1000, 1000] {
            let whole = Duration::from_millis(whole);
            let pause = backoff.pause();
            assert!(
                pause <= whole && pause >= whole / 2,
                "{pause:?} of {whole:?}"
            );
        }
    }
}
