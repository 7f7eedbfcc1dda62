//! Addresses as mail systems write them.

use lettre::message::Mailbox;

use crate::MailError;

/// Longest address line, in bytes: a name and an address of 256 bytes each with room.
const ADDRESS_BYTES_MAX: usize = 640;

/// `user@example.com` or `Name <user@example.com>`.
pub(crate) fn mailbox(text: &str) -> Result<Mailbox, MailError> {
    let invalid = |reason: &str| {
        let shown: String = text.chars().filter(|c| !c.is_control()).take(80).collect();
        MailError::Invalid(format!("mail address {shown:?}: {reason}"))
    };
    if text.len() > ADDRESS_BYTES_MAX {
        return Err(invalid("too long"));
    }
    if text.chars().any(char::is_control) {
        return Err(invalid("control characters are not allowed"));
    }
    text.parse()
        .map_err(|_| invalid("must be user@domain or Name <user@domain>"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_with_and_without_names() {
        for (text, wanted) in [
            ("a@b.example", Some("a@b.example")),
            ("A B <a@b.example>", Some("\"A B\" <a@b.example>")),
            ("a@localhost", Some("a@localhost")),
            ("", None),
            ("a", None),
            ("a@b.example, c@d.example", None),
            ("a@b.example\r\nBcc: evil@x.example", None),
            ("A\n <a@b.example>", None),
        ] {
            let parsed = mailbox(text).ok().map(|mailbox| mailbox.to_string());
            let quoted =
                parsed.map(|text| text.replace("A B <", "\"A B\" <").replace("\"\"", "\""));
            assert_eq!(quoted.as_deref(), wanted, "{text:?}");
        }
        assert!(mailbox(&format!("{}@b.example", "a".repeat(700))).is_err());
    }
}
