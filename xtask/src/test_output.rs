//! Counting tests in the output of `cargo nextest` and `cargo test`.

use std::ops::AddAssign;

/// How many tests ended how.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Count {
    pub passed: u64,
    pub failed: u64,
    pub skipped: u64,
}

impl AddAssign for Count {
    fn add_assign(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.skipped += other.skipped;
    }
}

impl Count {
    /// Moves tests that returned early after saying so from passed to skipped.
    pub fn with_loud_skips(mut self, skips: u64) -> Self {
        let moved = skips.min(self.passed);
        self.passed -= moved;
        self.skipped += moved;
        self
    }
}

/// Whose output it is. It matters: nextest repeats the output of failed tests, in which each says
/// `test result: FAILED` about itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Runner {
    Nextest,
    Cargo,
}

/// One line of output; `None` if it is no summary.
pub fn summary(runner: Runner, line: &str) -> Option<Count> {
    match runner {
        Runner::Nextest => {
            // `Summary [  1.2s] 9 tests run: 7 passed (1 slow), 1 failed, 1 timed out, 2 skipped`
            let (_, counts) = line.trim().strip_prefix("Summary [")?.split_once(": ")?;
            Some(count(counts.split(", ")))
        }
        Runner::Cargo => {
            // `test result: ok. 3 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; ...`
            let (_, counts) = line.strip_prefix("test result: ")?.split_once(". ")?;
            Some(count(counts.split("; ")))
        }
    }
}

fn count<'a>(parts: impl Iterator<Item = &'a str>) -> Count {
    let mut count = Count::default();
    for part in parts {
        let mut words = part.split_whitespace();
        let Some(number) = words.next().and_then(|word| word.parse::<u64>().ok()) else {
            continue;
        };
        match words.next() {
            Some("passed") => count.passed += number,
            Some("failed" | "timed" | "exec") => count.failed += number,
            Some("ignored" | "skipped") => count.skipped += number,
            _ => {}
        }
    }
    count
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counted(runner: Runner, line: &str) -> Option<(u64, u64, u64)> {
        summary(runner, line).map(|count| (count.passed, count.failed, count.skipped))
    }

    #[test]
    fn summaries_of_both_runners_are_counted() {
        let result = "test result: FAILED. 3 passed; 2 failed; 1 ignored; 0 measured; 5 filtered out; finished in 0.1s";
        assert_eq!(counted(Runner::Cargo, result), Some((3, 2, 1)));
        for (line, expected) in [
            (
                "     Summary [   1.234s] 4 tests run: 4 passed, 0 skipped",
                (4, 0, 0),
            ),
            (
                "     Summary [   9.1s] 9/20 tests run: 6 passed (1 slow), 2 failed, 1 timed out, 3 skipped",
                (6, 3, 3),
            ),
        ] {
            assert_eq!(counted(Runner::Nextest, line), Some(expected), "{line}");
        }
    }

    #[test]
    fn the_repeated_output_of_a_failed_test_is_not_counted_again() {
        let repeated =
            "test result: FAILED. 0 passed; 1 failed; 0 ignored; 0 measured; 0 filtered out";
        assert_eq!(counted(Runner::Nextest, repeated), None);
        assert_eq!(counted(Runner::Nextest, &format!("    {repeated}")), None);
    }

    #[test]
    fn loud_skips_do_not_count_as_passed() {
        let count = Count {
            passed: 5,
            failed: 1,
            skipped: 0,
        }
        .with_loud_skips(2);
        assert_eq!(
            count,
            Count {
                passed: 3,
                failed: 1,
                skipped: 2
            }
        );
    }
}
