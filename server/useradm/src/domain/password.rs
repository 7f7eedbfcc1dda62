//! What a password must be like (reference: user administration 4.1).

use super::Email;
use crate::UseradmError;

/// In characters.
const CHARS_MIN: usize = 8;
/// In bytes; longer ones only cost time.
const BYTES_MAX: usize = 4096;
/// Shorter parts of an address are in many passwords by chance.
const SIMILAR_CHARS_MIN: usize = 4;

pub(super) fn check(password: &str, email: &Email) -> Result<(), UseradmError> {
    let refused = |text: &str| Err(UseradmError::Unprocessable(text.to_owned()));
    if password.chars().count() < CHARS_MIN {
        return refused("password: must be minimum 8 characters long");
    }
    if password.len() > BYTES_MAX {
        return refused("password: must be at most 4096 bytes long");
    }
    if similar(&password.to_lowercase(), email.as_str()) {
        return refused("password is too similar to the email");
    }
    Ok(())
}

/// The address or its name, perhaps with a few characters around it; or a piece of the address.
fn similar(password: &str, email: &str) -> bool {
    let name = email.split('@').next().unwrap_or_default();
    let around = |part: &str| {
        part.len() >= SIMILAR_CHARS_MIN
            && password.contains(part)
            && password.chars().count() - part.chars().count() <= part.chars().count() / 2
    };
    around(email) || around(name) || email.contains(password)
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests fail loudly")]
mod tests {
    use super::*;

    #[test]
    fn length_is_counted_in_characters() {
        let email = Email::parse("a@b.c").unwrap();
        for (password, fine) in [
            ("1234567".to_owned(), false),
            ("12345678".to_owned(), true),
            ("ääääääää".to_owned(), true),
            ("ääää".to_owned(), false),
            ("x".repeat(BYTES_MAX), true),
            ("x".repeat(BYTES_MAX + 1), false),
        ] {
            assert_eq!(
                check(&password, &email).is_ok(),
                fine,
                "{} bytes",
                password.len()
            );
        }
    }

    #[test]
    fn the_address_is_no_password() {
        let email = Email::parse("some.user@example.com").unwrap();
        for (password, fine) in [
            ("some.user@example.com", false),
            ("Some.User@Example.com1", false),
            ("some.user", false),
            ("some.user123", false),
            ("example.com", false),
            ("user@example", false),
            ("some.user and a long rest", true),
            ("secretsecret", true),
        ] {
            assert_eq!(check(password, &email).is_ok(), fine, "{password}");
        }
        let short = Email::parse("a@b.c").unwrap();
        assert!(check("aaaaaaaa", &short).is_ok());
    }
}
