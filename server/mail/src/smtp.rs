//! The way to a mail server.

use std::net::IpAddr;
use std::time::Duration;

use lettre::message::Mailbox;
use lettre::transport::smtp::authentication::Credentials;
use lettre::transport::smtp::client::{Certificate, Tls, TlsParameters};
use lettre::{AsyncSmtpTransport, AsyncTransport as _, Tokio1Executor};
use tokio::sync::Semaphore;
use url::{Host, Url};

use crate::address::mailbox;
use crate::{Mail, MailError, message};

/// From connecting to the mail server's last word. Servers that check for spam take tens of seconds.
const SEND_MAX: Duration = Duration::from_secs(60);
/// Connecting alone.
const CONNECT_MAX: Duration = Duration::from_secs(15);
/// Mails under way at once; more wait here. Many mail servers take 10 to 20 connections of a client.
const SENDING_MAX: usize = 8;

/// A configured mail server.
pub(crate) struct Smtp {
    transport: AsyncSmtpTransport<Tokio1Executor>,
    from: Mailbox,
    /// Host and port, for error texts.
    name: String,
    sending: Semaphore,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Encryption {
    /// TLS from the first byte.
    Wrapped,
    Required,
    Opportunistic,
    Never,
}

fn setting(text: impl Into<String>) -> MailError {
    MailError::Setting(text.into())
}

/// What the URL says.
struct Target {
    host: String,
    port: u16,
    credentials: Option<Credentials>,
    encryption: Encryption,
    ca: Option<String>,
    from: Option<String>,
}

impl Target {
    /// No error text repeats the URL: it may hold a password.
    fn parse(text: &str) -> Result<Target, MailError> {
        let url = Url::parse(text).map_err(|error| setting(format!("not a URL: {error}")))?;
        let wrapped = match url.scheme() {
            "smtp" => false,
            "smtps" => true,
            _ => return Err(setting("must start with smtp:// or smtps://")),
        };
        let host = url
            .host_str()
            .filter(|host| !host.is_empty())
            .ok_or_else(|| setting("names no host: write smtp://HOST:PORT"))?
            .trim_matches(['[', ']'])
            .to_owned();
        if !matches!(url.path(), "" | "/") || url.fragment().is_some() {
            return Err(setting("has a path: write smtp://HOST:PORT?OPTIONS"));
        }
        let decode = |part: &str| {
            percent_decode(part)
                .ok_or_else(|| setting("user name and password must be percent-encoded UTF-8"))
        };
        let credentials = match (url.username(), url.password()) {
            ("", None) => None,
            (user, Some(password)) if !user.is_empty() => {
                Some(Credentials::new(decode(user)?, decode(password)?))
            }
            _ => return Err(setting("needs both a user name and a password, or none")),
        };
        let (mut starttls, mut ca, mut from) = (None, None, None);
        for (name, value) in url.query_pairs() {
            match &*name {
                "starttls" => starttls = Some(value.into_owned()),
                "ca" => ca = Some(value.into_owned()),
                "from" => from = Some(value.into_owned()),
                _ => {
                    return Err(setting(format!(
                        "unknown option {name:?}; there are from, starttls and ca"
                    )));
                }
            }
        }
        let encryption = match (wrapped, starttls.as_deref()) {
            (true, None) => Encryption::Wrapped,
            (true, Some(_)) => {
                return Err(setting(
                    "starttls= is for smtp://; smtps:// is always encrypted",
                ));
            }
            (false, Some("required")) => Encryption::Required,
            (false, Some("opportunistic")) => Encryption::Opportunistic,
            (false, Some("never")) => Encryption::Never,
            (false, Some(_)) => {
                return Err(setting(
                    "starttls= must be required, opportunistic or never",
                ));
            }
            (false, None) if this_machine(&host) => Encryption::Never,
            // A password must not cross a network in the clear because nobody thought of it.
            (false, None) if credentials.is_some() => Encryption::Required,
            (false, None) => Encryption::Opportunistic,
        };
        let port = url.port().unwrap_or(match encryption {
            Encryption::Wrapped => 465,
            _ if credentials.is_some() => 587,
            _ => 25,
        });
        Ok(Target {
            host,
            port,
            credentials,
            encryption,
            ca,
            from,
        })
    }
}

fn this_machine(host: &str) -> bool {
    host == "localhost" || host.parse().is_ok_and(|ip: IpAddr| ip.is_loopback())
}

fn percent_decode(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'%' => {
                let digits = [rest.next()?, rest.next()?];
                u8::from_str_radix(std::str::from_utf8(&digits).ok()?, 16).ok()?
            }
            other => other,
        });
    }
    String::from_utf8(bytes).ok()
}

/// The sender when nobody says another: mail servers want a domain they may know.
fn default_from(host: &str) -> Result<Mailbox, MailError> {
    let domain = match Host::parse(host) {
        Ok(Host::Domain(name)) => name,
        _ => "localhost".to_owned(),
    };
    mailbox(&format!("Ambidex <no-reply@{domain}>"))
}

