//! From a failed exchange to a text that helps: who was asked, what happened, what to do.

use std::{error::Error, time::Duration};

use ambidex_wire::ErrorBody;
use jiff::{SignedDuration, Timestamp, fmt::rfc2822};
use reqwest::{StatusCode, header::HeaderMap};
use rustls::CertificateError;
use rustls_pki_types::UnixTime;

use super::{LinkError, LinkErrorKind};

/// The longest wait that a server may ask for; a wrong clock on either side must not silence a device.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(24 * 3600);
const TEXT_CHARS_MAX: usize = 300;

/// An exchange that got no answer.
pub(super) fn no_answer(doing: &str, peer: &str, error: &reqwest::Error) -> LinkError {
    LinkError::transient(format!("cannot {doing} at {peer}: {}", cause(error)))
}

/// What went wrong below HTTP, with the remedy where it is known.
///
/// The URL is left out: a download link is a credential.
pub(super) fn cause(error: &reqwest::Error) -> String {
    let mut texts: Vec<String> = Vec::new();
    let mut refused = false;
    let mut timed_out = error.is_timeout();
    let mut names = false;
    let mut next = error.source();
    while let Some(current) = next {
        if let Some(tls) = current.downcast_ref::<rustls::Error>() {
            return tls_text(tls);
        }
        next = current.source();
        if let Some(io) = current.downcast_ref::<std::io::Error>() {
            refused |= io.kind() == std::io::ErrorKind::ConnectionRefused;
            timed_out |= io.kind() == std::io::ErrorKind::TimedOut;
            // an io error hides what it carries from `source()`
            if let Some(inner) = io.get_ref() {
                if let Some(tls) = inner.downcast_ref::<rustls::Error>() {
                    return tls_text(tls);
                }
                let inner: &(dyn Error + 'static) = inner;
                next = Some(inner);
                continue;
            }
        }
        let text = current.to_string();
        names |= text.contains("dns error");
        if texts.last() != Some(&text) {
            texts.push(text);
        }
    }
    let chain = match texts.as_slice() {
        [] => error
            .to_string()
            .split(" for url")
            .next()
            .unwrap_or_default()
            .to_owned(),
        texts => texts.join(": "),
    };
    let hint = if names {
        "; the name cannot be resolved: check it in the configuration, and the device's DNS"
    } else if refused {
        "; nothing listens there: check address and port, and that the server runs"
    } else if timed_out {
        "; no answer in time: check the network and any firewall"
    } else {
        ""
    };
    format!("{}{hint}", shortened(&chain))
}

fn tls_text(error: &rustls::Error) -> String {
    let rustls::Error::InvalidCertificate(reason) = error else {
        return match error {
            rustls::Error::AlertReceived(alert) => format!(
                "the server refused the TLS connection ({alert:?}); if it wants a client certificate, set https_client"
            ),
            rustls::Error::InvalidMessage(_) => {
                format!(
                    "the server does not speak TLS there ({error}); is the URL to begin with http://?"
                )
            }
            other => format!("TLS failed: {other}"),
        };
    };
    match reason {
        CertificateError::ExpiredContext { time, not_after } => format!(
            "the server's certificate expired at {}, and this device's clock says {}: \
             renew the certificate, or set the clock",
            stamp(*not_after),
            stamp(*time)
        ),
        CertificateError::NotValidYetContext { time, not_before } => format!(
            "the server's certificate is valid from {}, but this device's clock says {}{}: \
             the clock is wrong, set it (NTP)",
            stamp(*not_before),
            stamp(crate::clock::for_certificates(false).min(*time)),
            if crate::clock::is_certainly_wrong() {
                ", before this program was built"
            } else {
                ""
            }
        ),
        CertificateError::UnknownIssuer => {
            "the server's certificate is signed by nobody this device trusts: \
             set server_certificate to the PEM file of its authority"
                .to_owned()
        }
        CertificateError::NotValidForNameContext {
            expected,
            presented,
        } => format!(
            "the server's certificate is not for {}, only for {}: check the URL",
            expected.to_str(),
            shortened(&presented.join(", "))
        ),
        other => format!("the server's certificate is refused: {other}"),
    }
}

fn stamp(time: UnixTime) -> String {
    i64::try_from(time.as_secs())
        .ok()
        .and_then(|seconds| Timestamp::from_second(seconds).ok())
        .map_or_else(
            || "an impossible time".to_owned(),
            |stamp| stamp.to_string(),
        )
}

/// An answer that is an error, judged by its status.
pub(super) fn bad_status(
    doing: &str,
    peer: &str,
    status: StatusCode,
    headers: &HeaderMap,
    body: &[u8],
) -> LinkError {
    let retry_after = retry_after(headers, Timestamp::now());
    let kind = match status.as_u16() {
        401 => LinkErrorKind::Unauthorized,
        404 | 410 => LinkErrorKind::Gone,
        409 => LinkErrorKind::Aborted,
        408 | 425 | 429 | 500..=599 => LinkErrorKind::Transient { retry_after },
        _ => LinkErrorKind::Permanent,
    };
    let message = serde_json::from_slice::<ErrorBody>(body)
        .map(|body| body.error)
        .unwrap_or_else(|_| {
            String::from_utf8_lossy(&body[..body.len().min(TEXT_CHARS_MAX)]).into_owned()
        });
    let message = shortened(message.trim());
    let said = if message.is_empty() {
        String::new()
    } else {
        format!(": {message}")
    };
    LinkError::new(
        kind,
        format!("cannot {doing}: {peer} answered {status}{said}"),
    )
}

/// `Retry-After`: seconds or a date.
fn retry_after(headers: &HeaderMap, now: Timestamp) -> Option<Duration> {
    let text = headers
        .get(reqwest::header::RETRY_AFTER)?
        .to_str()
        .ok()?
        .trim();
    let wait = match text.parse::<u64>() {
        Ok(seconds) => Duration::from_secs(seconds),
        Err(_) => {
            let date = rfc2822::DateTimeParser::new().parse_timestamp(text).ok()?;
            let left: SignedDuration = date.duration_since(now);
            Duration::try_from(left).unwrap_or(Duration::ZERO)
        }
    };
    Some(wait.min(RETRY_AFTER_MAX))
}

/// One line, not too long, without control characters.
fn shortened(text: &str) -> String {
    text.chars()
        .take(TEXT_CHARS_MAX)
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect()
}

#[cfg(test)]
mod tests {
    use reqwest::header::{HeaderValue, RETRY_AFTER};

    use super::*;

    #[test]
    fn retry_after_is_seconds_or_a_date() {
        let now: Timestamp = "2026-03-01T10:00:00Z".parse().unwrap();
        let wait = |text: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(RETRY_AFTER, HeaderValue::from_str(text).unwrap());
            retry_after(&headers, now).map(|d| d.as_secs())
        };
        assert_eq!(wait("7"), Some(7));
        assert_eq!(wait("Sun, 01 Mar 2026 10:02:00 GMT"), Some(120));
        assert_eq!(wait("Sun, 01 Mar 2026 09:00:00 GMT"), Some(0));
        assert_eq!(wait("99999999999"), Some(24 * 3600));
        assert_eq!(wait("soon"), None);
        assert_eq!(wait("-5"), None);
    }

    #[test]
    fn the_status_decides_what_the_caller_can_do() {
        let kind = |status: u16| {
            bad_status(
                "poll",
                "s",
                StatusCode::from_u16(status).unwrap(),
                &HeaderMap::new(),
                b"",
            )
            .kind()
        };
        assert_eq!(kind(401), LinkErrorKind::Unauthorized);
        assert_eq!(kind(409), LinkErrorKind::Aborted);
        assert_eq!(kind(404), LinkErrorKind::Gone);
        assert_eq!(kind(400), LinkErrorKind::Permanent);
        assert_eq!(kind(503), LinkErrorKind::Transient { retry_after: None });
    }

    #[test]
    fn the_servers_words_are_kept_short_and_clean() {
        let body = format!(
            r#"{{"error":"no{}","request_id":"1"}}"#,
            "\\n".repeat(5) + &"x".repeat(900)
        );
        let text = bad_status(
            "poll",
            "s",
            StatusCode::BAD_REQUEST,
            &HeaderMap::new(),
            body.as_bytes(),
        )
        .to_string();
        assert!(
            text.starts_with("cannot poll: s answered 400 Bad Request: no"),
            "{text}"
        );
        assert!(text.len() < 400 && !text.contains('\n'));
    }
}
