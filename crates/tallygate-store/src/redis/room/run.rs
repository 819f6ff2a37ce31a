//! How many of a line are asked for in one breath.
use crate::redis::pump::BATCH;

/// How many callers of a line are asked for next: as many as were admitted the last time and one more, whose denial says when to
/// come again; twice as many while all are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Run(usize);

impl Default for Run {
    fn default() -> Self {
        Self(1)
    }
}

impl Run {
    pub(super) const fn length(self) -> usize {
        self.0
    }

    /// So many of those who were asked for were admitted.
    pub(super) fn went(&mut self, admitted: usize, asked: usize) {
        let next = match admitted < asked {
            true => admitted + 1,
            false => 2 * asked,
        };
        self.0 = next.clamp(1, BATCH);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_doubles_while_all_are_admitted() {
        let mut run = Run::default();
        let mut lengths = vec![run.length()];
        for _ in 0..8 {
            run.went(run.length(), run.length());
            lengths.push(run.length());
        }
        assert_eq!(lengths, [1, 2, 4, 8, 16, 32, 64, 64, 64]);
    }

    #[test]
    fn after_a_denial_it_is_one_more_than_had_room() {
        let mut run = Run::default();
        run.went(64, 64);
        run.went(5, 64);
        assert_eq!(run.length(), 6);
        run.went(0, 6);
        assert_eq!(run.length(), 1, "one who is denied is asked for alone");
    }
}
