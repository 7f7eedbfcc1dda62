//! Names of what messages are about.

use crate::BusError;

/// Longest subject in bytes: two ids of 36 characters and some words fit several times.
const SUBJECT_BYTES_MAX: usize = 255;

/// Words of letters, digits, `_` and `-`, divided by dots; the first does not begin with `_`, which is
/// the bus's own.
pub(crate) fn check(subject: &str) -> Result<(), BusError> {
    let word = |word: &str| {
        !word.is_empty()
            && word
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-'))
    };
    if subject.len() <= SUBJECT_BYTES_MAX
        && !subject.starts_with('_')
        && subject.split('.').all(word)
    {
        Ok(())
    } else {
        Err(BusError::Subject(
            subject.chars().take(SUBJECT_BYTES_MAX).collect(),
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_plain_subjects_are_accepted() {
        let longest = "s".repeat(SUBJECT_BYTES_MAX);
        for good in ["a", "device.t1.0b6c-1", "a_b.C", longest.as_str()] {
            assert!(check(good).is_ok(), "{good}");
        }
        let long = "s".repeat(SUBJECT_BYTES_MAX + 1);
        for bad in [
            "",
            ".",
            "a.",
            ".a",
            "a..b",
            "a b",
            "a.*",
            "a.>",
            "_inbox.1",
            "ä",
            "a\r\nPUB x",
            &long,
        ] {
            assert!(check(bad).is_err(), "{bad:?}");
        }
    }
}
