//! What `port-forward` is given: `[tcp|udp/]LOCAL[:[HOST:]REMOTE]`.

use std::fmt;

/// Where a forward leads without a host: the device itself.
pub const DEVICE_HOST: &str = "127.0.0.1";

/// How data is carried.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transport {
    Tcp,
    Udp,
}

impl Transport {
    pub fn name(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
        }
    }
}

/// One forward.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Spec {
    pub transport: Transport,
    /// 0 for any that is free.
    pub local: u16,
    /// As the device resolves it.
    pub host: String,
    pub remote: u16,
}

impl fmt::Display for Spec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.remote)
        } else {
            write!(f, "{}:{}", self.host, self.remote)
        }
    }
}

impl Spec {
    pub fn parse(text: &str) -> Result<Self, String> {
        let (transport, rest) = match text.split_once('/') {
            None => (Transport::Tcp, text),
            Some(("tcp", rest)) => (Transport::Tcp, rest),
            Some(("udp", rest)) => (Transport::Udp, rest),
            Some((other, _)) => return Err(format!("{other:?} is neither tcp nor udp")),
        };
        let (local, target) = match rest.split_once(':') {
            None => (rest, None),
            Some((local, target)) => (local, Some(target)),
        };
        let local = port(local)?;
        let (host, remote) = match target {
            None => (DEVICE_HOST, local),
            Some(target) => match target.rsplit_once(':') {
                None => (DEVICE_HOST, port(target)?),
                Some((host, remote)) => (host_name(host)?, port(remote)?),
            },
        };
        if remote == 0 {
            return Err("port 0 is only possible on this side: 0:REMOTE".to_owned());
        }
        Ok(Self {
            transport,
            local,
            host: host.to_owned(),
            remote,
        })
    }
}

fn port(text: &str) -> Result<u16, String> {
    text.parse()
        .ok()
        // A sign would be taken too.
        .filter(|_| text.bytes().all(|byte| byte.is_ascii_digit()))
        .ok_or_else(|| format!("{text:?} is no port; ports go up to 65535"))
}

fn host_name(text: &str) -> Result<&str, String> {
    let inner = match text.strip_prefix('[') {
        Some(rest) => rest
            .strip_suffix(']')
            .ok_or_else(|| format!("{text:?} lacks its closing bracket"))?,
        None if text.contains(':') => {
            return Err(format!("put brackets around the address: [{text}]"));
        }
        None => text,
    };
    if inner.is_empty() || inner.chars().any(|c| c.is_whitespace() || c.is_control()) {
        return Err(format!("{text:?} is no host"));
    }
    Ok(inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forwards() {
        let tcp = Transport::Tcp;
        let udp = Transport::Udp;
        for (text, transport, local, host, remote) in [
            ("8080", tcp, 8080, "127.0.0.1", 8080),
            ("8080:80", tcp, 8080, "127.0.0.1", 80),
            ("tcp/8080:80", tcp, 8080, "127.0.0.1", 80),
            ("udp/53", udp, 53, "127.0.0.1", 53),
            ("udp/5353:192.168.1.1:53", udp, 5353, "192.168.1.1", 53),
            ("0:22", tcp, 0, "127.0.0.1", 22),
            ("8080:camera.local:80", tcp, 8080, "camera.local", 80),
            ("8080:[::1]:80", tcp, 8080, "::1", 80),
        ] {
            let spec = Spec::parse(text);
            let wanted = Spec {
                transport,
                local,
                host: host.to_owned(),
                remote,
            };
            assert_eq!(spec, Ok(wanted), "{text}");
        }
        for text in [
            "",
            "0",
            "x",
            "80:",
            ":80",
            "80:0",
            "65536",
            "-1",
            "+80",
            "icmp/1",
            "8080:::1:80",
            "8080:[::1:80",
            "8080::80",
            "8080:a b:80",
        ] {
            assert!(Spec::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn targets_are_shown_as_they_are_written() {
        for text in ["127.0.0.1:80", "[::1]:80", "camera.local:80"] {
            let shown = Spec::parse(&format!("1:{text}")).map(|spec| spec.to_string());
            assert_eq!(shown.as_deref(), Ok(text));
        }
    }
}
