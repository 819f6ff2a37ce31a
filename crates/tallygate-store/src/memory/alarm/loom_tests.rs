//! Every interleaving of those who set the alarm with the thread that sleeps on it.
use super::Alarm;
use crate::sync::{Arc, Mutex};
use std::time::Instant;
use tallygate_core::Time;

const SOON: Time = Time::from_secs(10);
const LATER: Time = Time::from_secs(20);

/// Sleeps until an instant is set.
fn sleep(alarm: &Alarm) -> bool {
    alarm.sleep(|next| next.is_none().then(Instant::now))
}

/// An instant that is set while the thread falls asleep wakes it: a lost one would leave the model deadlocked.
#[test]
fn loom_an_alarm_set_while_falling_asleep_wakes() {
    loom::model(|| {
        let alarm = Arc::new(Alarm::default());
        let keeper = loom::thread::spawn({
            let alarm = alarm.clone();
            move || sleep(&alarm)
        });
        alarm.set(SOON);
        assert!(keeper.join().expect("the sleeper ends"));
    });
}

/// An instant that is not set because the thread wakes before it anyway is found in the books by then.
#[test]
fn loom_an_alarm_passed_over_is_found_in_the_books() {
    loom::model(|| {
        let alarm = Arc::new(Alarm::default());
        let books = Arc::new(Mutex::new(None));
        alarm.set(SOON);
        let keeper = loom::thread::spawn({
            let (alarm, books) = (alarm.clone(), books.clone());
            move || {
                assert!(sleep(&alarm));
                let books = books.lock();
                books.iter().for_each(|next| alarm.set(*next));
            }
        });
        let mut open = books.lock();
        *open = Some(LATER);
        alarm.set(LATER);
        drop(open);
        keeper.join().expect("the sleeper ends");
        assert_eq!(alarm.next(), Some(LATER), "the appointment is kept");
    });
}

/// Two who set it leave the earlier instant standing.
#[test]
fn loom_of_two_alarms_the_earlier_stands() {
    loom::model(|| {
        let alarm = Arc::new(Alarm::default());
        let books = Arc::new(Mutex::new(()));
        let other = loom::thread::spawn({
            let (alarm, books) = (alarm.clone(), books.clone());
            move || {
                let _books = books.lock();
                alarm.set(LATER);
            }
        });
        let open = books.lock();
        alarm.set(SOON);
        drop(open);
        other.join().expect("the other ends");
        assert_eq!(alarm.next(), Some(SOON));
    });
}

/// A store that goes away ends its thread, whenever it does.
#[test]
fn loom_a_stop_ends_the_sleep() {
    loom::model(|| {
        let alarm = Arc::new(Alarm::default());
        let keeper = loom::thread::spawn({
            let alarm = alarm.clone();
            move || sleep(&alarm)
        });
        alarm.stop();
        assert!(!keeper.join().expect("the sleeper ends"));
    });
}
