//! A limit on calls by address, for routes that anybody may call without a token.
//!
//! Passwords can be guessed and mails be caused there. It is off unless asked for: many devices may share
//! one address, and behind a proxy all do, unless the proxy is named as trusted.

use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;

use axum::Router;
use axum::extract::{Request, State};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse as _, Response};
use http::{HeaderMap, Method};

use crate::{ApiError, Clock, Peer, Windows};

const WINDOW_S: u64 = 60;

/// How many calls a minute an address may make, and to what. Cheap to clone; clones share the counts.
#[derive(Clone)]
pub struct AddressLimit(Arc<Inner>);

struct Inner {
    calls_per_minute: u64,
    trusted: Vec<Network>,
    applies: fn(&Method, &str) -> bool,
    clock: Clock,
    windows: Windows,
}

/// A range of addresses: `10.0.0.0/8`, `fd00::/8` or one address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Network {
    bits: u128,
    mask: u128,
}

impl Network {
    /// `None` when the text is neither an address nor a range.
    pub fn parse(text: &str) -> Option<Network> {
        let (address, length) = match text.split_once('/') {
            Some((address, length)) => (address, Some(length.parse::<u32>().ok()?)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().ok()?;
        // Addresses of version 4 are the last 32 bits of a range of version 6.
        let (size, before) = if address.is_ipv4() {
            (32, 96)
        } else {
            (128, 0)
        };
        let length = length.unwrap_or(size);
        if length > size {
            return None;
        }
        let mask = u128::MAX
            .checked_shl(128 - before - length)
            .unwrap_or_default();
        Some(Network {
            bits: bits(address) & mask,
            mask,
        })
    }

    /// Whether the address is in the range.
    pub fn contains(&self, address: IpAddr) -> bool {
        bits(address) & self.mask == self.bits
    }
}

fn bits(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(v4) => v4.to_ipv6_mapped().to_bits(),
        IpAddr::V6(v6) => v6.to_bits(),
    }
}

impl AddressLimit {
    /// Counts calls for which `applies` says so. `trusted` are proxies whose `X-Forwarded-For` is
    /// believed.
    pub fn new(
        calls_per_minute: u64,
        trusted: Vec<Network>,
        applies: fn(&Method, &str) -> bool,
        clock: Clock,
    ) -> AddressLimit {
        AddressLimit(Arc::new(Inner {
            calls_per_minute,
            trusted,
            applies,
            clock,
            windows: Windows::new(),
        }))
    }

    /// Puts the limit before `routes`.
    pub fn around(self, routes: Router) -> Router {
        routes.layer(from_fn_with_state(self, pass))
    }

