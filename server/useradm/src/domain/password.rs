use crate::UseradmError;

/// In characters (reference: user administration 4.1).
const CHARS_MIN: usize = 8;
/// In bytes; longer ones only cost time.
const BYTES_MAX: usize = 4096;

pub(super) fn check(password: &str) -> Result<(), UseradmError> {
    if password.chars().count() < CHARS_MIN {
        return Err(UseradmError::Unprocessable(
            "password: must be minimum 8 characters long".to_owned(),
        ));
    }
    if password.len() > BYTES_MAX {
        return Err(UseradmError::Unprocessable(
            "password: must be at most 4096 bytes long".to_owned(),
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn length_is_counted_in_characters() {
        for (password, fine) in [
            ("1234567".to_owned(), false),
            ("12345678".to_owned(), true),
            ("ääääääää".to_owned(), true),
            ("ääää".to_owned(), false),
            ("x".repeat(BYTES_MAX), true),
            ("x".repeat(BYTES_MAX + 1), false),
        ] {
            assert_eq!(check(&password).is_ok(), fine, "{} bytes", password.len());
        }
    }
}
