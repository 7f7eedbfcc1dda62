//! Addresses to listen on and URLs to be reached at.

use std::net::{SocketAddr, ToSocketAddrs as _};

use anyhow::{Context as _, bail};
use tokio::net::TcpListener;

/// `ADDR:PORT`, where the address may be a name.
pub(crate) fn resolve(flag: &str, text: &str) -> anyhow::Result<SocketAddr> {
    text.to_socket_addrs()
        .ok()
        .and_then(|mut found| found.next())
        .with_context(|| format!("{flag} {text}: not an address; write ADDRESS:PORT, for instance 127.0.0.1:8080 or [::]:443"))
}

/// A base URL without a trailing slash.
pub(crate) fn public_url(text: &str) -> anyhow::Result<String> {
    let rest = text
        .strip_prefix("https://")
        .or_else(|| text.strip_prefix("http://"));
    let fine = rest.is_some_and(|rest| {
        let host = rest.split('/').next().unwrap_or_default();
        !host.is_empty()
            && !host.contains('@')
            && text.bytes().all(|b| b.is_ascii_graphic())
            && !text.contains(['?', '#'])
    });
    if !fine {
        bail!("--public-url: must be a base URL such as https://ota.example.com");
    }
    Ok(text.trim_end_matches('/').to_owned())
}

/// Binds with an error that names the flag and the remedy.
pub(crate) async fn bind(flag: &str, address: SocketAddr) -> anyhow::Result<TcpListener> {
    use std::io::ErrorKind;
    TcpListener::bind(address).await.map_err(|error| {
        let remedy = match error.kind() {
            ErrorKind::AddrInUse => "; another program listens there: stop it or choose another port",
            ErrorKind::PermissionDenied => {
                "; ports below 1024 need the capability CAP_NET_BIND_SERVICE: choose another port or grant it"
            }
            ErrorKind::AddrNotAvailable => "; this machine does not have the address",
            _ => "",
        };
        anyhow::anyhow!("cannot listen on {address} ({flag}): {error}{remedy}")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn public_urls_are_base_urls() {
        for (text, wanted) in [
            ("https://ota.example.com", Some("https://ota.example.com")),
            ("http://10.0.0.1:8080/", Some("http://10.0.0.1:8080")),
            ("https://example.com/ota/", Some("https://example.com/ota")),
            ("ota.example.com", None),
            ("ftp://x", None),
            ("https://", None),
            ("https://user@host", None),
            ("https://host?x=1", None),
        ] {
            assert_eq!(public_url(text).ok().as_deref(), wanted, "{text}");
        }
    }
}