    /// The last address of the chain that is no trusted proxy.
    fn client(&self, peer: IpAddr, headers: &HeaderMap) -> IpAddr {
        let trusted = |address: IpAddr| self.0.trusted.iter().any(|net| net.contains(address));
        let mut client = peer;
        let chain: Vec<&str> = headers
            .get_all("x-forwarded-for")
            .iter()
            .filter_map(|value| value.to_str().ok())
            .flat_map(|list| list.split(','))
            .collect();
        for text in chain.iter().rev() {
            if !trusted(client) {
                break;
            }
            match text.trim().parse() {
                Ok(address) => client = address,
                // What follows was not written by a proxy that can be believed.
                Err(_) => break,
            }
        }
        client
    }
}

/// One caller: an address of version 4, or what one customer of a network has of version 6.
fn caller(address: IpAddr) -> u128 {
    let bits = bits(address);
    match Ipv6Addr::from_bits(bits).to_ipv4_mapped() {
        Some(_) => bits,
        None => bits >> 64 << 64,
    }
}

async fn pass(State(limit): State<AddressLimit>, request: Request, next: Next) -> Response {
    if (limit.0.applies)(request.method(), request.uri().path())
        && let Some(peer) = request.extensions().get::<Peer>()
    {
        let client = limit.client(peer.address.ip(), request.headers());
        let counted = limit.0.windows.count(
            &caller(client),
            limit.0.calls_per_minute,
            WINDOW_S,
            limit.0.clock.now_ms(),
        );
        if let Err(exceeded) = counted {
            return ApiError::slow_down(exceeded.retry_after_s).into_response();
        }
    }
    next.run(request).await
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests fail loudly")]
mod tests {
    use super::*;
    use axum::body::Body;
    use axum::routing::get;
    use tower::ServiceExt as _;

    fn login(_: &Method, path: &str) -> bool {
        path == "/login"
    }

    #[test]
    fn networks_contain_their_addresses() {
        for (net, address, inside) in [
            ("10.0.0.0/8", "10.255.0.1", true),
            ("10.0.0.0/8", "11.0.0.1", false),
            ("10.1.2.3", "10.1.2.3", true),
            ("10.1.2.3", "10.1.2.4", false),
            ("0.0.0.0/0", "1.2.3.4", true),
            ("0.0.0.0/0", "2001:db8::1", false),
            ("::/0", "1.2.3.4", true),
            ("10.0.0.0/8", "::ffff:10.0.0.1", true),
            ("2001:db8::/32", "2001:db8:1::1", true),
            ("2001:db8::/32", "2001:db9::1", false),
        ] {
            let network = Network::parse(net).unwrap();
            assert_eq!(
                network.contains(address.parse().unwrap()),
                inside,
                "{net} {address}"
            );
        }
        for bad in ["", "10.0.0.0/33", "::/129", "x", "10.0.0.0/", "10.0.0.0/-1"] {
            assert_eq!(Network::parse(bad), None, "{bad}");
        }
    }

    #[tokio::test]
    async fn each_address_has_its_own_count() {
        let clock = Clock::manual(1_612_173_600_000);
        let proxies = vec![Network::parse("10.0.0.0/8").unwrap()];
        let limit = AddressLimit::new(2, proxies, login, clock.clone());
        let routes = Router::new()
            .route("/login", get(|| async {}))
            .route("/other", get(|| async {}));
        let routes = limit.around(routes);
        let call = async |path: &str, peer: &str, forwarded: &str| {
            let mut request = Request::get(path).body(Body::empty()).unwrap();
            let address = format!("{peer}:1").parse().unwrap();
            request.extensions_mut().insert(Peer {
                address,
                tls: false,
            });
            if !forwarded.is_empty() {
                let value = forwarded.parse().unwrap();
                request.headers_mut().insert("x-forwarded-for", value);
            }
            let response = routes.clone().oneshot(request).await.unwrap();
            let wait = response.headers().get("retry-after");
            (
                response.status().as_u16(),
                wait.map(|w| w.to_str().unwrap().to_owned()),
            )
        };
        let ok = (200, None);
        let wait = (429, Some("60".to_owned()));
        assert_eq!(call("/login", "1.1.1.1", "").await, ok);
        assert_eq!(call("/login", "1.1.1.1", "9.9.9.9").await, ok);
        assert_eq!(
            call("/login", "1.1.1.1", "8.8.8.8").await,
            wait,
            "not trusted"
        );
        assert_eq!(call("/other", "1.1.1.1", "").await, ok);
        for client in ["2.2.2.2", "3.3.3.3"] {
            let chain = format!("1.1.1.1, {client}, 10.0.0.2");
            assert_eq!(call("/login", "10.0.0.1", &chain).await, ok, "{client}");
            assert_eq!(call("/login", "10.0.0.1", &chain).await, ok, "{client}");
            assert_eq!(call("/login", "10.0.0.1", &chain).await, wait, "{client}");
        }
        for last in 1..4 {
            let peer = format!("[2001:db8::{last}]");
            let wanted = if last < 3 { &ok } else { &wait };
            assert_eq!(&call("/login", &peer, "").await, wanted, "one network");
        }
        clock.advance(60_000);
        assert_eq!(call("/login", "1.1.1.1", "").await, ok);
    }
}
