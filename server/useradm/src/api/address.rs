//! Where a request comes from, to slow down guessing.

use std::convert::Infallible;
use std::net::IpAddr;

use ambidex_kit::Peer;
use axum::extract::FromRequestParts;
use http::request::Parts;

/// The address of the caller; empty if unknown. A proxy on this machine is believed in what it says about its
/// client, nobody else is: the header is as easily made up as any.
pub(crate) struct ClientAddress(pub(crate) String);

impl<S: Sync> FromRequestParts<S> for ClientAddress {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<ClientAddress, Infallible> {
        let peer = parts.extensions.get::<Peer>().map(|peer| peer.address.ip());
        let address = match peer {
            Some(peer) if !peer.is_loopback() => Some(peer),
            // The last entry is what the proxy itself has seen.
            peer => parts
                .headers
                .get_all("x-forwarded-for")
                .iter()
                .next_back()
                .and_then(|value| value.to_str().ok()?.rsplit(',').next()?.trim().parse().ok())
                .or(peer),
        };
        Ok(ClientAddress(address.map(network).unwrap_or_default()))
    }
}

/// Whoever has one address of version 6 has the network of 64 bits.
fn network(address: IpAddr) -> String {
    match address {
        IpAddr::V4(address) => address.to_string(),
        IpAddr::V6(address) => {
            let mut segments = address.segments();
            segments[4..].fill(0);
            IpAddr::from(segments).to_string()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn seen(peer: &str, forwarded: &[&str]) -> String {
        let mut request = http::Request::new(());
        if let Ok(address) = peer.parse() {
            request.extensions_mut().insert(Peer {
                address,
                tls: false,
            });
        }
        for value in forwarded {
            if let Ok(value) = value.parse() {
                request.headers_mut().append("x-forwarded-for", value);
            }
        }
        let (mut parts, ()) = request.into_parts();
        let Ok(ClientAddress(address)) = ClientAddress::from_request_parts(&mut parts, &()).await;
        address
    }

    #[tokio::test]
    async fn only_a_local_proxy_is_believed() {
        for (peer, forwarded, wanted) in [
            ("192.0.2.1:5", &[][..], "192.0.2.1"),
            ("192.0.2.1:5", &["198.51.100.7"], "192.0.2.1"),
            ("127.0.0.1:5", &["198.51.100.7"], "198.51.100.7"),
            ("127.0.0.1:5", &["1.1.1.1, 198.51.100.7"], "198.51.100.7"),
            ("127.0.0.1:5", &["1.1.1.1", "198.51.100.7"], "198.51.100.7"),
            ("127.0.0.1:5", &["nonsense"], "127.0.0.1"),
            ("[2001:db8::1:2:3:4]:5", &[], "2001:db8::"),
            ("", &[], ""),
        ] {
            assert_eq!(seen(peer, forwarded).await, wanted, "{peer} {forwarded:?}");
        }
    }
}
