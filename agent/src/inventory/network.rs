//! Network interfaces: names, hardware and protocol addresses, from the kernel's files.
//!
//! The kernel lists IPv4 addresses (`fib_trie`) and interfaces (`route`) apart; an address belongs to
//! the interface whose directly connected network holds it.

use std::{net::Ipv4Addr, net::Ipv6Addr, path::Path};

use ambidex_platform::fs;

use super::Values;

/// Most interfaces that are told; container hosts have hundreds.
const INTERFACES_MAX: usize = 64;
const FILE_BYTES_MAX: u64 = 1024 * 1024;

pub(super) fn collect() -> Values {
    let mut interfaces = hardware(Path::new("/sys/class/net"));
    interfaces.truncate(INTERFACES_MAX);
    let file = |path: &str| {
        fs::read_if_present(Path::new(path), FILE_BYTES_MAX)
            .ok()
            .flatten()
            .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
            .unwrap_or_default()
    };
    let v4 = ipv4(&file("/proc/net/fib_trie"), &file("/proc/net/route"));
    let v6 = ipv6(&file("/proc/net/if_inet6"));
    values(interfaces, v4, v6)
}

fn values(
    interfaces: Vec<(String, String)>,
    v4: Vec<(String, String)>,
    v6: Vec<(String, String)>,
) -> Values {
    let mut values = Values::new();
    for (name, mac) in interfaces {
        let mut put = |kind: &str, found: Vec<String>| {
            if !found.is_empty() {
                values.insert(format!("{kind}_{name}"), found);
            }
        };
        let of = |all: &[(String, String)]| -> Vec<String> {
            all.iter()
                .filter(|(interface, _)| *interface == name)
                .map(|(_, address)| address.clone())
                .collect()
        };
        put("mac", vec![mac]);
        put("ipv4", of(&v4));
        put("ipv6", of(&v6));
        values
            .entry("network_interfaces".to_owned())
            .or_default()
            .push(name);
    }
    values
}

/// Every interface but the loopback with its hardware address, by name.
fn hardware(folder: &Path) -> Vec<(String, String)> {
    let Ok(entries) = std::fs::read_dir(folder) else {
        return Vec::new();
    };
    let mut found: Vec<(String, String)> = entries
        .filter_map(Result::ok)
        .filter_map(|entry| {
            let name = entry.file_name().into_string().ok()?;
            let address = std::fs::read_to_string(entry.path().join("address"))
                .ok()?
                .trim()
                .to_owned();
            let kind = std::fs::read_to_string(entry.path().join("type")).ok()?;
            // 772 is ARPHRD_LOOPBACK
            (kind.trim() != "772" && !address.is_empty()).then_some((name, address))
        })
        .collect();
    found.sort();
    found
}

fn ipv4(trie: &str, routes: &str) -> Vec<(String, String)> {
    let networks = connected(routes);
    let mut addresses: Vec<Ipv4Addr> = Vec::new();
    let mut leaf = None;
    for line in trie.lines().map(str::trim) {
        if let Some(address) = line.strip_prefix("|-- ") {
            leaf = address.parse::<Ipv4Addr>().ok();
        } else if line == "/32 host LOCAL"
            && let Some(address) = leaf
            && !address.is_loopback()
            && !addresses.contains(&address)
        {
            addresses.push(address);
        }
    }
    addresses
        .into_iter()
        .filter_map(|address| {
            let (interface, _, mask) = networks
                .iter()
                .filter(|(_, network, mask)| address.to_bits() & mask == *network)
                .max_by_key(|(_, _, mask)| *mask)?;
            Some((
                interface.clone(),
                format!("{address}/{}", mask.count_ones()),
            ))
        })
        .collect()
}

/// Interface, network and mask of every route without a gateway.
fn connected(routes: &str) -> Vec<(String, u32, u32)> {
    // the kernel prints addresses as the machine stores them
    let address = |text: &str| {
        u32::from_str_radix(text, 16)
            .ok()
            .map(|raw| u32::from_be_bytes(raw.to_ne_bytes()))
    };
    routes
        .lines()
        .skip(1)
        .filter_map(|line| {
            let fields: Vec<&str> = line.split_whitespace().collect();
            let (interface, network, gateway, mask) = (
                fields.first()?,
                address(fields.get(1)?)?,
                address(fields.get(2)?)?,
                address(fields.get(7)?)?,
            );
            (gateway == 0 && mask != 0).then(|| ((*interface).to_owned(), network, mask))
        })
        .collect()
}

fn ipv6(text: &str) -> Vec<(String, String)> {
    text.lines()
        .filter_map(|line| {
            let fields: Vec<&str> = line.split_whitespace().collect();
            let address = Ipv6Addr::from_bits(u128::from_str_radix(fields.first()?, 16).ok()?);
            let bits = u8::from_str_radix(fields.get(2)?, 16).ok()?;
            Some(((*fields.get(5)?).to_owned(), format!("{address}/{bits}")))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ipv4_address_belongs_to_the_interface_whose_network_holds_it() {
        let trie = "Local:\n  +-- 0.0.0.0/0 3 0 5\n     |-- 10.0.2.0\n        /24 link UNICAST\n     |-- 10.0.2.15\n        /32 host LOCAL\n     |-- 127.0.0.1\n        /32 host LOCAL\n     |-- 10.0.2.255\n        /32 link BROADCAST\n     |-- 10.0.2.15\n        /32 host LOCAL\n";
        let hex = |a: [u8; 4]| format!("{:08X}", u32::from_ne_bytes(a));
        let routes = format!(
            "Iface Destination Gateway Flags RefCnt Use Metric Mask MTU\n\
             eth0 {zero} {gateway} 0003 0 0 0 {zero} 0\n\
             eth0 {net} {zero} 0001 0 0 0 {mask} 0\n",
            zero = hex([0; 4]),
            gateway = hex([10, 0, 2, 2]),
            net = hex([10, 0, 2, 0]),
            mask = hex([255, 255, 255, 0]),
        );
        assert_eq!(
            ipv4(trie, &routes),
            [("eth0".to_owned(), "10.0.2.15/24".to_owned())]
        );
    }

    #[test]
    fn ipv6_addresses_are_read_with_their_prefix() {
        let text = "fe800000000000005054000000000001 02 40 20 80     eth0\n";
        assert_eq!(
            ipv6(text),
            [("eth0".to_owned(), "fe80::5054:0:0:1/64".to_owned())]
        );
    }

    #[test]
    fn facts_are_grouped_by_interface() {
        let pair = |a: &str, b: &str| (a.to_owned(), b.to_owned());
        let values = values(
            vec![pair("eth0", "aa"), pair("eth1", "bb")],
            vec![pair("eth1", "10.0.0.1/8"), pair("lo", "127.0.0.1/8")],
            vec![],
        );
        assert_eq!(values["network_interfaces"], ["eth0", "eth1"]);
        assert_eq!(values["mac_eth1"], ["bb"]);
        assert_eq!(values["ipv4_eth1"], ["10.0.0.1/8"]);
        assert_eq!(values.len(), 4);
    }
}
