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

/// One line of output, from either tool; `None` if it is no summary.
pub fn summary(line: &str) -> Option<Count> {
    let line = line.trim();
    if let Some(rest) = line.strip_prefix("test result: ") {
        // `ok. 3 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.00s`
        let (_, counts) = rest.split_once(". ")?;
        return Some(count(counts.split("; ")));
    }
    if line.starts_with("Summary [") {
        // `Summary [  1.2s] 9 tests run: 7 passed (1 slow), 1 failed, 1 timed out, 2 skipped`
        let (_, counts) = line.split_once(": ")?;
        return Some(count(counts.split(", ")));
    }
    None
}

fn count<'a>(parts: impl Iterator<Item = &'a str>) -> Count {
    let mut count = Count::default();
    for part in parts {
        let mut words = part.split_whitespace();
        let Some(number) = words.next().and_then(|word| word.parse::<u64>().ok()) else { continue };
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

    fn counted(line: &str) -> Option<(u64, u64, u64)> {
        summary(line).map(|count| (count.passed, count.failed, count.skipped))
    }

    #[test]
    fn summaries_of_both_tools_are_counted() {
        assert_eq!(
            counted("test result: FAILED. 3 passed; 2 failed; 1 ignored; 0 measured; 5 filtered out; finished in 0.1s"),
            Some((3, 2, 1))
        );
        assert_eq!(counted("     Summary [   1.234s] 4 tests run: 4 passed, 0 skipped"), Some((4, 0, 0)));
        assert_eq!(
            counted("     Summary [   9.1s] 9/20 tests run: 6 passed (1 slow), 2 failed, 1 timed out, 3 skipped"),
            Some((6, 3, 3))
        );
        assert_eq!(counted("        PASS [   0.0s] (1/2) a::b test result: nothing"), None);
    }

    #[test]
    fn loud_skips_do_not_count_as_passed() {
        let count = Count { passed: 5, failed: 1, skipped: 0 }.with_loud_skips(2);
        assert_eq!(count, Count { passed: 3, failed: 1, skipped: 2 });
    }
}
