//! Three gateways on one store that is away for ten seconds, killed or frozen, under limits that do each of the three things then.
//!
//! Each story is one outage under load, from the first call until the limit is reached again and the gateways have gone. What
//! callers and the provider saw is then held against what the store has counted. The table of all:
//! `cargo test -p tallygate --test it outages -- --nocapture`.
mod callers;
mod case;
mod fleet;
mod held;
mod story;

use std::thread;

use self::case::Case;
use self::story::Story;

/// All cases beside each other, each on a server of its own: most of an outage is waiting.
#[test]
fn a_store_is_away_for_ten_seconds() {
    let stories: Vec<Story> = thread::scope(|scope| {
        let unfold = |case: Case| {
            let thread = thread::Builder::new().name(case.to_string());
            let story = move || Story::of(case);
            thread.spawn_scoped(scope, story).expect("a thread")
        };
        let threads: Vec<_> = Case::all().map(unfold).collect();
        let join = |thread: thread::ScopedJoinHandle<'_, Story>| {
            let ended = thread.join();
            ended.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        };
        threads.into_iter().map(join).collect()
    });
    eprintln!("{}", Story::HEAD);
    stories.iter().for_each(|story| eprintln!("{story}"));
    stories.iter().for_each(Story::is_as_promised);
}
