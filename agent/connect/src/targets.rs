//! Where forwarded connections may lead. Without a list: anywhere, as with the reference.

use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::str::FromStr;

/// All that are allowed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Targets(Option<Vec<Target>>);

/// One of them: `HOST:PORT`. The host is a name, an address, a network (`10.0.0.0/8`), with IPv6 in brackets,
/// or `*`; the port is a number, a range (`8000-8099`) or `*`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    host: Host,
    ports: RangeInclusive<u16>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Host {
    Any,
    /// In small letters. Whatever address it has.
    Name(String),
    /// An address and how many of its first bits count.
    Network(IpAddr, u32),
}

/// Not a [`Target`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "'{0}' is no target; write HOST:PORT, for example \"127.0.0.1:*\" or \"10.0.0.0/8:8000-8099\""
)]
pub struct NoTarget(String);

impl Targets {
    /// These and no others.
    #[must_use]
    pub fn only(targets: Vec<Target>) -> Targets {
        Targets(Some(targets))
    }

    /// Whether a user who asks for `host` may be connected with what has been found for it.
    pub(crate) fn allow(&self, host: &str, found: SocketAddr) -> bool {
        let Some(targets) = &self.0 else {
            return true;
        };
        // an IPv4 address in the clothes of an IPv6 one is still that
        let address = found.ip().to_canonical();
        targets.iter().any(|target| {
            target.ports.contains(&found.port())
                && match &target.host {
                    Host::Any => true,
                    Host::Name(name) => name.eq_ignore_ascii_case(host),
                    Host::Network(network, bits) => in_network(address, *network, *bits),
                }
        })
    }
}

impl FromStr for Target {
    type Err = NoTarget;

    fn from_str(text: &str) -> Result<Target, NoTarget> {
        let read = || {
            let (host, ports) = text.rsplit_once(':')?;
            Some(Target {
                host: read_host(host)?,
                ports: read_ports(ports)?,
            })
        };
        read().ok_or_else(|| NoTarget(text.to_owned()))
    }
}

fn read_ports(text: &str) -> Option<RangeInclusive<u16>> {
    let number = |text: &str| text.parse().ok().filter(|port| *port > 0);
    if text == "*" {
        return Some(1..=u16::MAX);
    }
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let (first, last) = (number(first)?, number(last)?);
    (first <= last).then_some(first..=last)
}

fn read_host(text: &str) -> Option<Host> {
    if text == "*" {
        return Some(Host::Any);
    }
    let brackets = text
        .strip_prefix('[')
        .and_then(|text| text.strip_suffix(']'));
    let inner = brackets.unwrap_or(text);
    let (address, bits) = match inner.split_once('/') {
        Some((address, bits)) => (address, Some(bits.parse().ok()?)),
        None => (inner, None),
    };
    if let Ok(address) = address.parse::<IpAddr>() {
        let most = if address.is_ipv4() { 32 } else { 128 };
        let bits = bits.unwrap_or(most);
        let good = bits <= most && address.is_ipv6() == brackets.is_some();
        return good.then_some(Host::Network(address, bits));
    }
    let is_name = !text.is_empty()
        && text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte));
    is_name.then(|| Host::Name(text.to_owned()))
}

fn in_network(address: IpAddr, network: IpAddr, bits: u32) -> bool {
    match (address, network) {
        (IpAddr::V4(address), IpAddr::V4(network)) => {
            let differ = address.to_bits() ^ network.to_bits();
            differ.leading_zeros() >= bits
        }
        (IpAddr::V6(address), IpAddr::V6(network)) => {
            let differ = address.to_bits() ^ network.to_bits();
            differ.leading_zeros() >= bits
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allows(targets: &[&str], host: &str, found: &str) -> bool {
        let targets = targets.iter().map(|text| text.parse().unwrap()).collect();
        Targets::only(targets).allow(host, found.parse().unwrap())
    }

    #[test]
    fn addresses_are_judged_by_where_they_lead() {
        let local = ["127.0.0.1:*"];
        assert!(allows(&local, "127.0.0.1", "127.0.0.1:80"));
        assert!(allows(&local, "localhost", "127.0.0.1:80"));
        assert!(allows(&local, "::ffff:127.0.0.1", "[::ffff:127.0.0.1]:80"));
        assert!(!allows(&local, "127.0.0.1", "127.0.0.2:80"));
        assert!(!allows(&local, "0.0.0.0", "0.0.0.0:80"));
        assert!(!allows(&local, "localhost", "[::1]:80"));
        assert!(allows(&["[::1]:80"], "localhost", "[::1]:80"));
        let network = ["10.0.0.0/8:8000-8002", "[fd00::/8]:22"];
        for (found, allowed) in [
            ("10.200.1.1:8000", true),
            ("10.200.1.1:8002", true),
            ("10.200.1.1:8003", false),
            ("11.0.0.1:8000", false),
            ("[fd12::1]:22", true),
            ("[fe80::1]:22", false),
        ] {
            assert_eq!(allows(&network, "x", found), allowed, "{found}");
        }
        assert!(allows(&["0.0.0.0/0:*"], "x", "1.2.3.4:5"));
    }

    #[test]
    fn names_are_judged_as_they_are_asked_for() {
        let printer = ["printer.lan:9100"];
        assert!(allows(&printer, "Printer.LAN", "10.0.0.9:9100"));
        assert!(!allows(&printer, "10.0.0.9", "10.0.0.9:9100"));
        assert!(!allows(&printer, "printer.lan", "10.0.0.9:9101"));
        assert!(allows(&["*:22"], "anything", "1.2.3.4:22"));
        assert!(!allows(&["*:22"], "anything", "1.2.3.4:23"));
        assert!(!allows(&[], "127.0.0.1", "127.0.0.1:80"));
        assert!(Targets::default().allow("x", "1.2.3.4:5".parse().unwrap()));
    }

    #[test]
    fn mistakes_are_found() {
        for text in [
            "",
            "host",
            "host:",
            ":80",
            "host:0",
            "host:99999",
            "host:9-8",
            "10.0.0.0/33:1",
            "10.0.0.0/x:1",
            "::1:80",
            "[127.0.0.1]:80",
            "ho st:80",
            "name/8:80",
        ] {
            assert!(text.parse::<Target>().is_err(), "{text}");
        }
    }
}
