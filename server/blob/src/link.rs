//! Links that carry their own permission (reference: deployments, download of generated artifacts).
//!
//! The signature covers the method, the path and every query parameter, so nothing of a link can be
//! changed without breaking it.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, Mac as _};
use jiff::Timestamp;
use sha2_signatures::Sha256;

use crate::LinkError;
use crate::key::Key;

/// Below this path the deployments service serves links: `<path>/<key>`.
pub const DOWNLOAD_PATH: &str = "/api/devices/v1/deployments/download";

const EXPIRE: &str = "x-men-expire";
const SIGNATURE: &str = "x-men-signature";
const FILENAME: &str = "filename";
/// Longer queries are refused before any work, in bytes.
const QUERY_BYTES_MAX: usize = 4096;

pub(crate) struct Signer([u8; 32]);

impl Signer {
    pub(crate) fn new(secret: [u8; 32]) -> Signer {
        Signer(secret)
    }

    pub(crate) fn sign(
        &self,
        method: &str,
        key: &Key,
        filename: &str,
        expires_at_ms: i64,
    ) -> String {
        // Whole seconds, rounded up: a link never lives shorter than asked for.
        let expires_s = expires_at_ms.div_euclid(1000) + i64::from(expires_at_ms % 1000 != 0);
        let expires = Timestamp::from_second(expires_s)
            .unwrap_or(Timestamp::MAX)
            .to_string();
        let path = format!("{DOWNLOAD_PATH}/{}", key.as_str());
        let query = format!(
            "{FILENAME}={}&{EXPIRE}={}",
            escape(filename),
            escape(&expires)
        );
        let signature =
            URL_SAFE_NO_PAD.encode(self.mac(method, &path, &query).finalize().into_bytes());
        format!("{path}?{query}&{SIGNATURE}={signature}")
    }

    pub(crate) fn verify(
        &self,
        method: &str,
        path: &str,
        query: &str,
        now_ms: i64,
    ) -> Result<String, LinkError> {
        if query.len() > QUERY_BYTES_MAX {
            return Err(LinkError::Malformed("the query is too long"));
        }
        let mut signed = Vec::new();
        let mut signature = None;
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            match pair.split_once('=') {
                Some((SIGNATURE, value)) if signature.is_none() => signature = Some(value),
                _ => signed.push(pair),
            }
        }
        let signature = signature.ok_or(LinkError::Malformed("x-men-signature is missing"))?;
        let signature = URL_SAFE_NO_PAD
            .decode(signature)
            .map_err(|_| LinkError::Signature)?;
        signed.sort_unstable();
        let value = |name: &str| {
            signed
                .iter()
                .filter_map(|pair| pair.split_once('='))
                .find(|(key, _)| *key == name)
                .map(|(_, value)| value)
        };
        let expires = value(EXPIRE)
            .and_then(unescape)
            .ok_or(LinkError::Malformed("x-men-expire is missing"))?
            .parse::<Timestamp>()
            .map_err(|_| LinkError::Malformed("x-men-expire is not an RFC 3339 time"))?;
        let filename = value(FILENAME).and_then(unescape).unwrap_or_default();
        let method = if method == "HEAD" { "GET" } else { method };
        // `verify_slice` compares in constant time.
        self.mac(method, path, &signed.join("&"))
            .verify_slice(&signature)
            .map_err(|_| LinkError::Signature)?;
        if now_ms >= expires.as_millisecond() {
            return Err(LinkError::Expired);
        }
        Ok(filename)
    }

    /// `query` without the signature, its pairs sorted, escaped as they travel.
    fn mac(&self, method: &str, path: &str, query: &str) -> Hmac<Sha256> {
        let mut mac = <Hmac<Sha256> as hmac::Mac>::new_from_slice(&self.0)
            .expect("invariant: HMAC takes keys of any length");
        for part in [method, "\n", path, "\n", query] {
            mac.update(part.as_bytes());
        }
        mac
    }
}

fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b'~') {
            escaped.push(char::from(byte));
        } else {
            escaped.push_str(&format!("%{byte:02X}"));
        }
    }
    escaped
}

fn unescape(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, tail)) = rest.split_first() {
        rest = tail;
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let digits = std::str::from_utf8(rest.get(..2)?).ok()?;
        bytes.push(u8::from_str_radix(digits, 16).ok()?);
        rest = &rest[2..];
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests fail loudly")]
mod tests {
    use super::*;

    const NOW: i64 = 1_612_173_600_000;

    fn signed() -> (Signer, String, String) {
        let signer = Signer::new([7; 32]);
        let key = Key::parse("t1/object").unwrap();
        let link = signer.sign("GET", &key, "my file ä.mender", NOW + 900_000);
        let (path, query) = link.split_once('?').unwrap();
        (signer, path.to_owned(), query.to_owned())
    }

    #[test]
    fn a_link_opens_its_object_until_it_expires() {
        let (signer, path, query) = signed();
        assert_eq!(path, "/api/devices/v1/deployments/download/t1/object");
        assert!(
            query.contains("x-men-expire=2021-02-01T10%3A15%3A00Z"),
            "{query}"
        );
        for method in ["GET", "HEAD"] {
            let name = signer.verify(method, &path, &query, NOW + 899_999);
            assert_eq!(name.as_deref(), Ok("my file ä.mender"), "{method}");
        }
        let mut pairs: Vec<_> = query.split('&').collect();
        pairs.reverse();
        assert!(
            signer.verify("GET", &path, &pairs.join("&"), NOW).is_ok(),
            "order is free"
        );
        assert_eq!(
            signer.verify("GET", &path, &query, NOW + 900_000),
            Err(LinkError::Expired)
        );
    }

    #[test]
    fn a_changed_link_opens_nothing() {
        let (signer, path, query) = signed();
        let later = query.replace("2021", "2031");
        let renamed = query.replace("file", "fil3");
        let extra = format!("{query}&filename=evil");
        let cut = &query[..query.len() - 4];
        for (what, method, path, query) in [
            ("method", "PUT", path.as_str(), query.as_str()),
            (
                "key",
                "GET",
                "/api/devices/v1/deployments/download/t1/other",
                &query,
            ),
            ("expiry", "GET", &path, &later),
            ("name", "GET", &path, &renamed),
            ("extra", "GET", &path, &extra),
            ("cut", "GET", &path, cut),
        ] {
            let verdict = signer.verify(method, path, query, NOW);
            assert_eq!(verdict, Err(LinkError::Signature), "{what}");
        }
        let other = Signer::new([8; 32]);
        assert_eq!(
            other.verify("GET", &path, &query, NOW),
            Err(LinkError::Signature)
        );
        for bad in [
            "",
            "x-men-signature=abc",
            "x-men-expire=2021-02-01T10%3A15%3A00Z",
            "x-men-expire=never&x-men-signature=abc",
        ] {
            assert!(
                matches!(
                    signer.verify("GET", &path, bad, NOW),
                    Err(LinkError::Malformed(_) | LinkError::Signature)
                ),
                "{bad}"
            );
        }
    }
}
