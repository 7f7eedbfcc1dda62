//! Names of objects.

use crate::BlobError;

/// Longest key in bytes; with the directory before it every file system accepts the path.
const KEY_BYTES_MAX: usize = 200;

/// A key that is safe as a relative path and in a URL: words of letters, digits, `.`, `_` and `-`,
/// divided by `/`, none of them starting with a dot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Key(String);

impl Key {
    pub(crate) fn parse(text: &str) -> Result<Key, BlobError> {
        let word = |word: &str| {
            !word.is_empty()
                && !word.starts_with('.')
                && word
                    .bytes()
                    .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'))
        };
        if text.len() <= KEY_BYTES_MAX && text.split('/').all(word) {
            Ok(Key(text.to_owned()))
        } else {
            Err(BlobError::Key(text.chars().take(KEY_BYTES_MAX).collect()))
        }
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_safe_keys_are_accepted() {
        let longest = "k".repeat(KEY_BYTES_MAX);
        for good in ["a", "tenant/0b6c1b0e", "a.b_c-D9", longest.as_str()] {
            assert!(Key::parse(good).is_ok(), "{good}");
        }
        let long = "k".repeat(KEY_BYTES_MAX + 1);
        for bad in [
            "",
            "/a",
            "a/",
            "a//b",
            "..",
            "../a",
            "a/../b",
            ".hidden",
            "a b",
            "a%2f",
            "ä",
            "a\0",
            long.as_str(),
        ] {
            assert!(Key::parse(bad).is_err(), "{bad}");
        }
    }
}
