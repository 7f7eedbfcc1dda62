//! Links to artifacts that are made when they are fetched: configurations.
//!
//! A link authorises by itself. Its signature covers method, path and every query parameter. The key is
//! in the database, so that every process of one database accepts the links of every other.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, Mac as _};
use jiff::Timestamp;
use sha2_signatures::Sha256;

use crate::Context;
use crate::error::Error;
use crate::store;

const EXPIRE: &str = "x-men-expire";
const SIGNATURE: &str = "x-men-signature";
const TENANT: &str = "tenant_id";
/// Longer queries are refused before any work, in bytes.
const QUERY_BYTES_MAX: usize = 4096;
/// Names the key in the database.
const SECRET: &str = "configuration-links";

/// Why a link opens nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LinkError {
    /// 400
    #[error("invalid request parameters: {0}")]
    Malformed(&'static str),
    /// 403
    #[error("URL expired")]
    Expired,
    /// 403
    #[error("signature invalid")]
    Signature,
}

/// Signs and verifies links.
#[derive(Clone)]
pub struct Signer(Vec<u8>);

impl Signer {
    /// The signer of this database; its key is made when there is none yet.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn of(context: &Context) -> Result<Self, Error> {
        for _ in 0..2 {
            if let Some(secret) = store::secret::find(&context.db, SECRET).await? {
                return Ok(Self(secret.into_bytes()));
            }
            // Two random ids are 244 random bits.
            let fresh = format!(
                "{}{}",
                ambidex_kit::new_id().simple(),
                ambidex_kit::new_id().simple()
            );
            context
                .db
                .apply(vec![store::secret::insert(SECRET, &fresh)])
                .await?;
        }
        Err(Error::Internal("the key of links was not kept".into()))
    }

    /// Path and query of a link that works until `expires_ms`.
    pub fn sign(&self, path: &str, tenant: &str, expires_ms: i64) -> String {
        // Whole seconds, rounded up: a link never lives shorter than asked for.
        let expires_s = expires_ms.div_euclid(1000) + i64::from(expires_ms % 1000 != 0);
        let expires = Timestamp::from_second(expires_s)
            .unwrap_or(Timestamp::MAX)
            .to_string();
        let mut query = String::new();
        if !tenant.is_empty() {
            query = format!("{TENANT}={}&", escape(tenant));
        }
        query.push_str(&format!("{EXPIRE}={}", escape(&expires)));
        let signature = URL_SAFE_NO_PAD.encode(self.mac(path, &query).finalize().into_bytes());
        format!("{path}?{query}&{SIGNATURE}={signature}")
    }

    /// Checks a link, path and query as the request carried them; returns the tenant.
    ///
    /// # Errors
    /// Why it opens nothing.
    pub fn verify(&self, path: &str, query: &str, now_ms: i64) -> Result<String, LinkError> {
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
        let signature = signature.ok_or(LinkError::Malformed("x-men-signature is missing"))?;
        let signature = URL_SAFE_NO_PAD
            .decode(signature)
            .map_err(|_| LinkError::Signature)?;
        // `verify_slice` compares in constant time.
        self.mac(path, &signed.join("&"))
            .verify_slice(&signature)
            .map_err(|_| LinkError::Signature)?;
        if now_ms >= expires.as_millisecond() {
            return Err(LinkError::Expired);
        }
        Ok(value(TENANT).and_then(unescape).unwrap_or_default())
    }

    /// `query` without the signature, its pairs sorted, escaped as they travel.
    fn mac(&self, path: &str, query: &str) -> Hmac<Sha256> {
        let mut mac = <Hmac<Sha256> as hmac::Mac>::new_from_slice(&self.0)
            .expect("invariant: HMAC takes keys of any length");
        for part in ["GET\n", path, "\n", query] {
            mac.update(part.as_bytes());
        }
        mac
    }
}

/// A text as one segment of a path or one value of a query.
pub fn escape(text: &str) -> String {
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

    #[test]
    fn a_link_opens_until_it_expires_and_only_unchanged() {
        let signer = Signer(vec![7; 32]);
        let path = format!("/x/{}", escape("rasp 4/ü"));
        let link = signer.sign(&path, "t 1", NOW + 900_000);
        let (signed_path, query) = link.split_once('?').unwrap();
        assert_eq!(signed_path, "/x/rasp%204%2F%C3%BC");
        assert_eq!(
            signer.verify(&path, query, NOW + 899_999).as_deref(),
            Ok("t 1")
        );
        assert_eq!(
            signer.verify(&path, query, NOW + 900_000),
            Err(LinkError::Expired)
        );
        for (path, query) in [
            ("/x/other", query.to_owned()),
            (&path, query.replace("t%201", "t%202")),
            (&path, query.replace("2021", "2031")),
            (&path, format!("{query}&more=1")),
            (&path, query[..query.len() - 2].to_owned()),
        ] {
            assert_eq!(
                signer.verify(path, &query, NOW),
                Err(LinkError::Signature),
                "{query}"
            );
        }
        for query in [
            "",
            "x-men-signature=a",
            "x-men-expire=now&x-men-signature=a",
        ] {
            assert!(matches!(
                signer.verify(&path, query, NOW),
                Err(LinkError::Malformed(_))
            ));
        }
        let link = signer.sign("/x", "", NOW + 1);
        let query = link.split_once('?').unwrap().1;
        assert_eq!(signer.verify("/x", query, NOW).as_deref(), Ok(""));
    }
}
