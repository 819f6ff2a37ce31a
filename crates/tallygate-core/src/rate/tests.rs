use super::*;
use proptest::prelude::*;

/// A bucket in exact numbers: a token is `every` units, a nanosecond drains `amount`.
#[derive(Debug, Clone, Copy)]
struct Exact {
    amount: i128,
    every: i128,
    burst: i128,
    /// What is taken, in units, at `at`.
    backlog: i128,
    at: i128,
}

impl Exact {
    fn pass(&mut self, now: u64) {
        let now = i128::from(now);
        self.backlog = (self.backlog - self.amount * (now - self.at)).max(0);
        self.at = now;
    }

    fn fits(&self, tokens: u64) -> bool {
        self.backlog + i128::from(tokens) * self.every <= self.burst * self.every
    }

    fn used(&self) -> i128 {
        (self.backlog + self.every - 1) / self.every
    }

    /// In how many nanoseconds so many tokens fit.
    fn fits_in(&self, tokens: u64) -> i128 {
        let over = self.backlog + (i128::from(tokens) - self.burst) * self.every;
        (over.max(0) + self.amount - 1) / self.amount
    }
}

fn numbers() -> impl Strategy<Value = (u64, u64, u64)> {
    let small = (1..60u64, 1..300u64, 1..80u64);
    let real = (1..=10_000_000u64, 1..=86_400u64, 1..=10_000_000u64);
    let real = real.prop_map(|(amount, seconds, burst)| (amount, seconds * 1_000_000_000, burst));
    prop_oneof![small, real]
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever is taken and however long it rests, a bucket is the exact one.
    #[test]
    fn the_same_as_exact_numbers(
        (amount, every, burst) in numbers(),
        steps in proptest::collection::vec((0..400u64, 0..100u64, 0..1000u64), 1..30),
    ) {
        let rate = Rate::new(amount, Span::from_nanos(every), burst);
        let mut level = Point::default();
        let mut now = 1_700_000_000_000_000_000u64;
        let mut exact = Exact {
            amount: i128::from(amount),
            every: i128::from(every),
            burst: i128::from(burst),
            backlog: 0,
            at: i128::from(now),
        };
        for (pace, tokens, share) in steps {
            // A share of the time a burst takes to refill, and of the burst.
            now += rate.refill().as_nanos() / 400 * pace + pace;
            exact.pass(now);
            let time = Time::from_nanos(now);
            prop_assert_eq!(i128::from(rate.used(level, time)), exact.used());
            let tokens = tokens.max(burst * share / 1000);
            prop_assert_eq!(rate.admits(level, tokens, time), exact.fits(tokens));
            let after = rate.after(level, rate.cost(tokens), time);
            prop_assert_eq!(rate.fits(after, time), exact.fits(tokens));
            if tokens <= burst {
                let fits_at = rate.fits_at(after).max(time);
                prop_assert_eq!(i128::from(fits_at.as_nanos() - now), exact.fits_in(tokens));
            }
            if exact.fits(tokens) {
                level = rate.taken(level, tokens, time);
                prop_assert_eq!(level, after);
                exact.backlog += i128::from(tokens) * exact.every;
                let units = rate.units(level);
                prop_assert_eq!(rate.level(units), level, "there and back");
            }
        }
    }

    /// Amounts whose lowest terms exceed 32 bits are rounded to the strict side, by less than one in 2^31.
    #[test]
    fn large_amounts_err_to_the_strict_side(amount in (1u64 << 33)..(1 << 45), seconds in 1..86_400u64) {
        let every = seconds * 1_000_000_000;
        let rate = Rate::new(amount, Span::from_nanos(every), amount);
        let (units, drain) = (i128::from(rate.step), i128::from(rate.drain));
        // A token takes step / drain nanoseconds instead of every / amount.
        let over = units * i128::from(amount) - i128::from(every) * drain;
        prop_assert!(over >= 0, "a token refills too soon");
        prop_assert!(over <= i128::from(amount), "by more than one unit");
    }

    /// What is carried over to another rate is the same amount, rounded up by less than a unit.
    #[test]
    fn converted_units_are_the_same_amount(
        (amount, every, _) in numbers(), other in 1..1_000_000u64, units in -1_000_000_000_000i128..1_000_000_000_000,
    ) {
        let old = Rate::new(amount, Span::from_nanos(every), amount);
        let new = Rate::new(other, Span::from_nanos(every), other);
        let converted = new.convert(units, &old);
        let (old, new) = (i128::from(old.step), i128::from(new.step));
        let rest = converted * old - units * new;
        prop_assert!((0..old).contains(&rest), "{units} become {converted}");
    }
}

/// Sums past the end of time stay there, and do not fit.
#[test]
fn past_the_end_of_time_nothing_fits() {
    let rate = Rate::new(1, Span::from_secs(86_400), 100);
    let now = Time::from_secs(1_700_000_000);
    let level = rate.taken(Point::default(), u64::MAX, now);
    assert_eq!(level.nanos, u64::MAX);
    assert!(!rate.admits(level, 0, now));
    assert!(!rate.admits(Point::default(), u64::MAX, now));
    let uneven = Rate::new(7, Span::from_secs(86_400), 100);
    let level = uneven.taken(Point::default(), u64::MAX, now);
    assert!(!uneven.admits(level, 0, now));
}