fn tls(target: &Target) -> Result<Tls, MailError> {
    if target.encryption == Encryption::Never {
        return Ok(Tls::None);
    }
    let mut parameters = TlsParameters::builder(target.host.clone());
    if let Some(file) = &target.ca {
        let pem = std::fs::read(file)
            .map_err(|error| setting(format!("cannot read the certificates in {file}: {error}")))?;
        let certificate = Certificate::from_pem(&pem)
            .map_err(|_| setting(format!("{file} holds no certificate in PEM")))?;
        parameters = parameters.add_root_certificate(certificate);
    }
    let parameters = parameters
        .build_rustls()
        .map_err(|error| setting(format!("TLS cannot be used: {}", chain(&error))))?;
    Ok(match target.encryption {
        Encryption::Wrapped => Tls::Wrapper(parameters),
        Encryption::Required => Tls::Required(parameters),
        _ => Tls::Opportunistic(parameters),
    })
}

impl Smtp {
    pub(crate) fn new(url: &str, from: Option<&str>) -> Result<Smtp, MailError> {
        let target = Target::parse(url)?;
        let from = match from.or(target.from.as_deref()) {
            Some(text) => mailbox(text).map_err(|error| setting(format!("from: {error}")))?,
            None => default_from(&target.host)?,
        };
        let mut builder = AsyncSmtpTransport::<Tokio1Executor>::builder_dangerous(&target.host)
            .port(target.port)
            .tls(tls(&target)?)
            .timeout(Some(CONNECT_MAX));
        let name = format!("{}:{}", target.host, target.port);
        if let Some(credentials) = target.credentials {
            builder = builder.credentials(credentials);
        }
        Ok(Smtp {
            transport: builder.build(),
            from,
            name,
            sending: Semaphore::new(SENDING_MAX),
        })
    }

    pub(crate) async fn send(&self, mail: &Mail) -> Result<(), MailError> {
        let message = message::build(mail, &self.from)?;
        // The semaphore is never closed.
        let _place = self.sending.acquire().await;
        match tokio::time::timeout(SEND_MAX, self.transport.send(message)).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(error)) => {
                let text = format!("the mail server {}: {}", self.name, chain(&error));
                Err(if error.is_permanent() || error.is_client() {
                    MailError::Refused(text)
                } else {
                    MailError::Temporary(text)
                })
            }
            Err(_) => Err(MailError::Temporary(format!(
                "the mail server {} did not take the mail within {} seconds",
                self.name,
                SEND_MAX.as_secs()
            ))),
        }
    }
}

fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(inner) = source {
        let inner_text = inner.to_string();
        if inner_text.starts_with(&text) {
            text = inner_text;
        } else if !text.contains(&inner_text) {
            text.push_str(": ");
            text.push_str(&inner_text);
        }
        source = inner.source();
    }
    text
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests fail loudly")]
mod tests {
    use super::*;

    #[test]
    fn urls_say_where_and_how() {
        use Encryption::{Never, Opportunistic, Required, Wrapped};
        for (url, host, port, encryption) in [
            ("smtp://localhost:2525", "localhost", 2525, Never),
            ("smtp://127.0.0.1", "127.0.0.1", 25, Never),
            ("smtp://[::1]:25", "::1", 25, Never),
            (
                "smtp://mail.example.com",
                "mail.example.com",
                25,
                Opportunistic,
            ),
            (
                "smtp://u:p@mail.example.com",
                "mail.example.com",
                587,
                Required,
            ),
            (
                "smtp://u:p@mail.example.com:25?starttls=never",
                "mail.example.com",
                25,
                Never,
            ),
            (
                "smtp://localhost?starttls=required",
                "localhost",
                25,
                Required,
            ),
            (
                "smtps://u:p@mail.example.com/",
                "mail.example.com",
                465,
                Wrapped,
            ),
        ] {
            let target = Target::parse(url).unwrap();
            assert_eq!(
                (target.host.as_str(), target.port, target.encryption),
                (host, port, encryption),
                "{url}"
            );
        }
        let target =
            Target::parse("smtp://a%40b:p%3Aq@h?from=Fleet%20%3Cota@example.com%3E").unwrap();
        assert_eq!(target.from.as_deref(), Some("Fleet <ota@example.com>"));
        let credentials = Credentials::new("a@b".to_owned(), "p:q".to_owned());
        assert_eq!(target.credentials, Some(credentials));
    }

    #[test]
    fn wrong_urls_are_explained_without_the_password() {
        for url in [
            "",
            "mail.example.com",
            "http://u:secret@h",
            "smtp://",
            "smtp://u:secret@",
            "smtp://u:secret@h:99999",
            "smtp://:secret@h",
            "smtp://user@h",
            "smtp://u:secret%ff@h",
            "smtp://u:secret@h/path",
            "smtp://u:secret@h?starttls=maybe",
            "smtps://u:secret@h?starttls=required",
            "smtp://u:secret@h?tls=yes",
            "smtp://u:secret@h?from=nobody",
            "smtp://u:secret@h?ca=/does/not/exist",
        ] {
            let error = Smtp::new(url, None)
                .err()
                .unwrap_or_else(|| panic!("{url}"));
            assert!(matches!(error, MailError::Setting(_)), "{url}: {error:?}");
            assert!(!error.to_string().contains("secret"), "{url}: {error}");
        }
    }
}
