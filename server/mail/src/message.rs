//! A mail and its form on the wire.

use lettre::Message;
use lettre::message::header::{ContentType, HeaderName, HeaderValue};
use lettre::message::{Mailbox, MultiPart, SinglePart};

use crate::MailError;
use crate::address::mailbox;

/// Recipients of one mail; mail servers take at least 100 (RFC 5321, 4.5.3.1.8).
const RECIPIENTS_MAX: usize = 100;
/// Longest subject, in bytes: one line of a header may have 998.
const SUBJECT_BYTES_MAX: usize = 900;
/// Longest text or HTML, in bytes.
const BODY_BYTES_MAX: usize = 1 << 20;

/// A mail to be sent.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Mail {
    /// Sender; the configured one when there is none.
    pub from: Option<String>,
    /// Recipients: `user@example.com` or `Name <user@example.com>`.
    pub to: Vec<String>,
    /// Recipients of a copy.
    pub cc: Vec<String>,
    /// Recipients that the others do not see.
    pub bcc: Vec<String>,
    /// One line.
    pub subject: String,
    /// For readers without HTML.
    pub text: String,
    /// For readers with HTML.
    pub html: Option<String>,
}

/// Checks the mail and writes it as a message.
pub(crate) fn build(mail: &Mail, default_from: &Mailbox) -> Result<Message, MailError> {
    let invalid = |text: &str| Err(MailError::Invalid(text.to_owned()));
    let recipients = mail.to.len() + mail.cc.len() + mail.bcc.len();
    if recipients == 0 {
        return invalid("a mail needs a recipient");
    }
    if recipients > RECIPIENTS_MAX {
        return invalid("a mail may have at most 100 recipients");
    }
    // A line break would let a subject add headers.
    if mail.subject.len() > SUBJECT_BYTES_MAX || mail.subject.chars().any(char::is_control) {
        return invalid("the subject must be one line of at most 900 bytes");
    }
    let html = mail.html.as_deref().unwrap_or_default();
    if mail.text.len() > BODY_BYTES_MAX || html.len() > BODY_BYTES_MAX {
        return invalid("the text of a mail may have at most 1048576 bytes");
    }
    let from = match &mail.from {
        Some(text) => mailbox(text)?,
        None => default_from.clone(),
    };
    let id = format!("<{}@{}>", uuid::Uuid::new_v4(), from.email.domain());
    let mut builder = Message::builder()
        .from(from)
        .subject(mail.subject.as_str())
        .message_id(Some(id))
        .raw_header(HeaderValue::new(
            // No automatic reply is wanted to what a program sends (RFC 3834).
            HeaderName::new_from_ascii_str("Auto-Submitted"),
            "auto-generated".to_owned(),
        ));
    for address in &mail.to {
        builder = builder.to(mailbox(address)?);
    }
    for address in &mail.cc {
        builder = builder.cc(mailbox(address)?);
    }
    for address in &mail.bcc {
        builder = builder.bcc(mailbox(address)?);
    }
    let built = match &mail.html {
        None => builder
            .header(ContentType::TEXT_PLAIN)
            .body(mail.text.clone()),
        Some(html) if mail.text.is_empty() => builder.singlepart(SinglePart::html(html.clone())),
        Some(html) => builder.multipart(MultiPart::alternative_plain_html(
            mail.text.clone(),
            html.clone(),
        )),
    };
    built.map_err(|error| MailError::Invalid(error.to_string()))
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests fail loudly")]
mod tests {
    use super::*;

    fn mail() -> Mail {
        Mail {
            to: vec!["user@example.com".to_owned()],
            subject: "Réinitialiser".to_owned(),
            text: "line one\nline two\n.\n".to_owned(),
            ..Mail::default()
        }
    }

    fn written(mail: &Mail) -> Result<String, MailError> {
        let from = mailbox("Ambidex <no-reply@example.com>")?;
        build(mail, &from).map(|m| String::from_utf8_lossy(&m.formatted()).into_owned())
    }

    #[test]
    fn a_plain_mail_has_the_usual_headers_and_hides_blind_copies() {
        let mut mail = mail();
        mail.bcc.push("hidden@example.com".to_owned());
        let text = written(&mail).unwrap();
        for part in [
            "From: Ambidex <no-reply@example.com>\r\n",
            "To: user@example.com\r\n",
            "Auto-Submitted: auto-generated\r\n",
            "Message-ID: <",
            "Date: ",
            "line one\r\nline two\r\n",
        ] {
            assert!(text.contains(part), "{part:?} is missing in {text}");
        }
        assert!(!text.contains("hidden"), "{text}");
        assert!(text.contains("Subject: =?utf-8?"), "{text}");
    }

    #[test]
    fn text_and_html_are_alternatives() {
        let mut mail = mail();
        mail.html = Some("<p>hello</p>".to_owned());
        let text = written(&mail).unwrap();
        assert!(text.contains("multipart/alternative"), "{text}");
        mail.text.clear();
        let text = written(&mail).unwrap();
        assert!(
            !text.contains("multipart") && text.contains("text/html"),
            "{text}"
        );
    }

    #[test]
    fn what_would_add_headers_or_is_too_much_is_refused() {
        let mut nobody = mail();
        nobody.to.clear();
        let mut crowd = mail();
        crowd.to = vec!["a@b.example".to_owned(); 101];
        let mut lines = mail();
        lines.subject = "x\r\nBcc: evil@x.example".to_owned();
        let mut sender = mail();
        sender.from = Some("nobody".to_owned());
        let mut long = mail();
        long.text = "x".repeat(BODY_BYTES_MAX + 1);
        for mail in [nobody, crowd, lines, sender, long] {
            assert!(matches!(written(&mail), Err(MailError::Invalid(_))));
        }
    }
}
