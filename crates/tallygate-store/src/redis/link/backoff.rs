//! Pauses between attempts to reach a server.
use std::time::Duration;

/// Pauses that double from 50 ms, each shortened at random by up to half, so that nodes do not knock together.
pub(super) struct Backoff {
    next: Duration,
    longest: Duration,
}

impl Backoff {
    pub(super) fn up_to(longest: Duration) -> Self {
        Self {
            next: FIRST,
            longest,
        }
    }

    pub(super) fn pause(&mut self) -> Duration {
        let whole = self.next;
        self.next = (whole * 2).min(self.longest);
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_the_longest() {
        let mut backoff = Backoff::up_to(Duration::from_secs(1));
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
