//! What `cp` is given: paths here and on a device.

use std::path::PathBuf;

/// One end of a copy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// A path on this machine; `-` is standard input or output.
    Here(PathBuf),
    /// An absolute path on a device.
    There { device: String, path: String },
}

/// Which way a file goes.
#[derive(Debug, PartialEq, Eq)]
pub enum Way {
    Up {
        from: PathBuf,
        device: String,
        to: String,
    },
    Down {
        device: String,
        from: String,
        to: PathBuf,
    },
}

impl Place {
    /// `DEVICE:/path` is on a device. The device may contain colons itself, as addresses do. A path that
    /// begins with `/` or `.` is on this machine whatever follows.
    pub fn parse(text: &str) -> Result<Self, String> {
        if text.is_empty() {
            return Err("a path is empty".to_owned());
        }
        if text.starts_with(['/', '.']) {
            return Ok(Self::Here(text.into()));
        }
        match text.split_once(":/") {
            Some(("", _)) => Err(format!("{text:?} names no device before the colon")),
            Some((device, path)) => Ok(Self::There {
                device: device.to_owned(),
                path: format!("/{path}"),
            }),
            None => Ok(Self::Here(text.into())),
        }
    }
}

impl Way {
    pub fn between(from: Place, to: Place) -> Result<Self, String> {
        match (from, to) {
            (Place::Here(from), Place::There { device, path }) => Ok(Self::Up {
                from,
                device,
                to: path,
            }),
            (Place::There { device, path }, Place::Here(to)) => Ok(Self::Down {
                device,
                from: path,
                to,
            }),
            (Place::Here(_), Place::Here(_)) => Err(
                "neither path is on a device; one looks like DEVICE:/path, and is absolute"
                    .to_owned(),
            ),
            (Place::There { .. }, Place::There { .. }) => Err(
                "both paths are on devices; copy to this machine first, then to the other device"
                    .to_owned(),
            ),
        }
    }
}

/// The last part of a path on a device; none for `/` and directories above.
pub fn base_name(path: &str) -> Option<&str> {
    let name = path.trim_end_matches('/').rsplit('/').next()?;
    (!matches!(name, "" | "." | "..")).then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places() {
        let here = |path: &str| Ok(Place::Here(path.into()));
        let there = |device: &str, path: &str| {
            Ok(Place::There {
                device: device.to_owned(),
                path: path.to_owned(),
            })
        };
        for (text, place) in [
            ("file", here("file")),
            ("-", here("-")),
            ("/etc/hosts", here("/etc/hosts")),
            ("./a:/b", here("./a:/b")),
            ("/a:/b", here("/a:/b")),
            ("name:with-colon", here("name:with-colon")),
            ("pump:/etc/hosts", there("pump", "/etc/hosts")),
            ("pump:/", there("pump", "/")),
            ("pump:/a:/b", there("pump", "/a:/b")),
            (
                "02:00:00:00:00:01:/tmp/x",
                there("02:00:00:00:00:01", "/tmp/x"),
            ),
        ] {
            assert_eq!(Place::parse(text), place, "{text}");
        }
        assert!(Place::parse("").is_err());
        assert!(Place::parse(":/x").is_err());
    }

    #[test]
    fn ways() {
        let place = |text: &str| Place::parse(text).unwrap_or(Place::Here("?".into()));
        for (from, to, good) in [
            ("a", "pump:/a", true),
            ("pump:/a", "a", true),
            ("a", "b", false),
            ("pump:/a", "valve:/a", false),
        ] {
            assert_eq!(Way::between(place(from), place(to)).is_ok(), good, "{from}");
        }
    }

    #[test]
    fn base_names() {
        for (path, name) in [
            ("/etc/hosts", Some("hosts")),
            ("/etc/", Some("etc")),
            ("/", None),
            ("/etc/..", None),
        ] {
            assert_eq!(base_name(path), name, "{path}");
        }
    }
}
