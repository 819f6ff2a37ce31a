//! What is remembered, and what is forgotten first.

use super::*;

fn at(seconds: u64) -> Time {
    Time::from_secs(1_000 + seconds)
}

fn name(memory: &Memory, user: usize) -> Name {
    memory.name(
        ("day", 0),
        [("user", user.to_string().as_str())].into_iter(),
    )
}

/// What is said of `percent` of a user's counter whose window ends in so many seconds.
fn news(memory: &mut Memory, user: usize, (percent, ends): (u8, u64)) -> News {
    let name = name(memory, user);
    memory.note(name, What::Percent(percent), (at(ends), at(0)))
}

#[test]
fn past_the_bound_the_nearest_end_is_forgotten_and_what_is_new_is_told() {
    let mut memory = Memory::new(3);
    for (user, ends) in [(1, 30), (2, 10), (3, 20)] {
        assert_eq!(news(&mut memory, user, (80, ends)), News::New);
    }
    assert_eq!(news(&mut memory, 4, (80, 40)), News::NewForOld);
    for user in [1, 3, 4] {
        assert_eq!(news(&mut memory, user, (80, 30)), News::Known, "{user}");
    }
    assert_eq!(news(&mut memory, 2, (80, 10)), News::NewForOld);
    assert_eq!((memory.counters.len(), memory.by_end.len()), (3, 3));
}

#[test]
fn what_has_ended_makes_room_and_the_bound_costs_no_walk() {
    let mut memory = Memory::new(1_000);
    for user in 0..1_000 {
        let ends = 1 + u64::try_from(user).expect("small");
        assert_eq!(news(&mut memory, user, (80, ends)), News::New);
    }
    let last = name(&memory, 5_000);
    let told = memory.note(last, What::Denied, (at(9_000), at(500)));
    assert_eq!(told, News::New, "half of them have ended");
    assert_eq!((memory.counters.len(), memory.by_end.len()), (501, 501));
    memory.goes_on(last, (at(9_000), at(8_000)));
    assert_eq!(memory.counters.len(), 1);
    memory.goes_on(last, (at(9_001), at(9_000)));
    assert!(memory.is_empty());
}

#[test]
fn a_bucket_that_is_not_full_again_is_remembered() {
    let mut memory = Memory::new(10);
    let user = name(&memory, 1);
    assert_eq!(news(&mut memory, 1, (80, 10)), News::New);
    for second in 1..100 {
        memory.goes_on(user, (at(second + 5), at(second)));
        let again = memory.note(user, What::Percent(50), (at(second + 5), at(second)));
        assert_eq!(again, News::Known, "a lower one after {second} s");
    }
    let higher = memory.note(user, What::Percent(95), (at(110), at(100)));
    assert_eq!(higher, News::New);
    let anew = memory.note(user, What::Percent(50), (at(200), at(110)));
    assert_eq!(anew, News::New, "it has been full");
}

#[test]
fn each_pair_of_models_is_told_once() {
    let mut memory = Memory::new(10);
    let user = name(&memory, 1);
    let mut told =
        |asked, served| memory.note(user, What::Downgraded(asked, served), (at(9), at(0)));
    assert_eq!(told("a", "b"), News::New);
    assert_eq!(told("a", "c"), News::New);
    assert_eq!(told("a", "b"), News::Known);
    assert_eq!(memory.note(user, What::Denied, (at(9), at(0))), News::New);
    assert_eq!(memory.note(user, What::Denied, (at(9), at(0))), News::Known);
}
