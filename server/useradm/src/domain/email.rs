use crate::UseradmError;

/// Longest address that mail systems accept, in bytes (reference: user administration 4.1).
const EMAIL_BYTES_MAX: usize = 256;

/// An address that may be a login name: ASCII, `local@domain`, lower case.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Email(String);

impl Email {
    pub(crate) fn parse(text: &str) -> Result<Email, UseradmError> {
        let invalid = |reason: &str| Err(UseradmError::Invalid(format!("email: {reason}.")));
        if text.is_empty() {
            return invalid("cannot be blank");
        }
        if !text.is_ascii() {
            return invalid("must contain ASCII characters only");
        }
        if text.len() > EMAIL_BYTES_MAX {
            return invalid("the length must be no more than 256");
        }
        let local = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+/=?^_`{|}~.-".contains(&b);
        let label = |label: &str| {
            !label.is_empty()
                && !label.starts_with('-')
                && !label.ends_with('-')
                && label
                    .bytes()
                    .all(|b| b.is_ascii_alphanumeric() || b == b'-')
        };
        let fine = text.split_once('@').is_some_and(|(name, domain)| {
            !name.is_empty()
                && name.len() <= 64
                && name.split('.').all(|part| !part.is_empty())
                && name.bytes().all(local)
                && domain.split('.').all(label)
        });
        if !fine {
            return invalid("must be a valid email address");
        }
        Ok(Email(text.to_ascii_lowercase()))
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_checked_and_folded() {
        for (text, wanted) in [
            ("User+tag@Example.COM", Some("user+tag@example.com")),
            ("a@localhost", Some("a@localhost")),
            ("first.last@a-b.example", Some("first.last@a-b.example")),
            ("", None),
            ("a", None),
            ("a@", None),
            ("@b", None),
            ("a@b@c", None),
            ("a b@c.d", None),
            ("a@b..c", None),
            (".a@b.c", None),
            ("a@-b.c", None),
            ("ä@b.c", None),
            ("a@b.c\n", None),
        ] {
            let parsed = Email::parse(text).ok();
            assert_eq!(parsed.as_ref().map(Email::as_str), wanted, "{text:?}");
        }
        let longest = format!("a@{}", vec!["b"; 127].join("."));
        assert_eq!(longest.len(), 255);
        assert!(Email::parse(&longest).is_ok());
        assert!(Email::parse(&format!("{longest}.b")).is_err());
    }
}
