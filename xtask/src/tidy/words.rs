//! Words that do not belong in the tree, unfinished code, and tests that sleep.

use super::Finding;
use super::source::Source;

/// What to look for, where, and what to do instead. Written in halves so that this file does not find itself.
struct Word {
    text: &'static str,
    place: Place,
    mend: &'static str,
}

enum Place {
    Anywhere,
    Rust,
    Tests,
}

/// On the line of a wait in a test or the one above, says why it is not a synchronisation.
const SLEEP_WAIVER: &str = concat!("tidy: ", "sleeps because");

const WORDS: &[Word] = &[
    Word {
        text: concat!("/wo", "rk/"),
        place: Place::Anywhere,
        mend: "name no machine's paths",
    },
    Word {
        text: concat!("/ro", "ot/"),
        place: Place::Anywhere,
        mend: "name no machine's paths",
    },
    Word {
        text: concat!("/ho", "me/"),
        place: Place::Anywhere,
        mend: "name no machine's paths",
    },
    Word {
        text: concat!("todo", "!"),
        place: Place::Rust,
        mend: "write it, or leave it out",
    },
    Word {
        text: concat!("unimple", "mented!"),
        place: Place::Rust,
        mend: "write it, or leave it out",
    },
    Word {
        text: concat!("FIX", "ME"),
        place: Place::Rust,
        mend: "mend it now, or open an issue",
    },
    Word {
        text: concat!("#[ign", "ore"),
        place: Place::Rust,
        mend: "make the test fit for every run, or delete it",
    },
    Word {
        text: concat!("thread::", "sleep("),
        place: Place::Tests,
        mend: "wait for the event itself, or say `// tidy: sleeps because …`",
    },
    Word {
        text: concat!("time::", "sleep("),
        place: Place::Tests,
        mend: "use virtual time, wait for the event itself, or say `// tidy: sleeps because …`",
    },
];

pub(super) fn check(sources: &[Source]) -> Vec<Finding> {
    sources
        .iter()
        .filter(|source| !source.path.ends_with(".lock"))
        .flat_map(check_source)
        .collect()
}

fn check_source(source: &Source) -> Vec<Finding> {
    // In a test with paused time a sleep is the virtual clock's step.
    let paused = source.text.contains("start_paused");
    let mut findings = Vec::new();
    let mut above = "";
    for (number, line) in source.lines() {
        let excused = paused || [above, line].iter().any(|line| line.contains(SLEEP_WAIVER));
        for word in WORDS.iter().filter(|word| line.contains(word.text)) {
            let counts = match word.place {
                Place::Anywhere => true,
                Place::Rust => source.is_rust(),
                Place::Tests => source.is_rust() && source.in_tests(number) && !excused,
            };
            if counts {
                findings.push(Finding {
                    place: format!("{}:{number}", source.path),
                    what: format!("`{}`", word.text),
                    mend: word.mend,
                });
            }
        }
        above = line;
    }
    findings
}
